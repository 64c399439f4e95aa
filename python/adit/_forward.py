"""``forward``: a context manager, for ``with`` and ``async with``, that holds one tunnel open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import warnings
from typing import TYPE_CHECKING, Union

from . import _adit
from ._client import Client, Path, to_ms
from ._default import default_client, release
from ._failure import translated
from ._tunnel import Tunnel
from .exception import ClosedError, EmbeddedRelayWarning, InvalidError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    Words = Union[str, Sequence[str]]

PORT_MAX = 65535
TIMEOUT_S = 10.0


def _check_port(port: object) -> int:
    if not isinstance(port, int) or isinstance(port, bool):
        raise InvalidError(f"port: {port!r} is a {type(port).__name__}, not an int (such as forward(8000))")
    if not 1 <= port <= PORT_MAX:
        raise InvalidError(f"port: {port} is not within 1..{PORT_MAX} (give the port that your program listens on)")
    return port


def _words(name: str, given: Words) -> list[str]:
    words = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(word, str) for word in words):
        raise InvalidError(f"{name}: {given!r} is neither a string nor a list of strings")
    return words


class Forward:
    """What :func:`forward` returns. Entering it opens the tunnel; leaving it closes the tunnel. It may be used again then."""

    def __init__(
        self,
        port: int,
        *,
        unencrypted: bool = False,
        h2_enabled: bool = False,
        client: Client | None = None,
        allow: Words = (),
        proxy_protocol: bool = False,
        keep: Path = None,
        alpn: Words = (),
        drain: float = 0.0,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self._port = _check_port(port)
        if h2_enabled and unencrypted:
            raise InvalidError(
                "h2_enabled: it goes with TLS only, and unencrypted=True asks for a raw port, too (leave out one of the two)"
            )
        if client is not None and not isinstance(client, Client):
            raise InvalidError(f"client: {client!r} is no adit.Client")
        self._unencrypted, self._h2, self._proxy_protocol = bool(unencrypted), bool(h2_enabled), bool(proxy_protocol)
        self._allow, self._alpn, self._keep = _words("allow", allow), ",".join(_words("alpn", alpn)) or None, keep
        self._drain_ms, self._timeout_ms = to_ms("drain", drain), to_ms("timeout", timeout)
        self._given = client
        self._lock = threading.Lock()
        self._core: _adit.Tunnel | None = None
        self._client: Client | None = None
        self._entered = self._cancelled = False

    # --- opening and closing, in whatever thread ---

    def _begin(self) -> None:
        with self._lock:
            if self._entered:
                raise InvalidError(f"port {self._port}: this tunnel is open already (call forward() again for another)")
            self._entered, self._cancelled = True, False

    def _open(self) -> Tunnel:
        """Between _begin() and _close()."""
        client = self._given if self._given is not None else default_client()
        self._client = client
        opened = False
        try:
            with translated():
                core = client._core.forward(
                    str(self._port),
                    self._unencrypted,
                    self._h2,
                    self._proxy_protocol,
                    self._alpn,
                    self._allow,
                    self._keep,
                )
            self._core = core
            if self._cancelled:
                raise ClosedError(f"port {self._port}: closed before it was open")
            with translated(conflict=ClosedError):
                core.wait_open(self._timeout_ms, client._was_open)
                host, port, tcp_host, tcp_port = core.addresses()
            client._was_open = opened = True
            ca_file = client.ca_file
        finally:
            if not opened:
                self._close(0)
        if ca_file is None:
            return Tunnel(host, port, tcp_host or "", tcp_port)
        self._warn_of_embedded(client, ca_file)
        return Tunnel(host, port, "127.0.0.1" if tcp_host else "", tcp_port)

    @staticmethod
    def _warn_of_embedded(client: Client, ca_file: str) -> None:
        if client._warned:
            return
        client._warned = True
        warnings.warn(
            "no token is configured, so this tunnel's addresses work on this machine only, through a relay that is part of this "
            f"process (set ADIT_TOKEN for public addresses; to trust the relay: curl --cacert {ca_file})",
            EmbeddedRelayWarning,
            stacklevel=4,
        )

    def _close(self, drain_ms: int) -> None:
        core, client = self._core, self._client
        self._core = self._client = None
        try:
            if core is not None:
                core.close(drain_ms)
        finally:
            self._entered = False
            if client is not None and self._given is None:
                release(client, failed=not client._was_open)

    # --- with ---

    def __enter__(self) -> Tunnel:
        self._begin()
        try:
            return self._open()
        except BaseException:
            self._entered = False
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(self._drain_ms)

    # --- async with: what waits does so in a thread of the event loop's executor ---

    async def __aenter__(self) -> Tunnel:
        opening = asyncio.get_running_loop().run_in_executor(None, self.__enter__)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._cancelled = True
            if (core := self._core) is not None:
                core.stop_waiting()
            with contextlib.suppress(Exception):
                await opening
                await self.__aexit__(None, None, None)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._close, self._drain_ms)


def forward(
    port: int,
    *,
    unencrypted: bool = False,
    h2_enabled: bool = False,
    client: Client | None = None,
    allow: Words = (),
    proxy_protocol: bool = False,
    keep: str | os.PathLike[str] | None = None,
    alpn: Words = (),
    drain: float = 0.0,
    timeout: float = TIMEOUT_S,
) -> Forward:
    """Gives ``port`` of this machine a public address for as long as the ``with`` block lasts::

        with forward(8000) as tunnel:
            print(tunnel.url)

    ``unencrypted=True`` adds a raw TCP port at the relay, without TLS (``tunnel.tcp_socket``). ``h2_enabled=True`` offers HTTP/2 to
    visitors; the program at ``port`` then gets it in clear (h2c), as gRPC servers expect. ``client`` is the link to use instead of
    the process's own. ``allow`` lets in only visitors from these address blocks (``"192.0.2.0/24"``). ``proxy_protocol=True`` gives the
    program a PROXY v2 header with each visitor's address. ``keep`` is a file in which the address is kept, so that the program gets it
    again when it is restarted. ``alpn`` are the protocols offered to visitors, instead of ``http/1.1``.

    Leaving the block lets no new visitor in and closes the streams of those who are there, after what they and the program have
    sent was delivered; with ``drain=seconds`` they may finish first, for at most so long. ``timeout`` is how many seconds opening may take.

    Works with ``async with``, too. Raises :class:`~adit.exception.InvalidError` for wrong arguments and
    :class:`~adit.exception.RemoteError` when no relay can be reached; see :mod:`adit.exception` for the rest.
    """
    return Forward(
        port,
        unencrypted=unencrypted,
        h2_enabled=h2_enabled,
        client=client,
        allow=allow,
        proxy_protocol=proxy_protocol,
        keep=keep,
        alpn=alpn,
        drain=drain,
        timeout=timeout,
    )
