"""An app as the foreman has it: functions, their containers, the code that those fetch, and whoever listens to it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Any

from ...exception import Error, ExecutionError, NotFoundError, RemoteError
from ..spec import AppSpec
from .calls import CONTAINERS_BYTES, Call
from .endpoint import Endpoint
from .news import News
from .pool import Pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .foreman import Foreman
    from .worker import Worker

MADE_MAX = 5_000  # queues and dicts of an app's containers
POOLS_MAX = 1000
KEY_MAX = 64
RUN, DETACHED, DEPLOYED = "run", "detached", "deployed"
RESUME_S = 5.0  # between tries to have endpoints again
LEASE_S = {RUN: 20.0, DETACHED: 2.0}  # of an app whose holder has gone


class App:
    """One app; a version of it replaces the one before. ``kind`` says how long it lives: as long as whoever listens to
    it, until its calls are done, or until it is stopped."""

    def __init__(self, foreman: Foreman, name: str, kind: str = RUN, identity: str | None = None) -> None:
        self.id = identity or "ap-" + secrets.token_hex(8)
        self.foreman, self.name, self.kind = foreman, name, kind
        self.spec, self.bundle, self.version, self.since = AppSpec(name, {}), b"", 0, time.time()
        self.budget = foreman.calls.budget.share("inputs that one app's containers have made", CONTAINERS_BYTES)
        self.pools: dict[str, Pool] = {}
        self.endings: dict[str, Callable[[], Awaitable[None]]] = {}  # of what its containers have made, by id
        self.volumes: list[dict[str, Any]] = []  # that end with it
        self.endpoints: dict[str, Endpoint] = {}
        self.changing = asyncio.Lock()
        self.under_way = 0  # calls
        self._drains: set[asyncio.Task[None]] = set()
        self.news = News(foreman.news_path(self.id) if self.stays else None)

    @property
    def stays(self) -> bool:
        """Whether it outlives whoever made it."""
        return self.kind != RUN

    @property
    def is_forsaken(self) -> bool:
        """Whether nobody is there any more for whom it should go on."""
        if self.kind == DEPLOYED or self.news.holders or (self.kind == DETACHED and self.under_way):
            return False
        return time.monotonic() - self.news.since > LEASE_S[self.kind]

    def pool(self, function: str, key: str = "") -> Pool:
        """Of the function of that name; of a class, those of objects that were made with the same arguments."""
        pool = self.pools.get(function)
        if pool is None:
            raise NotFoundError(f"function {function}: app {self.name} has none of that name")
        if not key:
            return pool
        name = f"{function}({key[:KEY_MAX]})"
        if name not in self.pools:
            if len(self.pools) >= POOLS_MAX:
                raise RemoteError(
                    f"{function}: objects of more than {POOLS_MAX} kinds are too many (use fewer arguments)"
                )
            self.pools[name] = pool.of_objects(name)
        return self.pools[name]

    def call(self, function: str, key: str, payload: bytes, maker: Worker | None) -> Call:
        """Calls it, for the caller or for a container."""
        pool = self.pool(function, key)
        budget = maker.budget if maker else self.foreman.calls.budget
        call = Call(self.id, function, payload, budget, inside=maker is not None, trusted=self.spec.trusted)
        call.pool = pool.name
        self.foreman.calls.add(call)
        self.under_way += 1
        call.on_done.append(self._called)
        pool.submit(call)
        return call

    def _called(self, _: Call) -> None:
        self.under_way -= 1

    async def end_with(self, identity: str, end: Callable[[], Awaitable[None]]) -> None:
        """What one of its containers has made ends with the app."""
        if len(self.endings) >= MADE_MAX:
            await end()
            raise RemoteError(f"app {self.spec.name}: its containers have {MADE_MAX} queues and dicts (end some)")
        self.endings[identity] = end

    def tell(self, kind: str, **what: Any) -> None:
        """News for whoever listens."""
        self.news.tell(kind, **what)

    # --- versions ---

    def put(self, spec: AppSpec, bundle: bytes) -> None:
        """What it is from now on."""
        self._use(spec, bundle, {name: Pool(self, function, bundle) for name, function in spec.functions.items()})

    def _use(self, spec: AppSpec, bundle: bytes, pools: dict[str, Pool]) -> None:
        before, self.pools = self.pools, pools
        self.spec, self.bundle, self.since = spec, bundle, time.time()
        for old in before.values():
            drain = asyncio.create_task(old.drain(self.successor(old)))
            self._drains.add(drain)
            drain.add_done_callback(self._drains.discard)
        for pool in pools.values():  # what is to be there before anybody calls
            pool.scale()

    def successor(self, old: Pool) -> Pool:
        """What has the calls of a version's function that do not get to run in it."""
        there = self.pools.get(old.name)
        if there is None and old.name != old.spec.name and old.spec.name in self.pools:
            there = self.pools[old.name] = self.pools[old.spec.name].of_objects(old.name)
        return there or old

    async def prepare(self, spec: AppSpec) -> None:
        """What has to be there before its containers: InvalidError or RemoteError when that cannot be."""
        for function in spec.functions.values():
            await self.foreman.gpus.check(function)
            self.volumes += await self.foreman.volumes.prepare(function)

    async def update(self, spec: AppSpec, bundle: bytes) -> None:
        """A new version, once its containers come up and its endpoints are open: else ExecutionError, and the one
        before goes on. That one finishes what it has."""
        async with self.changing:
            await self.prepare(spec)
            self.version += 1
            pools = {name: Pool(self, function, bundle) for name, function in spec.functions.items()}
            try:
                await asyncio.gather(*(_check(pool) for pool in _representatives(pools)))
                await self._open_endpoints(pools)
            except BaseException:
                self.version -= 1
                for name in self.endpoints.keys() - self.pools.keys():
                    await self.endpoints.pop(name).close()
                await asyncio.gather(*(pool.close() for pool in pools.values()))
                raise
            self._use(spec, bundle, pools)
            if self.kind == DEPLOYED:
                await self.foreman.keep(self)
            for name, endpoint in list(self.endpoints.items()):
                if name in pools and pools[name].spec.web is not None:
                    endpoint.point(pools[name])
                else:
                    await self.endpoints.pop(name).close()

    async def resume(self) -> None:
        """Has its endpoints again, after a restart of the foreman: as soon as the relay is there."""
        while True:
            try:
                async with self.changing:
                    await self._open_endpoints(self.pools)
                return
            except Error as error:
                self.tell("failed", function=self.name, error=type(error).__name__, text=str(error))
            await asyncio.sleep(RESUME_S)

    async def _open_endpoints(self, pools: dict[str, Pool]) -> None:
        for name, pool in pools.items():
            if pool.spec.web is not None and name not in self.endpoints:
                endpoint = Endpoint(pool, await self.foreman.relay.client(), self.foreman.endpoint_path())
                await endpoint.open()
                self.endpoints[name] = endpoint

    @property
    def urls(self) -> dict[str, str]:
        """Of its endpoints."""
        return {name: endpoint.url for name, endpoint in self.endpoints.items()}

    async def close(self) -> None:
        """Ends all that is of it."""
        while self.endpoints:
            await self.endpoints.popitem()[1].close()
        for drain in self._drains:
            drain.cancel()
        await asyncio.gather(*self._drains, *(pool.close() for pool in self.pools.values()), return_exceptions=True)
        for end in list(self.endings.values()):
            await end()
        for volume in self.volumes:
            with contextlib.suppress(RemoteError):
                await self.foreman.volumes.end(volume)
        self.news.end()


def _representatives(pools: dict[str, Pool]) -> list[Pool]:
    """Those whose coming up shows that all can: endpoints, and of the other functions one for each module and image."""
    found = {name: pool for name, pool in pools.items() if pool.spec.web is not None}
    seen = [(pool.spec.module, pool.spec.image) for pool in found.values()]
    for name, pool in pools.items():
        if (pool.spec.module, pool.spec.image) not in seen:
            seen.append((pool.spec.module, pool.spec.image))
            found[name] = pool
    return list(found.values())


async def _check(pool: Pool) -> None:
    worker, why = await pool.up()
    if worker is None:
        raise ExecutionError(f"{pool.spec.name}: {why}")
