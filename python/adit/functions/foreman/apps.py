"""An app as the foreman has it: functions, their containers, the code that those fetch, and whoever listens to it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...exception import NotFoundError, RemoteError
from .calls import CONTAINERS_BYTES, Call
from .pool import Pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..spec import AppSpec
    from .endpoint import Endpoint
    from .foreman import Foreman
    from .worker import Worker

NEWS_MAX = 10_000
MADE_MAX = 5_000  # queues and dicts of an app's containers
POOLS_MAX = 1000
KEY_MAX = 64


class App:
    """One run of an app."""

    def __init__(self, foreman: Foreman, spec: AppSpec, bundle: bytes) -> None:
        self.id = "ap-" + secrets.token_hex(8)
        self.foreman, self.spec, self.bundle = foreman, spec, bundle
        self.budget = foreman.calls.budget.share("inputs that one app's containers have made", CONTAINERS_BYTES)
        self.pools = {name: Pool(self, function) for name, function in spec.functions.items()}
        self.endings: dict[str, Callable[[], Awaitable[None]]] = {}  # of what its containers have made, by id
        self.volumes: list[dict[str, Any]] = []  # that end with it
        self.endpoints: dict[str, Endpoint] = {}
        self._news: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(NEWS_MAX)

    def pool(self, function: str, key: str = "") -> Pool:
        """Of the function of that name; of a class, those of objects that were made with the same arguments."""
        pool = self.pools.get(function)
        if pool is None:
            raise NotFoundError(f"function {function}: this app has none of that name")
        if not key:
            return pool
        name = f"{function}({key[:KEY_MAX]})"
        if name not in self.pools:
            if len(self.pools) >= POOLS_MAX:
                raise RemoteError(
                    f"{function}: objects of more than {POOLS_MAX} kinds are too many (use fewer arguments)"
                )
            self.pools[name] = Pool(self, replace(pool.spec, parametrised=True, keep_warm=0), name)
        return self.pools[name]

    def call(self, function: str, key: str, payload: bytes, maker: Worker | None) -> Call:
        """Calls it, for the caller or for a container."""
        pool = self.pool(function, key)
        budget = maker.budget if maker else self.foreman.calls.budget
        call = Call(self.id, function, payload, budget, inside=maker is not None, trusted=self.spec.trusted)
        call.pool = pool.name
        self.foreman.calls.add(call)
        pool.submit(call)
        return call

    async def end_with(self, identity: str, end: Callable[[], Awaitable[None]]) -> None:
        """What one of its containers has made ends with the app."""
        if len(self.endings) >= MADE_MAX:
            await end()
            raise RemoteError(f"app {self.spec.name}: its containers have {MADE_MAX} queues and dicts (end some)")
        self.endings[identity] = end

    def tell(self, kind: str, **what: Any) -> None:
        """News for whoever listens. Of too many, the oldest go."""
        if self._news.full():
            self._news.get_nowait()
        self._news.put_nowait({"kind": kind, "at": time.time(), **what})

    async def news(self) -> dict[str, Any] | None:
        """The next; None at the end."""
        return await self._news.get()

    def failed_start(self, pool: Pool, kind: str, reason: str) -> None:
        """A container did not come up."""
        self.tell("failed", function=pool.spec.name, error=kind, text=reason)
        if endpoint := self.endpoints.get(pool.spec.name):
            endpoint.failed(kind, reason)

    def warm(self) -> None:
        """Starts what is to be there before anybody calls."""
        for pool in self.pools.values():
            pool.scale()

    async def close(self) -> None:
        """Ends all that is of it."""
        for endpoint in self.endpoints.values():
            await endpoint.close()
        await asyncio.gather(*(pool.close() for pool in self.pools.values()))
        for end in list(self.endings.values()):
            await end()
        for volume in self.volumes:
            with contextlib.suppress(RemoteError):
                await self.foreman.volumes.end(volume)
        if self._news.full():
            self._news.get_nowait()
        self._news.put_nowait(None)
