"""An app as the foreman has it: functions, their containers, the code that those fetch, and whoever listens to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

from ...exception import ExecutionError, NotFoundError, RemoteError
from .. import schedule
from ..spec import AppSpec
from .calls import CONTAINERS_BYTES, Call
from .endpoint import Endpoint
from .news import News
from .pool import Pool
from .spares import Reserve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ..spec import FunctionSpec
    from .foreman import Foreman
    from .store import Statement
    from .worker import Worker

MADE_MAX = 5_000  # queues and dicts of an app's containers
POOLS_MAX = 1000
KEY_MAX = 64
RUN, DETACHED, DEPLOYED = "run", "detached", "deployed"
WEB_MODULES = ("fastapi", "fastapi.responses", "fastapi.middleware.cors", "uvicorn")  # in every image (see images.py)
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
        self.reserve = Reserve(self, b"", 0)
        self.endings: dict[str, Callable[[], Awaitable[None]]] = {}  # of what its containers have made, by id
        self.volumes: list[dict[str, Any]] = []  # that end with it
        self.endpoints: dict[str, Endpoint] = {}
        self.changing = asyncio.Lock()  # held while it becomes another, or ends
        self.updating = 0  # those who give it another version, or wait until they may
        self.ended = False
        self.under_way = 0  # calls
        self.opens_tunnels = False  # a container of it has asked for what it needs for that
        self._coming: set[asyncio.Future[Any]] = set()  # what does not go on when it ends
        self._drains: dict[asyncio.Task[None], Pool] = {}
        self._back = asyncio.Event()
        self._back.set()
        self._again: dict[str, Pool] = {}  # what containers are in that were taken over, until it is back
        self.waiting: list[Call] = []  # likewise
        self._missing = ""  # why it is not back after a restart of the foreman
        self.news = News(foreman.news_path(self.id) if self.stays else None)

    @property
    def stays(self) -> bool:
        """Whether it outlives whoever made it."""
        return self.kind != RUN

    @property
    def is_forsaken(self) -> bool:
        """Whether nobody is there any more for whom it should go on."""
        if (
            self.kind == DEPLOYED
            or self.news.holders
            or self.changing.locked()
            or (self.kind == DETACHED and self.under_way)
        ):
            return False
        return time.monotonic() - self.news.since > LEASE_S[self.kind]

    @property
    def likely_modules(self) -> list[str]:
        """What its programs import, most likely: not more, as containers may have little memory."""
        return list(WEB_MODULES) if any(spec.web for spec in self.spec.functions.values()) else []

    def pool(self, function: str, key: str = "") -> Pool:
        """Of the function of that name; of a class, those of objects that were made with the same arguments."""
        pool = self.pools.get(function)
        if pool is None:
            if self._missing and function in self.spec.functions:
                raise ExecutionError(f"{function}: its app is not back yet: {self._missing}")
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

    def call(
        self,
        function: str,
        key: str,
        payload: bytes,
        maker: Worker | None,
        also: Callable[[Call], tuple[Statement, ...]] = lambda _: (),
    ) -> Call:
        """Calls it, for the caller or for a container. ``also`` tells what is to be written along with it."""
        pool = self.pool(function, key)
        budget = maker.budget if maker else self.foreman.calls.budget
        call = Call(self.id, function, payload, budget, inside=maker is not None, trusted=self.spec.trusted)
        call.pool = pool.name
        if self.stays:
            self.foreman.ledger.made(call, also(call))
        self.take_call(call)
        pool.submit(call)
        return call

    def take_call(self, call: Call) -> None:
        """One of its own, made now or with a foreman before."""
        if call.lasts:
            call.on_done.append(self.foreman.ledger.done)
        self.foreman.calls.add(call)
        self.under_way += 1
        call.on_done.append(self._called)

    def lost(self, call: Call, reason: str) -> None:
        """Its container was gone when the foreman came back."""
        function = self.spec.functions.get(call.function)
        if function is None or call.tries >= (function.retries or {}).get("max_retries", 0):
            call.fail("ExecutionError", reason)
            return
        call.tries += 1
        self.foreman.ledger.waits_again(call)
        self.waiting.append(call)

    def pool_again(self, version: int, name: str, function: FunctionSpec) -> Pool:
        """For containers that are taken over: of the version that it has, or of one that finishes what it has."""
        key = name if version == self.version else f"{version}/{name}"
        if key not in self._again:
            self._again[key] = Pool(self, function, self.bundle, name=name)
            self._again[key].version = version
        return self._again[key]

    async def back(self) -> None:
        """After a restart of the foreman: once it has been tried to have it again."""
        await self._back.wait()

    def _called(self, _: Call) -> None:
        self.under_way -= 1

    def cancel(self, call: Call) -> None:
        """Ends it where it runs, be it in a version that was replaced."""
        for pool in (*self.pools.values(), *self._drains.values()):
            for busy in pool.workers:
                if call in busy.calls.values():
                    busy.cancel(call)

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

    async def begin(self, spec: AppSpec, bundle: bytes) -> None:
        """What it is from now on."""
        async with self.changing:
            await self.prepare(spec)
            self._check_is_there()
            if self.stays:
                await self.foreman.keep(self, spec, bundle)
            reserve = Reserve(self, bundle, spec.spare)
            self._use(spec, bundle, self._pools(spec, bundle, reserve), reserve)
            self.news.since = time.monotonic()  # whoever made it comes now

    def version_id(self, version: int) -> str:
        """Which of whose."""
        return f"{self.id}/{version}"

    def _pools(self, spec: AppSpec, bundle: bytes, reserve: Reserve) -> dict[str, Pool]:
        return {name: Pool(self, function, bundle, reserve) for name, function in spec.functions.items()}

    def _check_is_there(self) -> None:
        if self.ended:
            raise ExecutionError(f"app {self.name}: it was stopped")

    def _use(self, spec: AppSpec, bundle: bytes, pools: dict[str, Pool], reserve: Reserve) -> None:
        before, self.pools = self.pools, pools
        self.reserve.rest()
        self.reserve = reserve
        self.spec, self.bundle, self.since = spec, bundle, time.time()
        for old in before.values():
            self.foreman.images.forget(self.version_id(old.version))
            self._drain(old)
        self._use_again()
        for pool in pools.values():  # what is to be there before anybody calls
            pool.scale()
        if self.kind == DEPLOYED:
            self.foreman.schedules.use(self, spec)

    def _drain(self, old: Pool) -> None:
        drain = asyncio.create_task(old.drain(self.successor(old)))
        self._drains[drain] = old
        drain.add_done_callback(self._drains.pop)

    def let_go(self, spares: Pool) -> None:
        """These are not needed any more."""
        self._drain(spares)

    def successor(self, old: Pool) -> Pool:
        """What has the calls of a version's function that do not get to run in it."""
        there = self.pools.get(old.name)
        if there is None and old.name != old.spec.name and old.spec.name in self.pools:
            there = self.pools[old.name] = self.pools[old.spec.name].of_objects(old.name)
        return there or old

    async def prepare(self, spec: AppSpec) -> None:
        """What has to be there before its containers: InvalidError or RemoteError when that cannot be."""
        for function in spec.functions.values():
            if function.schedule is not None:
                schedule.check(function.schedule)
            await self.foreman.gpus.check(function)
            for volume in await self.foreman.volumes.prepare(function):
                if volume not in self.volumes:
                    self.volumes.append(volume)

    async def update(self, spec: AppSpec, bundle: bytes) -> None:
        """A new version, once its containers come up and its endpoints are open: else ExecutionError, and the one
        before goes on. That one finishes what it has."""
        self.updating += 1
        try:
            async with self.changing:
                self._check_is_there()
                await self.prepare(spec)
                await self._update(spec, bundle)
        finally:
            self.updating -= 1

    async def _update(self, spec: AppSpec, bundle: bytes) -> None:
        self.version += 1
        reserve, before = Reserve(self, bundle, spec.spare), set(self.endpoints)
        pools = self._pools(spec, bundle, reserve)
        try:
            await self._unless_ended(self._come_up(pools))
            if self.kind == DEPLOYED:
                await self._keep(spec, bundle)
        except BaseException:
            self.foreman.images.forget(self.version_id(self.version))
            self.version -= 1
            for name in self.endpoints.keys() - before:
                await self.endpoints.pop(name).close()
            await asyncio.gather(*(pool.close() for pool in (*pools.values(), *reserve.kinds)))
            raise
        self._use(spec, bundle, pools, reserve)
        for pool in pools.values():
            reserve.want(pool.spec, 0)
        gone: list[Endpoint] = []
        for name, endpoint in list(self.endpoints.items()):  # all of them before anything is waited for
            if name in pools and pools[name].spec.web is not None:
                endpoint.point(pools[name])
            else:
                gone.append(self.endpoints.pop(name))
        for endpoint in gone:
            await endpoint.close()

    async def _come_up(self, pools: dict[str, Pool]) -> None:
        await asyncio.gather(*(_check(pool) for pool in _representatives(pools)))
        await self._open_endpoints(pools)

    async def _keep(self, spec: AppSpec, bundle: bytes) -> None:
        """For the next foreman. If whoever asked goes in the meantime, it has the version before."""
        keeping = asyncio.ensure_future(self.foreman.keep(self, spec, bundle))
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await asyncio.wait({keeping})
            if not keeping.cancelled() and keeping.exception() is None and self.version > 1:
                await self.foreman.keep(self, self.spec, self.bundle, self.version - 1)
            raise

    async def _unless_ended(self, work: Coroutine[Any, Any, None]) -> None:
        """Does it. When the app ends, it does not go on."""
        task = asyncio.ensure_future(work)
        self._coming.add(task)
        try:
            await task
        except asyncio.CancelledError:
            self._check_is_there()
            raise
        finally:
            self._coming.discard(task)
        self._check_is_there()

    def comes_back(self, spec: AppSpec, bundle: bytes) -> None:
        """What it was with the foreman before, which is had again with ``resume``."""
        self.spec, self.bundle = spec, bundle
        self._back.clear()

    async def resume(self, spec: AppSpec, bundle: bytes) -> None:
        """Is there again, after a restart of the foreman: its functions as soon as what they need is, and its endpoints
        as soon as the relay is."""
        with contextlib.suppress(ExecutionError):  # that it was stopped
            await self._unless_ended(self._resume(spec, bundle))

    async def _resume(self, spec: AppSpec, bundle: bytes) -> None:
        while True:
            try:
                async with self.changing:
                    if not self.pools:  # nobody has deployed it anew in the meantime
                        await self.prepare(spec)
                        since = self.since
                        reserve = Reserve(self, bundle, spec.spare)
                        self._use(spec, bundle, self._pools(spec, bundle, reserve), reserve)
                        self.since = since
                    self._back.set()
                    await self._open_endpoints(self.pools)
                self._missing = ""
                return
            except Exception as error:  # whatever it is, this app's alone
                why = f"{type(error).__name__}: {error}"
                if why != self._missing:
                    self._missing = why
                    self._back.set()
                    self.tell("failed", function=self.name, error=type(error).__name__, text=str(error))
            await asyncio.sleep(RESUME_S)

    def _use_again(self) -> None:
        """Containers and calls of the foreman before."""
        again, self._again = self._again, {}
        for pool in again.values():
            if pool.version == self.version:
                pool.reserve = self.reserve
                self.pools[pool.name] = pool
            else:
                self._drain(pool)
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            try:
                pool = self.pool(call.function)
            except NotFoundError as error:
                call.fail("NotFoundError", str(error))
                continue
            if call.pool != pool.name:
                pool = self.pools.setdefault(call.pool, pool.of_objects(call.pool))
            pool.submit(call)

    async def leave(self) -> None:
        """It is to be there again with the next foreman, with the containers and calls that it has."""
        for task in list(self._coming):
            task.cancel()
        for drain, pool in list(self._drains.items()):
            await pool.leave()
            drain.cancel()
        for pool in (*self.pools.values(), *self._again.values()):
            await pool.leave()
        await self.reserve.close()
        for endpoint in self.endpoints.values():
            await endpoint.close()
        self.news.end()

    async def _open_endpoints(self, pools: dict[str, Pool]) -> None:
        for name, pool in pools.items():
            if pool.spec.web is not None and name not in self.endpoints:
                path = self.foreman.endpoint_path()
                endpoint = Endpoint(pool, await self.foreman.relay.client(), path)
                try:
                    await endpoint.open()
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                    await asyncio.shield(endpoint.close())
                    raise
                self.endpoints[name] = endpoint

    @property
    def urls(self) -> dict[str, str]:
        """Of its endpoints."""
        return {name: endpoint.url for name, endpoint in self.endpoints.items()}

    def hurry(self) -> None:
        """What is ending gets no time any more to do so by itself."""
        for pool in (*self.pools.values(), *self._drains.values(), *self.reserve.kinds):
            for worker in pool.workers:
                worker.task.cancel()

    async def close(self) -> None:
        """Ends all that is of it, and what was to become of it."""
        self.ended = True
        for task in list(self._coming):
            task.cancel()
        async with self.changing:
            while self.endpoints:
                await self.endpoints.popitem()[1].close()
            drains = list(self._drains)
            for drain in drains:
                drain.cancel()
            pools = [*self.pools.values(), *self._again.values(), *self.reserve.kinds]
            for call in self.waiting:
                call.fail("CancelledError", f"{call.function}: its app has ended")
            await asyncio.gather(*drains, *(pool.close() for pool in pools), return_exceptions=True)
            for end in list(self.endings.values()):
                await end()
            for volume in self.volumes:
                with contextlib.suppress(RemoteError):
                    await self.foreman.volumes.end(volume)
            self.foreman.images.forget(self.version_id(self.version))
            self.tell("ended")
            self.news.end()


def _representatives(pools: dict[str, Pool]) -> list[Pool]:
    """Those whose coming up shows that all can: endpoints, and of the other functions one for each module and image."""
    found = {name: pool for name, pool in pools.items() if pool.spec.web is not None}
    seen = [_looks(pool) for pool in found.values()]
    for name, pool in pools.items():
        if _looks(pool) not in seen:
            seen.append(_looks(pool))
            found[name] = pool
    return list(found.values())


def _looks(pool: Pool) -> tuple[Any, ...]:
    return pool.spec.module, pool.spec.image, sorted(pool.spec.volumes)


async def _check(pool: Pool) -> None:
    worker, why = await pool.up()
    if worker is None:
        name = f"{pool.spec.name}: "  # which what its container says begins with
        raise ExecutionError(name + str(why).removeprefix(name))
