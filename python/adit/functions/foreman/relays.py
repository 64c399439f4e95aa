"""The way out for tunnels of containers, which have no network: a socket that leads to the relay of this user, or that
of one on this machine, which ends with the foreman; and for each container a token of its own, narrower than the
foreman's. What passes is inside TLS and knows its end by that, so whoever carries it may end as he likes."""

from __future__ import annotations

import asyncio
import base64
import functools
import os
import time
import urllib.parse
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ... import Client
from ...exception import ConfigError, Error, InvalidError

if TYPE_CHECKING:
    from .worker import Worker

TUNNELS = 5
CHUNK = 1 << 18


UNIX = "unix:"
PORT = 443


def dial_address(token: str) -> tuple[str, int]:
    """Of the first relay that a token names (docs/protocol.md, "Token"), or what is to be dialled instead: host and
    port, or a Unix socket's path and 0."""
    try:
        if dialled := os.environ.get("ADIT_RELAY"):
            if dialled.startswith(UNIX):
                path = dialled[len(UNIX) :]
                return "\0" + path[1:] if path.startswith("@") else os.path.abspath(path), 0
            at = urllib.parse.urlsplit(f"//{dialled}")
            return at.hostname or "", at.port or PORT
        raw = base64.urlsafe_b64decode(token.removeprefix("adit1_") + "===")
        size = raw[2]
        return raw[3 : 3 + size].decode("ascii"), int.from_bytes(raw[3 + size : 5 + size], "big")
    except (ValueError, IndexError):
        raise ConfigError(
            "token: the relay that it names cannot be read (is ADIT_RELAY a HOST:PORT or unix:PATH?)"
        ) from None


class Relay:
    """The relay of a foreman's containers."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._client: Client | None = None
        self._address = ("", 0)
        self._narrowing = asyncio.Lock()
        self._tokens: WeakKeyDictionary[Worker, tuple[str, float]] = WeakKeyDictionary()  # and when they end

    async def client(self) -> Client:
        """The foreman's own link, made when it is first needed."""
        async with self._lock:
            if self._client is None:
                client = await asyncio.to_thread(Client)
                self._address = dial_address(await asyncio.to_thread(client.narrow))
                self._client = client
            return self._client

    async def socket(self) -> str | None:
        """The file by which containers of this machine reach the relay themselves; None: they are carried. It goes with
        the relay, of whose end tunnels tell."""
        path = ((await self.client()).relay_socket or "").removeprefix(UNIX)
        there = bool(path) and await asyncio.to_thread(os.path.exists, path)
        return path if there else None

    @property
    def ca_file(self) -> str | None:
        """What visitors are to trust, when it is the relay on this machine and is needed."""
        return self._client.ca_file if self._client is not None else None

    async def token_for(self, worker: Worker, seconds: float, least: float) -> tuple[str, float]:
        """A container's own token and for how long it is good: the one that it has, as each has tunnels of its own,
        unless that lasts no longer than ``least``."""
        async with self._narrowing:
            now = time.monotonic()
            token, ends = self._tokens.get(worker, ("", now))
            if ends - now <= least:
                token, ends = await self._narrow(f"fn-{worker.id}", seconds), now + seconds
                self._tokens[worker] = token, ends
            return token, ends - now

    async def _narrow(self, name: str, seconds: float) -> str:
        """Good for so long, or for as long as the foreman's own."""
        client = await self.client()
        narrow = functools.partial(client.narrow, max_tunnels=TUNNELS, name=name)
        try:
            return await asyncio.to_thread(narrow, expires=seconds)
        except InvalidError:
            return await asyncio.to_thread(narrow)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a container to the relay."""
        try:
            await self.client()
            await join(reader, writer, *await self._dial())
        except (OSError, Error):
            pass  # it may try again
        finally:
            writer.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._address
        return await (asyncio.open_connection(host, port) if port else asyncio.open_unix_connection(host))

    async def close(self) -> None:
        """Ends it with its tunnels."""
        if self._client is not None:
            self._client.close()  # not in a thread: at the interpreter's end there are no more


async def join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    other_reader: asyncio.StreamReader,
    other_writer: asyncio.StreamWriter,
) -> None:
    """Copies bytes between two connections, each direction to its own end; a reset is passed on."""

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
