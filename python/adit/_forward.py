"""``forward``, and what it returns: something that opens a tunnel, by ``with``, ``async with``, or calls."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, SupportsIndex

from ._client import Client
from ._events import Event
from ._opening import Opening
from ._options import Options, Request, to_ms, to_request
from ._tunnel import Stats, Tunnel
from .exception import ClosedError, EmbeddedRelayWarning, InvalidError

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

TIMEOUT_S = 10.0


def forward(
    port: SupportsIndex | str,
    *,
    host: str | None = None,
    unencrypted: bool = False,
    h2_enabled: bool = False,
    client: Client | None = None,
    allow: str | Iterable[str] = (),
    deny: str | Iterable[str] = (),
    proxy_protocol: bool = False,
    keep: str | os.PathLike[str] | None = None,
    alpn: str | Iterable[str] = (),
    name: str | None = None,
    app_wait: float | None = None,
    drain: float = 0.0,
    timeout: float = TIMEOUT_S,
    retry: float | bool | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> Forward:
    """Gives ``port`` of this machine a public address for as long as the ``with`` block lasts::

        with forward(8000) as tunnel:
            print(tunnel.url)

    or from ``tunnel = forward(8000).start()`` until ``tunnel.close()``; in an event loop ``async with``, or ``await``
    and ``aclose()``.

    A port is one of this machine, on ``127.0.0.1`` or ``::1``. With ``host``, or written as ``"db:8000"``, it is one
    of another machine or container; and ``"unix:/run/app.sock"`` is a Unix socket. ``app_wait`` is how many seconds a
    visitor waits for a program that has not been there yet: 10 if not said otherwise, and at most 600.

    ``unencrypted=True`` adds a raw TCP port at the relay, without TLS (``tunnel.tcp_socket``). ``h2_enabled=True``
    offers HTTP/2 to visitors; the program at ``port`` then gets it in clear (h2c), as gRPC servers expect. ``client``
    is the link to use instead of the process's own. ``allow`` lets in only visitors from these address blocks
    (``"192.0.2.0/24"``), and ``deny`` none from these. ``proxy_protocol=True`` gives the program a PROXY v2 header with
    each visitor's address. ``keep`` is a file in which the address is kept, so that the program gets it again when it
    is restarted. ``alpn`` are the protocols offered to visitors, instead of ``http/1.1``. ``name`` is what the log
    calls the tunnel, and what :func:`adit.tunnels` finds it by.

    Leaving the block lets no new visitor in and closes the streams of those who are there, after what they and the
    program have sent was delivered; with ``drain=seconds`` they may finish first, for at most so long. ``timeout``
    is how many seconds opening may take; with ``retry=seconds``, or ``retry=True`` for as long as it takes, it goes
    on trying instead while no relay can be reached, as at boot. ``on_event`` is called with each :class:`Event` of
    this tunnel and its link, in a thread of its own.

    Raises :class:`~adit.exception.InvalidError` for wrong arguments and
    :class:`~adit.exception.RemoteError` when no relay can be reached; see :mod:`adit.exception` for the rest.
    """
    if client is not None and not isinstance(client, Client):
        raise InvalidError(f"client: {client!r} is no adit.Client")
    options = Options(
        host=host,
        unencrypted=unencrypted,
        h2_enabled=h2_enabled,
        allow=allow,
        deny=deny,
        proxy_protocol=proxy_protocol,
        keep=keep,
        alpn=alpn,
        name=name,
        app_wait=app_wait,
        drain=drain,
        timeout=timeout,
        retry=retry,
        on_event=on_event,
    )
    return Forward()._of(to_request(port, options), client)


class Forward:
    """What :func:`forward` returns: a tunnel that can be opened and closed, and opened again then. All of these open it
    and give the :class:`Tunnel`; and close it again::

        with forward(8000) as tunnel:               async with forward(8000) as tunnel:
            ...                                         ...

        tunnel = forward(8000).start()              tunnel = await forward(8000)
        ...                                         ...
        tunnel.close()                              await tunnel.aclose()

    What nobody closes stays open until the process ends, whether or not anybody still holds it: :func:`adit.tunnels`
    finds it.
    """

    def start(self) -> Tunnel:
        """Opens the tunnel, and waits until visitors can reach it."""
        return self._start(3)

    def close(self, drain: float | None = None) -> None:
        """Closes the tunnel, as leaving the block does: ``drain`` is how many seconds its visitors have to finish, when
        not as many as :func:`forward` was told. Nothing happens if it is closed already."""
        drain_ms = self._drain_ms(drain)
        opening = self._openings.get("now")
        if opening is not None:
            opening.close(drain_ms)

    async def aclose(self, drain: float | None = None) -> None:
        """:meth:`close` for use in an event loop, which goes on meanwhile."""
        drain_ms = self._drain_ms(drain)
        opening = self._openings.get("now")
        if opening is not None:
            await opening.close_async(drain_ms)

    def wait(self, timeout: float | None = None) -> str | None:
        """Waits until the tunnel is over, and returns the reason (:attr:`Tunnel.reason`); None if it is still open
        after ``timeout`` seconds."""
        return self._opened("wait").wait(timeout)

    @property
    def closed(self) -> bool:
        """Whether it is not open: not yet, not any more, or because the tunnel has ended for good."""
        opening = self._last
        return opening is None or opening.tunnel is None or opening.end() is not None

    @property
    def tunnel(self) -> Tunnel:
        """The open tunnel."""
        return self._open_one("tunnel")

    @property
    def url(self) -> str:
        """Of the open tunnel."""
        return self._open_one("url").url

    @property
    def reason(self) -> str | None:
        """Why the tunnel is over (:attr:`Tunnel.reason`); None while it is open."""
        return self._opened("reason").reason

    @property
    def stats(self) -> Stats:
        """Visitors and bytes of the tunnel until now, or until it was closed."""
        return self._opened("stats").stats

    def __enter__(self) -> Tunnel:
        return self._start(3)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Tunnel:
        opening = self._begin()
        warning = await opening.open_async(self._given)
        try:
            return self._warn(opening, warning, 2)
        except BaseException:  # warnings may be errors
            await opening.close_async(0)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __await__(self) -> Generator[object, None, Tunnel]:
        return self.__aenter__().__await__()

    def __repr__(self) -> str:
        opening = self._last
        if opening is None or opening.tunnel is None:
            return f"<adit.Forward of {self._request.label}, not open>"
        return f"<adit.Forward of {self._request.label}, {opening.tunnel.reason or 'open at ' + opening.tunnel.url}>"

    def _of(self, request: Request, given: Client | None) -> Forward:
        self._request, self._given = request, given
        self._openings: dict[str, Opening] = {}  # at most one, "now"
        self._last: Opening | None = None
        return self

    def _begin(self) -> Opening:
        before = self._openings.get("now")
        if before is not None and before.end() is not None:
            before.close(0)
        opening = Opening(self._request, self._openings)
        now = self._openings.setdefault("now", opening)
        if now is not opening:
            where = "" if now.tunnel is None else f", at {now.tunnel.url}"
            raise InvalidError(f"{self._request.label}: it is open already{where} (close() it first)")
        self._last = opening
        return opening

    def _start(self, depth: int) -> Tunnel:
        opening = self._begin()
        warning = opening.open(self._given)
        try:
            return self._warn(opening, warning, depth)
        except BaseException:  # warnings may be errors
            opening.close(0)
            raise

    def _warn(self, opening: Opening, warning: str | None, depth: int) -> Tunnel:
        if warning is not None:
            warnings.warn(warning, EmbeddedRelayWarning, stacklevel=depth + 1)
        assert opening.tunnel is not None
        return opening.tunnel

    def _drain_ms(self, drain: float | None) -> int:
        return self._request.drain_ms if drain is None else to_ms("drain", drain)

    def _opened(self, asked: str) -> Tunnel:
        """That which is open, or was last."""
        if self._last is None or self._last.tunnel is None:
            raise InvalidError(f"{asked}: this tunnel is not open yet (enter it by with, or start() it)")
        return self._last.tunnel

    def _open_one(self, asked: str) -> Tunnel:
        tunnel = self._opened(asked)
        if (end := tunnel._life.end()) is not None:
            again = "" if end.text.endswith(")") else " (start() opens it again)"
            raise ClosedError(f"{asked}: this tunnel is over: {end.text}{again}")
        return tunnel


def _same_signature(shown: Callable[..., object], of: Callable[..., object], first: str, without: str) -> None:
    """For help(): the options by their names."""
    parameters = [p for p in inspect.signature(of).parameters.values() if p.name != without]
    own = inspect.Parameter(first, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    shown.__signature__ = inspect.signature(of).replace(parameters=[own, *parameters])  # type: ignore[attr-defined]


_same_signature(Client.forward, forward, first="self", without="client")
