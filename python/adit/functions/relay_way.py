"""A container's way to the relay: it has no network, but a socket at which the foreman joins it to the relay. Tunnels
are opened with a token that is in this process's memory only, since functions hand their environment on."""

from __future__ import annotations

import asyncio
import threading

from .. import Client, _default, _options

SOCKET = "/run/adit/relay.sock"
CHUNK = 1 << 18
JOIN_S = 1.0
APP_WAIT_S = 60.0  # programs tell their URL before they listen, and start slowly where many do
_ways: list[_Way] = []


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        sink.write(data)
        await sink.drain()
    sink.write_eof()


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        other_reader, other_writer = await asyncio.open_unix_connection(SOCKET)
    except OSError:
        writer.transport.abort()
        return
    both = asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))
    try:
        await both
    except (OSError, RuntimeError):
        both.cancel()
        writer.transport.abort()
        other_writer.transport.abort()
    finally:
        writer.close()
        other_writer.close()


class _Way:
    """A port on the container's loopback that leads to the socket."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="adit-relay-way", daemon=True)
        self._thread.start()
        self._ready.wait()

    async def _run(self) -> None:
        server = await asyncio.start_server(_join, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._end.wait()
        server.close()

    def close(self) -> None:
        """With all that goes that way."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(JOIN_S)


def use(token: str) -> None:
    """From now on ``forward`` without a client goes that way."""

    def make() -> Client:
        _ways.append(_Way())
        return Client(token, relays=[f"127.0.0.1:{_ways[-1].port}"])

    _default.use(make)
    _options.default_app_wait = APP_WAIT_S


def shut() -> None:
    """Before the process ends."""
    _default.shut()
    while _ways:
        _ways.pop().close()
