"""The foreman: everything of one caller, or of all callers of a service, and what it shares among its apps."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from ...exception import Error
from . import adoption, kept, owner, places, prices, server, volumes
from .admission import Admission
from .apps import DEPLOYED, DETACHED, App
from .calls import Calls
from .dicts import Dicts
from .gpus import Gpus
from .images import Images
from .ledger import Ledger
from .meter import Meter
from .queues import Queues
from .relays import Relay
from .schedules import Schedules
from .shelf import Answers, Shelf
from .spending import Budget, Spending
from .store import Store
from .tokens import Tokens
from .volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aiohttp import web

    from ..engine import Engine, Resources
    from ..spec import AppSpec
    from .worker import Worker

RESUMED_S = 10.0  # for endpoints to be there again, before it counts as ready without
LOOK_S = 2.0  # between looks for apps that nobody is there for
ENDED_MAX = 20  # detached apps whose output may still be looked at


class Foreman:
    """``service`` has the socket and the folder of one that others use, and that comes back at the same place;
    ``store`` is a file or a URL."""

    def __init__(
        self,
        engine: Engine,
        service: tuple[str, str] | None = None,
        store: str | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.engine = engine
        self.state: str | None = None
        self._is_folder_ours = service is None
        self._identity = places.state_identity()  # of this machine's, however it and others are called
        if service is None:
            self.folder = places.temporary_folder("adit-")
            self.path = os.path.join(self.folder, "caller.sock")
            self.labels = owner.labels()
        else:
            self.path, self.state = service
            self.folder = self.path.removesuffix(".sock") + ".d"
            places.check_length(self.folder, "name another --socket")
            self.labels = owner.service_labels(self._identity, self.path)
        self.store = Store(store)
        written = (self.store, self.name) if service is not None else ()
        self.ledger, self.shelf, self.answers = Ledger(*written), Shelf(*written), Answers(*written)
        self.tokens = Tokens(*written)
        self.relay = Relay(self.tokens)
        self.calls, self.queues, self.dicts = Calls(self.ledger), Queues(self.shelf), Dicts(self.shelf)
        self.gpus, self.volumes = Gpus(engine), Volumes(engine, self.labels)
        self.schedules = Schedules(self.store)
        self.prices = prices.Prices()
        self.apps: dict[str, App] = {}
        self.ended: deque[App] = deque()
        group = (
            os.path.basename(self.folder) if service is None else hashlib.sha256(self.path.encode()).hexdigest()[:16]
        )
        self._logs = os.path.join(self.state or self.folder, "logs", group)  # of this foreman's apps alone
        self.meter = Meter(engine, self.store, group, self._tell_all)
        self.images = Images(engine, self.folder, self.labels, self.meter, self._tell_all)
        self.admission, self._budget = Admission(self), budget
        self._resources: Resources | None = None
        self._caller: web.AppRunner | None = None
        self._endpoints = 0
        self._looking: asyncio.Task[None] | None = None
        self._resuming: list[asyncio.Task[None]] = []
        self._ending: dict[str, tuple[App, asyncio.Task[None]]] = {}  # by its id
        self._later: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """In the store: whose an app is that stays."""
        return f"{self._identity} {self.path}" if self.store.is_shared else self.path

    async def open(self) -> None:
        """Removes what was left behind by callers that died, and listens."""
        self.prices = prices.read()
        if self._budget is not None:
            spending = Spending(self._budget, self.prices, self.store, self.meter.owner, self._tell_all)
            await spending.open()
            self.admission.spending = spending
        if self.state is None:
            owner.mark(self.folder, self.labels)
        else:
            owner.claim(self.folder, self.path, self.labels)
            self._is_folder_ours = True
            os.makedirs(self._logs, mode=0o700, exist_ok=True)
            self._looking = asyncio.create_task(self._look())
        if self.returns:
            await self.schedules.open()
        resuming = await kept.load(self) if self.returns else []
        try:
            taken = await adoption.take_over(self) if self.returns else []
            in_use = [worker.engine_id for worker in taken]
            for app in self.apps.values():
                in_use += [name for function in app.spec.functions.values() for name in volumes.ephemeral(function)]
            await owner.sweep(self.engine, self.labels, in_use)
            await self.meter.open()
        except BaseException:
            for coming in resuming:
                coming.close()
            raise
        if self.returns:
            for gone in self.tokens.workers - {worker.id for worker in taken}:
                self.relay.revoke(gone)
            owner.clear(self.folder, {worker.id for worker in taken})
            self._resuming = [asyncio.create_task(coming) for coming in resuming]
            self._forget_logs()
        if self._resuming:
            await asyncio.wait(self._resuming, timeout=RESUMED_S)
        self._caller = await self.serve(self.path, None)

    @property
    def returns(self) -> bool:
        """Whether what it has goes on without it until the next one is there."""
        return self.state is not None

    async def serve(self, path: str, worker: Worker | None) -> web.AppRunner:
        """A socket for a container, or for the caller."""
        return await server.serve(self, path, worker)

    async def resources(self) -> Resources:
        """What the engine's machine has."""
        if self._resources is None:
            self._resources = await self.engine.resources()
        return self._resources

    def _tell_all(self, kind: str, **what: Any) -> None:
        for app in self.apps.values():
            app.tell(kind, **what)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """What nobody waits for, and the next foreman does if this one ends before."""
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    # --- apps ---

    def news_path(self, app: str) -> str | None:
        """Where the output of an app that stays is kept."""
        return None if self.state is None else os.path.join(self._logs, app)

    def _forget_logs(self) -> None:
        """Of apps that a foreman before had, and that are no more."""
        with os.scandir(self._logs) as entries:
            left = [entry.path for entry in entries if entry.name.removesuffix(".1") not in self.apps]
        for path in left:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def endpoint_path(self) -> str:
        """For another endpoint's socket."""
        self._endpoints += 1
        return os.path.join(self.folder, f"web-{self._endpoints}.sock")

    def find_app(self, name: str) -> App | None:
        """By its id, or, of those that stay, by its name: what is deployed before what was detached."""
        detached = (app for app in self.apps.values() if app.kind == DETACHED and app.name == name)
        return self.apps.get(name) or self.find_deployed(name) or next(detached, None)

    def find_deployed(self, name: str) -> App | None:
        """By its name."""
        named = (app for app in self.apps.values() if app.kind == DEPLOYED and app.name == name)
        return next(named, None)

    async def keep(self, app: App, spec: AppSpec, bundle: bytes, version: int | None = None) -> None:
        """For the next foreman."""
        await kept.save(app, spec, bundle, app.version if version is None else version)

    def find_ending(self, identity: str) -> App | None:
        """By its id."""
        return self._ending[identity][0] if identity in self._ending else None

    async def end_app(self, app: App) -> None:
        """For good, also if whoever asked for it goes in the meantime."""
        if app.id not in self._ending:
            if self.apps.pop(app.id, None) is None:
                return
            self._ending[app.id] = app, asyncio.create_task(self._end_app(app))
            self._ending[app.id][1].add_done_callback(lambda _: self._ending.pop(app.id))
        await asyncio.shield(self._ending[app.id][1])

    async def _end_app(self, app: App) -> None:
        if app.stays:
            self.ended.append(app)  # at once: somebody may ask for it while it ends
        await app.close()
        if app.stays:
            try:
                await kept.forget(app)
                await self.schedules.forget(app)
            except Error:
                self.ended.remove(app)
                self.apps[app.id] = app  # to be stopped once more: it would be back with the next foreman
                raise
        while len(self.ended) > ENDED_MAX:
            self.ended.popleft().news.forget()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.ledger.look_old()
            for app in list(self.apps.values()):
                if app.is_forsaken:
                    try:
                        await self.end_app(app)
                    except Exception as error:  # the others are looked at, all the same
                        print(f"adit: app {app.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    async def _end_runs(self) -> None:
        """What ends with the foreman, and what ends in any case."""
        runs = [self.end_app(app) for app in list(self.apps.values()) if not app.stays]
        await asyncio.gather(*runs, *(ending for _, ending in self._ending.values()), return_exceptions=True)

    async def close(self) -> None:
        """Ends all, and nothing stays; but apps that stay go on without it, until the next one is there."""
        self.schedules.close()
        if self.admission.spending is not None:
            self.admission.spending.close()
        for task in (self._looking, *self._resuming):
            if task is not None:
                task.cancel()
        stays = [app for app in self.apps.values() if app.stays]
        await asyncio.gather(self._end_runs(), *(app.reserve.close() for app in stays), return_exceptions=True)
        if self._caller is not None:
            await self._caller.cleanup()
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        await self._end_runs()  # that came meanwhile
        with contextlib.suppress(Error):
            await self.volumes.close()
        # Last, as containers wait for the next foreman for a while only.
        await asyncio.gather(*(app.leave() for app in self.apps.values()), return_exceptions=True)
        for task in self._later:
            task.cancel()
        await self.relay.close()
        await self.meter.close()
        await self.engine.close()
        await self.ledger.close()
        await self.tokens.close()
        await self.store.close()
        if self._is_folder_ours and not self.returns:
            shutil.rmtree(self.folder, ignore_errors=True)
