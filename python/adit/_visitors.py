"""Visitors' addresses, by the PROXY v2 header (haproxy's proxy-protocol.txt, 2.2) that a tunnel sends first.

The hard thing is to read it: hardly a server of Python's does so by itself, and an application sees nothing that comes
before HTTP. So whatever hands out connections in this process is wrapped, once, when an application first asks for it:
asyncio's and uvloop's servers, which make a protocol for each, and ``socket.accept``, for those who call that
themselves. Only connections to the ports that were asked for are touched. There the header is required: to guess would
be to believe visitors."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import functools
import ipaddress
import logging
import operator
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, SupportsIndex, Union

from ._options import PORT_MAX
from .exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable

    Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

Address = tuple[str, int]

log = logging.getLogger("adit")

DEADLINE_S = 3.0  # the agent sends the header as soon as it is connected
WARNING_EVERY_S = 60.0
HEADER_MAX_BYTES = 536  # more than any that the agent writes
FIXED_BYTES = 16
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
FAMILIES = {0x11: (socket.AF_INET, "!4s4sHH"), 0x21: (socket.AF_INET6, "!16s16sHH")}

_visitor: contextvars.ContextVar[Address | None] = contextvars.ContextVar("adit_visitor", default=None)


def current() -> Address | None:
    """Who sent the request that is being answered; None where no header told, or the server itself knows."""
    return _visitor.get()


# --- the header ---


class Malformed(Exception):
    """Not the header that a tunnel sends."""


def header_bytes(data: bytes) -> int:
    """How many bytes it has, as far as can be told from its beginning. Never more than there are, and never many."""
    if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
        raise Malformed("no PROXY v2 header")
    if len(data) < FIXED_BYTES:
        return FIXED_BYTES
    kind, family, length = struct.unpack_from("!BBH", data, len(SIGNATURE))
    if kind not in (LOCAL, PROXY) or FIXED_BYTES + length > HEADER_MAX_BYTES:
        raise Malformed("a PROXY header that no tunnel sends")
    if kind == PROXY and (family not in FAMILIES or length < struct.calcsize(FAMILIES[family][1])):
        raise Malformed("a PROXY header without an address")
    return FIXED_BYTES + int(length)


def header_source(data: bytes) -> Address | None:
    """The visitor, of a whole header; None when it is about nobody."""
    kind, family = data[len(SIGNATURE)], data[len(SIGNATURE) + 1]
    if kind == LOCAL:
        return None
    af, form = FAMILIES[family]
    source, _, port, _ = struct.unpack_from(form, data, FIXED_BYTES)
    ip = ipaddress.ip_address(socket.inet_ntop(af, source))
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip), port


# --- which connections ---


class _Ports:
    """The ports and paths behind which headers are expected, and whose."""

    def __init__(self) -> None:
        self.agents: dict[int | str, list[Network]] = {}
        self._warned_s: dict[str, float] = {}

    def of(self, name: Any) -> int | str | None:
        """That of a listening socket or an accepted one, by its own name; None when it is none of these."""
        if isinstance(name, bytes):
            name = os.fsdecode(name)
        key = name[1] if isinstance(name, tuple) else name
        return key if key in self.agents else None

    def trusts(self, key: int | str, peer: Any) -> bool:
        if isinstance(key, str):  # who may use a Unix socket is said by its permissions
            return True
        ip = ipaddress.ip_address(peer[0].partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return ip.is_loopback or any(ip in network for network in self.agents[key])

    def warn(self, key: int | str, peer: Any, why: str) -> None:
        """At most one of a kind in a while: whoever reaches the port can cause them."""
        now = time.monotonic()
        if why is not GONE and now - self._warned_s.get(why, -WARNING_EVERY_S) >= WARNING_EVERY_S:
            self._warned_s[why] = now
            whom = peer[0] if isinstance(peer, tuple) else "a Unix socket"
            log.warning(
                "https: %s: closed a connection from %s: %s (let it come through forward(..., proxy_protocol=True))",
                key if isinstance(key, str) else f"port {key}",
                whom,
                why,
            )


_ports = _Ports()
STRANGER, SILENT = "it is no agent of this application", "it sent no PROXY header in time"
GONE = "it has left without a word"  # as checks of health do


def expect(where: int | str, agents: list[str]) -> None:
    """From now on connections there begin with a header, of an agent on this machine or in one of those networks."""
    key = _check_port(where)
    try:
        networks: list[Network] = [ipaddress.ip_network(block, strict=False) for block in agents]
    except ValueError as error:
        raise InvalidError(f"agents: {error} (give address blocks such as 10.0.0.0/8)") from None
    _wrap_servers()
    _ports.agents[key] = networks


def _check_port(where: object) -> int | str:
    if isinstance(where, str) and where.startswith("unix:/"):
        return where[len("unix:") :]
    port: object = where
    if isinstance(port, str) and "/" not in port and port.rpartition(":")[2].isdecimal():
        port = int(port.rpartition(":")[2])  # HOST:PORT, as forward() takes it, too
    if not isinstance(port, SupportsIndex) or isinstance(port, bool) or not 1 <= operator.index(port) <= PORT_MAX:
        raise InvalidError(
            f"proxy_protocol: {where!r} is no port (give the one that the server listens on, as in "
            "https(app, proxy_protocol=8000), or unix:/PATH)"
        )
    return operator.index(port)


@functools.cache
def _wrap_servers() -> None:
    """Once, and for good: a server may have taken the wrapped by now."""
    _wrap_sockets()
    _wrap_loops()


# --- servers that accept by themselves: accept() waits for the header, and returns the visitor's address ---


def _wrap_sockets() -> None:
    accept = socket.socket.accept

    def accept_visitor(self: socket.socket) -> tuple[socket.socket, Any]:
        connection, peer = accept(self)
        is_loops = self.gettimeout() == 0 and asyncio._get_running_loop() is not None  # that must not wait
        if is_loops or (key := _ports.of(self.getsockname())) is None:
            return connection, peer
        try:
            return connection, _read_source(connection, key, peer) or peer
        except Malformed as why:
            _ports.warn(key, peer, str(why))
            connection.close()
            # What servers take for a connection that is gone already.
            raise ConnectionAbortedError(errno.ECONNABORTED, str(why)) from None
        except BaseException:
            connection.close()
            raise

    socket.socket.accept = accept_visitor  # type: ignore[method-assign]


def _read_source(connection: socket.socket, key: int | str, peer: Any) -> Address | None:
    if not _ports.trusts(key, peer):
        raise Malformed(STRANGER)
    before, until = connection.gettimeout(), time.monotonic() + DEADLINE_S
    data = b""
    try:
        while len(data) < (wanted := header_bytes(data)):
            connection.settimeout(max(until - time.monotonic(), 0.001))
            more = connection.recv(wanted - len(data))
            if not more:
                raise Malformed(SILENT if data else GONE)
            data += more
        connection.settimeout(before)
    except OSError:
        raise Malformed(SILENT) from None
    return header_source(data)


# --- servers of an event loop: their protocol is made when the header is there, and meets the visitor's address ---


def _wrap_loops() -> None:
    from asyncio import base_events, unix_events  # noqa: PLC0415

    loops: list[Any] = [(base_events.BaseEventLoop, "create_server")]
    loops.append((unix_events._UnixSelectorEventLoop, "create_unix_server"))
    with contextlib.suppress(ImportError):
        import uvloop  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

        loops += [(uvloop.Loop, "create_server"), (uvloop.Loop, "create_unix_server")]
    for loop, name in loops:
        _wrap_loop(loop, name)


def _wrap_loop(loop: Any, name: str) -> None:
    create = getattr(loop, name)

    async def create_server(self: Any, protocol_factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
        if not options.get("ssl"):  # with TLS of its own it is not the server of a tunnel
            factory = protocol_factory

            def protocol_factory() -> _Doorkeeper:
                return _Doorkeeper(self, factory)

        return await create(self, protocol_factory, *args, **options)

    create_server.__name__ = name
    setattr(loop, name, create_server)


class _Doorkeeper(asyncio.Protocol):
    """Reads the header, then leaves the connection to the server's own protocol."""

    def __init__(self, loop: asyncio.AbstractEventLoop, factory: Callable[[], Any]) -> None:
        self._loop, self._factory = loop, factory
        self._data = b""
        self._inner: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._peer = transport.get_extra_info("peername")
        key = _ports.of(transport.get_extra_info("sockname"))
        if key is None:
            self._inner = self._factory()
            transport.set_protocol(self._inner)
            self._inner.connection_made(transport)
            return
        self._key = key
        self._deadline = self._loop.call_later(DEADLINE_S, self._refuse, SILENT)
        if not _ports.trusts(key, self._peer):
            self._refuse(STRANGER)

    def _refuse(self, why: str) -> None:
        self._deadline.cancel()
        if not self._transport.is_closing():
            _ports.warn(self._key, self._peer, why)
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._data += data
        try:
            wanted = header_bytes(self._data[:FIXED_BYTES])
        except Malformed as why:
            self._refuse(str(why))
            return
        if len(self._data) >= wanted:
            self._deadline.cancel()
            self._admit(header_source(self._data[:wanted]), self._data[wanted:])

    def _admit(self, visitor: Address | None, rest: bytes) -> None:
        context = contextvars.copy_context()
        context.run(_visitor.set, visitor)
        seen = _SeenTransport(self._transport, visitor or self._peer, context)
        self._inner = context.run(self._factory)
        seen.set_protocol(self._inner)
        context.run(self._inner.connection_made, seen)
        protocol = self._transport.get_protocol()
        if isinstance(protocol, _InContext) and rest:
            protocol.data_received(rest)
        while rest and isinstance(protocol, asyncio.BufferedProtocol):
            buffer: Any = protocol.get_buffer(len(rest))
            taken = min(len(buffer), len(rest))
            buffer[:taken] = rest[:taken]
            protocol.buffer_updated(taken)
            rest = rest[taken:]

    def eof_received(self) -> bool | None:
        self._refuse(SILENT if self._data else GONE)
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self._deadline.cancel()
        self._data = b""


class _SeenTransport:
    """A transport whose peer is the visitor."""

    def __init__(self, transport: Any, visitor: Any, context: contextvars.Context) -> None:
        self._transport, self._visitor, self._context = transport, visitor, context

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self._visitor
        found = self._transport.get_extra_info(name, default)
        return _SeenSocket(found, self._visitor) if name == "socket" and found is not None else found

    def set_protocol(self, protocol: Any) -> None:
        is_plain = not isinstance(protocol, asyncio.BufferedProtocol)
        self._transport.set_protocol(_InContext(protocol, self._context) if is_plain else protocol)

    def get_protocol(self) -> Any:
        protocol = self._transport.get_protocol()
        return protocol.protocol if isinstance(protocol, _InContext) else protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _SeenSocket:
    def __init__(self, sock: Any, visitor: Any) -> None:
        self._sock, self._visitor = sock, visitor

    def getpeername(self) -> Any:
        return self._visitor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _InContext(asyncio.Protocol):
    """A protocol whose tasks, begun as data arrives, know the visitor, whatever headers their server believes."""

    def __init__(self, protocol: Any, context: contextvars.Context) -> None:
        self.protocol, self._context = protocol, context
        for name in ("connection_made", "connection_lost", "eof_received", "pause_writing", "resume_writing"):
            setattr(self, name, getattr(protocol, name))

    def data_received(self, data: bytes) -> None:
        self._context.run(self.protocol.data_received, data)
