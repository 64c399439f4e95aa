"""The way out for tunnels of containers, which have no network: the relay of this user, or one on this machine that
ends with the foreman, and for each container a token of its own, narrower than the foreman's."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import TYPE_CHECKING

from ... import Client
from ...exception import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TUNNELS = 5
CHUNK = 1 << 18


def dial_address(token: str) -> tuple[str, int]:
    """Of the first relay that a token names (docs/protocol.md, "Token"), or what is to be dialled instead."""
    try:
        if dialled := os.environ.get("ADIT_RELAY"):
            host, _, port = dialled.rpartition(":")
            return host.strip("[]"), int(port)
        raw = base64.urlsafe_b64decode(token.removeprefix("adit1_") + "===")
        size = raw[2]
        return raw[3 : 3 + size].decode("ascii"), int.from_bytes(raw[3 + size : 5 + size], "big")
    except (ValueError, IndexError):
        raise ConfigError("token: the relay that it names cannot be read (is ADIT_RELAY a HOST:PORT?)") from None


class Relay:
    """The relay of a foreman's containers."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._client: Client | None = None
        self._address = ("", 0)

    async def client(self) -> Client:
        """The foreman's own link, made when it is first needed."""
        async with self._lock:
            if self._client is None:
                client = await asyncio.to_thread(Client)
                self._address = dial_address(await asyncio.to_thread(client.narrow))
                self._client = client
            return self._client

    async def token_for(self, name: str, seconds: float) -> str:
        """A token of a container's own, good for so long."""
        client = await self.client()
        return await asyncio.to_thread(client.narrow, expires=seconds, max_tunnels=TUNNELS, name=name)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a container to the relay."""
        await self.client()
        await join(reader, writer, lambda: asyncio.open_connection(*self._address))

    async def close(self) -> None:
        """Ends it with its tunnels."""
        if self._client is not None:
            self._client.close()  # not in a thread: at the interpreter's end there are no more


async def join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    dial: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]],
) -> None:
    """Copies bytes between a connection and one that it dials, each direction to its own end; a reset is passed on."""
    try:
        other_reader, other_writer = await dial()
    except OSError:
        writer.transport.abort()
        return

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
        sink.write_eof()

    both = asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))
    try:
        await both
    except (OSError, RuntimeError):
        both.cancel()
        writer.transport.abort()
        other_writer.transport.abort()
    finally:
        both.cancel()
        for end in (writer, other_writer):
            end.close()
