"""Functions that are reached from the web: a decorator below ``@app.function()`` says how."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from ..exception import InvalidError
from .function import Function, is_generator
from .known import NoSuchNameError, by_name
from .spec import WebSpec

P = ParamSpec("P")
R = TypeVar("R")
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")


class WebFunction(Generic[P, R]):
    """A function with its web side; ``@app.function()``, or ``@app.cls()`` of its class, makes the rest of it."""

    if TYPE_CHECKING:
        web_url: str | None

    def __init__(self, raw: Callable[P, R], web: WebSpec) -> None:
        self.raw, self.web = raw, web
        self.__name__, self.__doc__ = raw.__name__, raw.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.raw(*args, **kwargs)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(Function, name) and not name.startswith("_"):
                raise NoSuchNameError(f"{self.__name__}.{name}: it is of no app yet (put @app.function() above it)")
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    @overload
    def __get__(self, obj: None, owner: type) -> WebFunction[P, R]: ...
    @overload
    def __get__(self, obj: object, owner: type) -> Callable[..., R]: ...
    def __get__(self, obj: object, owner: type) -> Any:
        return self if obj is None else types.MethodType(self.raw, obj)


def check_answers(
    name: str, function: WebFunction[..., Any], generator: bool | None = None, *, is_method: bool = False
) -> None:
    """That it returns an answer, and is no ``generator``, which whoever made it may have said."""
    generator = is_generator(function.raw) if generator is None else generator
    if function.web.kind == "endpoint":
        if generator:
            raise InvalidError(f"{name}: a web endpoint cannot be a generator (return a StreamingResponse)")
        return
    gives = {"server": "starts a server, and returns"}.get(function.web.kind, "returns an application")
    if generator:
        raise InvalidError(f"{name}: it cannot be a generator: it {gives}")
    try:
        inspect.signature(function.raw).bind(*([None] if is_method else []))
    except TypeError as error:
        raise InvalidError(f"{name}: it gets no arguments: {error} (it {gives})") from None


def _check_label(what: str, given: Any) -> str | None:
    if given is not None and (not isinstance(given, str) or not given):
        raise InvalidError(f"{what}: label: {given!r} is no name (such as label='shop')")
    return given


def _decorator(what: str, web: WebSpec) -> Callable[[Callable[P, R]], WebFunction[P, R]]:
    def decorate(raw: Callable[P, R]) -> WebFunction[P, R]:
        if isinstance(raw, (Function, WebFunction)) or not callable(raw):
            raise InvalidError(
                f"{what}: it stands below @app.function(), directly above the function, or above one of a class:\n"
                f"    @app.function()\n    @{what}()\n    def f(): ..."
            )
        return WebFunction(raw, web)

    return decorate


def _check_called(what: str, given: object) -> None:
    if callable(given):
        raise InvalidError(f"{what}: it needs parentheses (@{what}())")
    if given is not None:
        raise InvalidError(f"{what}: its options are given by name (such as @{what}(method='POST'))")


@by_name
def web_endpoint(
    _: object = None,
    /,
    *,
    method: str = "GET",
    label: str | None = None,
    docs: bool = False,
    cors: bool = False,
    wait_for_response: bool = True,
) -> Callable[[Callable[P, R]], WebFunction[P, R]]:
    """A handler of FastAPI at ``/``. ``docs=True`` adds FastAPI's pages, ``cors=True`` lets pages of other sites read
    the answers (without credentials). ``label`` names the ticket that keeps the URL."""
    _check_called("web_endpoint", _)
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise InvalidError(f"web_endpoint: method: {method!r} is none of {', '.join(METHODS)}")
    for name, flag in (("docs", docs), ("cors", cors)):
        if not isinstance(flag, bool):
            raise InvalidError(f"web_endpoint: {name}: {flag!r} is neither True nor False")
    if not wait_for_response:
        raise InvalidError("wait_for_response=False: adit does not have it (spawn another function, and answer)")
    return _decorator(
        "web_endpoint", WebSpec("endpoint", method.upper(), _check_label("web_endpoint", label), docs, cors)
    )


@by_name
def asgi_app(_: object = None, /, *, label: str | None = None) -> Callable[[Callable[P, R]], WebFunction[P, R]]:
    """The function returns an ASGI application (FastAPI, Starlette), which is served."""
    _check_called("asgi_app", _)
    return _decorator("asgi_app", WebSpec("asgi", label=_check_label("asgi_app", label)))


@by_name
def wsgi_app(_: object = None, /, *, label: str | None = None) -> Callable[[Callable[P, R]], WebFunction[P, R]]:
    """The function returns a WSGI application (Flask, Django), which is served."""
    _check_called("wsgi_app", _)
    return _decorator("wsgi_app", WebSpec("wsgi", label=_check_label("wsgi_app", label)))


@by_name
def web_server(
    port: int, *, startup_timeout: float = 5.0, label: str | None = None
) -> Callable[[Callable[P, R]], WebFunction[P, R]]:
    """The function starts a server that listens on ``port``, and returns; within ``startup_timeout`` seconds it
    answers."""
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:  # noqa: PLR2004
        raise InvalidError(f"web_server: {port!r} is no port (such as @web_server(8000))")
    is_number = isinstance(startup_timeout, (int, float)) and math.isfinite(startup_timeout)
    if isinstance(startup_timeout, bool) or not is_number or startup_timeout <= 0:
        raise InvalidError(f"web_server: startup_timeout: {startup_timeout!r} is no number of seconds above 0")
    label = _check_label("web_server", label)
    return _decorator("web_server", WebSpec("server", label=label, port=port, startup_timeout=startup_timeout))


fastapi_endpoint = web_endpoint
__all__ = ["asgi_app", "fastapi_endpoint", "web_endpoint", "web_server", "wsgi_app"]
