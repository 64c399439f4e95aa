"""``https``: an ASGI or WSGI application that knows that its visitors come by https."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Literal, Union

from . import _visitors
from ._options import PORT_MAX, to_words
from .exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    Scope = MutableMapping[str, Any]

Interface = Literal["asgi", "wsgi"]
Port = Union[int, str]

HTTPS_PORT = 443
ASGI_ARGUMENTS, WSGI_ARGUMENTS = 3, 2
_SCHEMES = {"http": "https", "websocket": "wss"}
_UNKNOWN = ("0.0.0.0", 0)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]{1,5}))?")

# Behind a tunnel no proxy adds a header: these are a visitor's own words, which servers and frameworks might believe.
_FORGED_BEGIN = "x-forwarded-"
_FORGED = {
    "forwarded",
    "front-end-https",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-real-ip",
    "x-scheme",
    "x-url-scheme",
}


def https(
    app: Callable[..., Any],
    *,
    interface: Interface | None = None,
    proxy_protocol: Port | None = None,
    agents: str | Iterable[str] = (),
) -> Any:
    """``app``, an ASGI or WSGI application, told that it is reached by https, which it cannot see behind a tunnel::

        app = adit.https(FastAPI())                  # uvicorn main:app; also app.add_middleware(adit.https)
        app.wsgi_app = adit.https(app.wsgi_app)      # Flask
        application = adit.https(get_wsgi_application())  # Django

    So the URLs and redirects that it makes begin with ``https://``, its cookies may be secure, and its checks of
    origins agree. Scheme, host and port are right; headers like ``X-Forwarded-For``, which only a proxy should send
    and here only a visitor can have sent, are taken away. Use it for applications that are reached through a tunnel
    alone: bound to 127.0.0.1, for instance. ``interface`` is "asgi" or "wsgi", for those of which it cannot be seen.

    With ``proxy_protocol`` the application is told each visitor's address, too: it is the port on which the server
    listens, as in ``forward(8000, proxy_protocol=True)`` and ``https(app, proxy_protocol=8000)``, or "unix:/PATH".
    Behind that port every connection must then begin with the tunnel's PROXY header, and come from this machine or
    one of ``agents``, address blocks such as "10.0.0.0/8"; all others are closed. The servers of this process that
    begin to listen afterwards are made to read it: those on asyncio and uvloop, as uvicorn and hypercorn are, and
    those that accept by Python's sockets, as gunicorn, waitress, wsgiref and the development servers of Flask and
    Django do.

    Raises :class:`~adit.exception.InvalidError` for an application that is neither, and for wrong arguments.
    """
    wrapper = _wrapper(app, interface)
    if proxy_protocol is None:
        if to_words("agents", agents):
            raise InvalidError("agents: they tell addresses in PROXY headers only (give proxy_protocol=PORT, too)")
    else:
        _visitors.expect(proxy_protocol, to_words("agents", agents))
    return wrapper(app)


class _Wrapped:
    """Passes for the application that is in it, of which ``app.get``, ``app.state`` and the like are asked."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_app":
            raise AttributeError(name)
        return getattr(self._app, name)

    def __repr__(self) -> str:
        return f"adit.https({self._app!r})"


class _Asgi(_Wrapped):
    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        await self._app(_secure_scope(scope) if scope["type"] in _SCHEMES else scope, receive, send)


class _Wsgi(_Wrapped):
    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        _secure_environ(environ)
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


def _is_forged(name: str) -> bool:
    name = name.lower().replace("_", "-")
    return name.startswith(_FORGED_BEGIN) or name in _FORGED


def _secure_scope(scope: Scope) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if not _is_forged(name.decode("latin-1"))]
    forged = [value for name, value in scope["headers"] if _is_forged(name.decode("latin-1"))]
    host, port = _public(next((value.decode("latin-1") for name, value in headers if name.lower() == b"host"), ""))
    visitor, client = _visitors.current(), scope.get("client")
    if visitor is None and client and client[0] and any(client[0].encode() in value for value in forged):
        client = _UNKNOWN  # the server has believed it
    return {
        **scope,
        "scheme": _SCHEMES[scope["type"]],
        "headers": headers,
        "server": (host or (scope.get("server") or ("localhost",))[0], port),
        "client": visitor or client,
    }


def _secure_environ(environ: dict[str, Any]) -> None:
    for name in [name for name in environ if name.startswith("HTTP_") and _is_forged(name[len("HTTP_") :])]:
        del environ[name]
    host, port = _public(environ.get("HTTP_HOST", ""))
    if host:
        environ["SERVER_NAME"] = host
    environ.update({"wsgi.url_scheme": "https", "HTTPS": "on", "SERVER_PORT": str(port)})
    if (visitor := _visitors.current()) is not None:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = visitor[0], str(visitor[1])


def _public(field: str) -> tuple[str, int]:
    """Host and port by the visitor's Host header; no host when it has none that could be one."""
    match = _HOST.fullmatch(field.strip())
    port = int(match[2] or HTTPS_PORT) if match else HTTPS_PORT
    return (match[1], port) if match and port <= PORT_MAX else ("", HTTPS_PORT)


def _wrapper(app: Any, interface: object) -> type[_Asgi | _Wsgi]:
    if interface not in (None, "asgi", "wsgi"):
        raise InvalidError(f'interface: {interface!r} is neither "asgi" nor "wsgi"')
    if not callable(app):
        raise InvalidError(f"app: {app!r} cannot be called (give the ASGI or WSGI application itself)")
    found = interface or _interface_of(app)
    if found is None:
        raise InvalidError(f'app: {app!r} does not show what it is (say it: interface="asgi" or interface="wsgi")')
    return _Asgi if found == "asgi" else _Wsgi


def _interface_of(app: Any) -> str | None:
    """ASGI is a coroutine function of scope, receive and send; WSGI a function of environ and start_response."""
    call = app if inspect.isclass(app) else type(app).__call__
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call):
        return "asgi"
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    takes = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in takes)
    counts = {"asgi": ASGI_ARGUMENTS, "wsgi": WSGI_ARGUMENTS}
    fits = [name for name, count in counts.items() if required <= count <= len(takes)]
    return fits[0] if len(fits) == 1 else None
