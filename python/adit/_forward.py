"""``forward``: a context manager, for ``with`` and ``async with``, that holds one tunnel open."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

from . import _adit
from ._client import Client
from ._default import default_client, release
from ._failure import translated
from ._options import Options, Path, Request, Seconds, Words, to_request
from ._tunnel import Tunnel
from .exception import AuthError, ClosedError, EmbeddedRelayWarning, InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import SupportsIndex

TIMEOUT_S = 10.0
_T = TypeVar("_T")


class _Opening:
    """One time that a tunnel is opened and closed, by whatever threads and signal handlers.

    There is no lock, which a handler, in the same thread, or a forked child could find taken. What only one of them may
    do is decided by one step of the interpreter's own: a setdefault, where the first to say so is right, or the pop of
    a list's only element, by which one takes what is to be done."""

    def __init__(self, openings: dict[str, _Opening]) -> None:
        self.cores: list[tuple[_adit.Tunnel, Client]] = []  # at most one; it may be closed more than once
        self.clients: list[Client] = []  # to be released
        self.drains = [True]  # the first to close it waits for its visitors, and is called back by a second
        self.places = [openings]  # the Forward's, to be left when it is closed
        self._outcome: dict[str, bool] = {}

    def settle(self, opened: bool) -> bool:
        """Says that it has opened, or that it is given up. Returns what was said first."""
        return self._outcome.setdefault("opened", opened)

    @property
    def given_up(self) -> bool:
        return self._outcome.get("opened") is False

    def give_up(self) -> bool:
        """Calls whoever opens it back, who then closes it. False when that is too late: it is open."""
        if self.settle(False):
            return False
        for core, _ in list(self.cores):
            core.stop_waiting()
        return True


class Forward:
    """What :func:`forward` returns. Entering it opens the tunnel; leaving it closes the tunnel. It may be used again
    then."""

    def __init__(self, request: Request, client: Client | None) -> None:
        self._request, self._given = request, client
        self._openings: dict[str, _Opening] = {}  # at most one

    # --- opening and closing, in whatever thread ---

    def _begin(self) -> _Opening:
        opening = _Opening(self._openings)
        if self._openings.setdefault("now", opening) is not opening:
            raise InvalidError(
                f"port {self._request.app}: this tunnel is open already (call forward() again for another)"
            )
        return opening

    def _open(self, opening: _Opening) -> tuple[Tunnel, str | None]:
        """The tunnel, and a warning for whoever opens it. Leaves nothing open when it fails."""
        try:
            client = self._given if self._given is not None else default_client()
            opening.clients.append(client)
            with translated():
                core = client._core.forward(self._request.app, **self._request.options)
            opening.cores.append((core, client))
            client._state.tunnels.add(core)
            if opening.given_up:  # and closed, it may be, just before the line above
                client._state.tunnels.discard(core)
            else:
                with translated(conflict=ClosedError):
                    core.wait_open(self._request.timeout_ms, client._state.was_open)
                    host, port, tcp_host, tcp_port = core.addresses()
                    ca_file = client._core.ca_file()
                client._state.was_open = True
            if not opening.settle(True):
                raise ClosedError(f"port {self._request.app}: closed before it was open")
            if ca_file is None:
                return Tunnel(host, port, tcp_host or "", tcp_port), None
            # The embedded relay listens on loopback; its name means nothing to programs that do not know .localhost.
            tunnel = Tunnel(host, port, "127.0.0.1" if tcp_host else "", tcp_port)
            return tunnel, self._warning(client, ca_file, tunnel.url)
        except BaseException as error:
            self._close(opening, 0, refused=isinstance(error, AuthError))
            raise

    @staticmethod
    def _warning(client: Client, ca_file: str, url: str) -> str | None:
        if not client._state.take_warning():
            return None
        return (
            "no token is configured, so this URL works on this machine only, through a relay that this program has "
            f"started (set ADIT_TOKEN for public addresses; to visit: curl --cacert {ca_file} {url})"
        )

    def _close(self, opening: _Opening, drain_ms: int, refused: bool = False) -> None:
        opened = opening.settle(False)
        try:
            for core, client in list(opening.cores):
                _end(core, client, drain_ms if _take(opening.drains) else 0)
        finally:
            if (openings := _take(opening.places)) is not None:
                openings.clear()
            if (used := _take(opening.clients)) is not None and self._given is None:
                release(used, failed=refused or not (opened or used._state.was_open))

    # --- with ---

    def __enter__(self) -> Tunnel:
        opening = self._begin()
        tunnel, warning = self._open(opening)
        try:
            if warning is not None:
                warnings.warn(warning, EmbeddedRelayWarning, stacklevel=2)
        except BaseException:  # warnings may be errors
            self._close(opening, 0)
            raise
        return tunnel

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opening = self._openings.get("now")
        if opening is not None:
            self._close(opening, self._request.drain_ms)

    # --- async with: what waits does so in a thread of its own, since the event loop's may all be busy with what uses
    # the tunnel ---

    async def __aenter__(self) -> Tunnel:
        opening = self._begin()
        try:
            opened = _in_thread(self._open, opening)
        except BaseException:  # no event loop, or no thread
            self._close(opening, 0)
            raise
        try:
            tunnel, warning = await _shielded(opened)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                closing: asyncio.Future[Any] = opened if opening.give_up() else self._closing(opening, 0)
                await _shielded(closing)  # cancelled again, it closes without being waited for
            raise
        except BaseException:  # it has failed; or the coroutine is dropped, perhaps with its event loop
            if not opening.give_up():
                self._close(opening, 0)
            raise
        try:
            if warning is not None:
                warnings.warn(warning, EmbeddedRelayWarning, stacklevel=2)
        except BaseException:
            await self._closing(opening, 0)
            raise
        return tunnel

    def _closing(self, opening: _Opening, drain_ms: int) -> asyncio.Future[None]:
        try:
            return _in_thread(self._close, opening, drain_ms)
        except BaseException:  # without a thread it cannot wait for a drain
            self._close(opening, 0)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opening = self._openings.get("now")
        if opening is None:
            return
        closing = self._closing(opening, self._request.drain_ms)
        try:
            await _shielded(closing)
        except BaseException as left:
            for core, _ in list(opening.cores):
                core.stop_waiting()
            if isinstance(left, asyncio.CancelledError):
                await _shielded(closing)
            raise


def _take(some: list[_T]) -> _T | None:
    """What is in the list, for one caller alone."""
    try:
        return some.pop()
    except IndexError:
        return None


def _end(core: _adit.Tunnel, client: Client, drain_ms: int) -> None:
    try:
        if drain_ms:
            with contextlib.suppress(_adit.Failure):
                core.finish(drain_ms)
    finally:
        client._state.tunnels.discard(core)  # first, as an interrupt may end what follows
        core.close()


def _ask_for_exception(future: asyncio.Future[_T]) -> None:
    """Nobody else may be left to do so, of which asyncio would complain."""
    _ = future.cancelled() or future.exception()


def _shielded(future: asyncio.Future[_T]) -> asyncio.Future[_T]:
    """One with the same outcome, which may be cancelled while that goes on. (Since Python 3.14, asyncio.shield logs an
    exception that comes after that, whether or not somebody asks for it.)"""
    outer: asyncio.Future[_T] = future.get_loop().create_future()

    def follow(inner: asyncio.Future[_T]) -> None:
        if outer.done():
            return
        if inner.cancelled():
            outer.cancel()
        elif (error := inner.exception()) is not None:
            outer.set_exception(error)
        else:
            outer.set_result(inner.result())

    future.add_done_callback(follow)
    outer.add_done_callback(_ask_for_exception)
    return outer


def _in_thread(call: Callable[..., _T], *args: object) -> asyncio.Future[_T]:
    """What the call returns or raises, once it has. The interpreter does not wait for it at exit: the client closes."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()
    done.add_done_callback(_ask_for_exception)

    def settle(result: _T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: _T | None = None
        error: BaseException | None = None
        try:
            result = call(*args)
        except BaseException as e:
            error = e
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="adit-waits", daemon=True).start()
    return done


def forward(
    port: SupportsIndex,
    *,
    unencrypted: bool = False,
    h2_enabled: bool = False,
    client: Client | None = None,
    allow: Words = (),
    proxy_protocol: bool = False,
    keep: Path = None,
    alpn: Words = (),
    drain: Seconds = 0.0,
    timeout: Seconds = TIMEOUT_S,
) -> Forward:
    """Gives ``port`` of this machine a public address for as long as the ``with`` block lasts::

        with forward(8000) as tunnel:
            print(tunnel.url)

    ``unencrypted=True`` adds a raw TCP port at the relay, without TLS (``tunnel.tcp_socket``). ``h2_enabled=True``
    offers HTTP/2 to visitors; the program at ``port`` then gets it in clear (h2c), as gRPC servers expect. ``client``
    is the link to use instead of the process's own. ``allow`` lets in only visitors from these address blocks
    (``"192.0.2.0/24"``). ``proxy_protocol=True`` gives the program a PROXY v2 header with each visitor's address.
    ``keep`` is a file in which the address is kept, so that the program gets it again when it is restarted. ``alpn``
    are the protocols offered to visitors, instead of ``http/1.1``.

    Leaving the block lets no new visitor in and closes the streams of those who are there, after what they and the
    program have sent was delivered; with ``drain=seconds`` they may finish first, for at most so long. ``timeout`` is
    how many seconds opening may take.

    Works with ``async with``, too. Raises :class:`~adit.exception.InvalidError` for wrong arguments and
    :class:`~adit.exception.RemoteError` when no relay can be reached; see :mod:`adit.exception` for the rest.
    """
    if client is not None and not isinstance(client, Client):
        raise InvalidError(f"client: {client!r} is no adit.Client")
    options = Options(
        unencrypted=unencrypted,
        h2_enabled=h2_enabled,
        allow=allow,
        proxy_protocol=proxy_protocol,
        keep=keep,
        alpn=alpn,
        drain=drain,
        timeout=timeout,
    )
    return Forward(to_request(port, options), client)
