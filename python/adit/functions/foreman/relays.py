"""The way out for tunnels of containers, which have no network: a socket that leads to the relay of this user, or that
of one on this machine, which ends with the foreman; and for each container a token of its own, narrower than the
foreman's. What passes is inside TLS and knows its end by that, so whoever carries it may end as he likes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ... import Client
from ...exception import Error, InvalidError
from .counts import Counts, place
from .tokens import Given, Tokens
from .ways import UNIX, Way, identities, ways

if TYPE_CHECKING:
    from .counts import Passed
    from .worker import Worker

TUNNELS = 5
CHUNK = 1 << 18
REVOKE_S = 5.0  # for all that a container was given; a token that is not revoked expires
REVOKERS_MAX = 8  # threads, which others are not kept from using while the relay is away


class Relay:
    """The relay of a foreman's containers."""

    def __init__(self, given: Tokens | None = None) -> None:
        self._lock = asyncio.Lock()
        self._client: Client | None = None
        self._root = ""  # the id of the operator's token that the client's is, or is from
        self._ways: list[Way] = []
        self._way: Way | None = None  # the one that was reached last
        self._narrowing = asyncio.Lock()
        self._tokens: WeakKeyDictionary[Worker, tuple[str, float, Way]] = WeakKeyDictionary()  # and when they end
        self._counts: Counts | None = None
        self._ids: WeakKeyDictionary[Worker, list[str]] = WeakKeyDictionary()  # of all that it was given
        self._given = Tokens() if given is None else given
        self._revokers = ThreadPoolExecutor(REVOKERS_MAX, "adit-revoke")
        self._revoking: set[asyncio.Task[None]] = set()

    async def client(self) -> Client:
        """The foreman's own link, made when it is first needed."""
        async with self._lock:
            if self._client is None:
                client = await asyncio.to_thread(Client)
                token = await asyncio.to_thread(client.narrow)
                self._ways = ways(token, straight=client.ca_file is not None)
                self._root = identities(token)[0]
                self._counts = Counts(place(self._ways, client.ca_file), self._root)
                self._client = client
            return self._client

    async def socket(self) -> str | None:
        """The file by which containers of this machine reach the relay themselves; None: they are carried."""
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
            await self.client()
            way = self._way or await self._choose()
            token, ends, before = self._tokens.get(worker, ("", now, way))
            if ends - now <= least or before != way:
                token, ends = way.narrow(await self._narrow(f"fn-{worker.id}", seconds)), now + seconds
                self._tokens[worker] = token, ends, way
                root, identity = identities(token)
                self._ids.setdefault(worker, []).append(identity)
                await self._given.add(Given(identity, root, time.time() + seconds, worker.id))
            return token, ends - now

    async def counted(self, worker: Worker, last: bool = False) -> dict[str, Passed] | None:
        """What has come through its tunnels, by its tokens, as the relay counts; None: only the container can tell. The
        tokens of one that was taken over are not known."""
        if worker.is_taken:
            return None
        ids = self._ids.get(worker)
        return {} if not ids or self._counts is None else await self._counts.of(ids, last=last)

    def revoke(self, worker: str) -> None:
        """What it was given is good no more, as it has ended. The relay that the foreman's own link is to is told; who
        has ended does not wait for it, as it may be away, but the foreman's end does. If it cannot be told, the next
        foreman tells it, unless the token has expired by then."""
        if tokens := self._given.take(worker):
            task = asyncio.create_task(self._revoke(tokens, time.monotonic() + REVOKE_S))
            self._revoking.add(task)
            task.add_done_callback(self._revoking.discard)

    async def _revoke(self, tokens: list[Given], until: float) -> None:
        with contextlib.suppress(Error, RuntimeError):  # of the latter: at the interpreter's end no thread begins
            client = await self.client()
            own = [token for token in tokens if token.root == self._root]  # else the foreman has another token now
            work = functools.partial(revoke, client, own, until)
            for token in await asyncio.get_running_loop().run_in_executor(self._revokers, work):
                self._given.revoked(token)

    async def _choose(self) -> Way:
        """Of several relays the first that is there, for containers that ask from now on."""
        if len(self._ways) > 1:
            for way in self._ways:
                try:
                    _, writer = await way.dial()
                except (OSError, asyncio.TimeoutError):
                    continue
                writer.close()
                self._way = way
                return way
        return self._ways[0]

    async def _narrow(self, name: str, seconds: float) -> str:
        """Good for so long, or for as long as the foreman's own."""
        client = await self.client()
        narrow = functools.partial(client.narrow, max_tunnels=TUNNELS, name=name)
        try:
            return await asyncio.to_thread(narrow, expires=seconds)
        except InvalidError:
            return await asyncio.to_thread(narrow)

    async def carry(self, worker: Worker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a container to the relay that its token is for."""
        try:
            await self.client()
            _, _, way = self._tokens.get(worker, ("", 0.0, self._way or self._ways[0]))
            try:
                far = await way.dial()
            except (OSError, asyncio.TimeoutError):
                self._way = None  # whoever asks next may have another
                return
            await join(reader, writer, *far)
        except (OSError, Error):
            pass  # it may try again
        finally:
            writer.close()

    async def close(self) -> None:
        """Ends it with its tunnels."""
        if self._revoking:
            await asyncio.wait(self._revoking)
        self._revokers.shutdown(wait=False)
        if self._client is not None:
            self._client.close()  # not in a thread: at the interpreter's end there are no more


def revoke(client: Client, tokens: list[Given], until: float) -> list[Given]:
    """Which of them are good no more."""
    over = []
    for token in tokens:
        left, expires = until - time.monotonic(), math.ceil(token.ends - time.time())
        if left <= 0:
            break
        with contextlib.suppress(Error):
            if expires > 0:
                client.revoke(token.id, left, expires=expires)
            over.append(token)
    return over


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
        if sink.can_write_eof():  # not inside of TLS, as to a proxy
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
