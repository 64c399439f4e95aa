"""The foreman: everything of one caller, and what it shares among its apps."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from . import owner, prices, server
from .admission import Admission
from .calls import Calls
from .dicts import Dicts
from .gpus import Gpus
from .images import Images
from .meter import Meter
from .queues import Queues
from .relays import Relay
from .store import Store
from .volumes import Volumes

if TYPE_CHECKING:
    from aiohttp import web

    from ..engine import Engine, Resources
    from .apps import App
    from .worker import Worker


class Foreman:
    """Everything of one caller."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.folder = tempfile.mkdtemp(prefix="adit-")  # 0700
        self.path = os.path.join(self.folder, "caller.sock")
        self.labels = owner.labels()
        self.relay, self.calls, self.queues, self.store = Relay(), Calls(), Queues(), Store()
        self.dicts, self.gpus, self.volumes = Dicts(), Gpus(engine), Volumes(engine, self.labels)
        self.prices = prices.Prices()
        self.apps: dict[str, App] = {}
        self.meter = Meter(engine, self.store, os.path.basename(self.folder), self._tell_all)
        self.images = Images(engine, self.folder, self.labels, self.meter, self._tell_all)
        self.admission = Admission(self)
        self._resources: Resources | None = None
        self._caller: web.AppRunner | None = None

    async def open(self) -> None:
        """Removes what was left behind by callers that died, and listens."""
        self.prices = prices.read()
        owner.mark(self.folder)
        await owner.sweep(self.engine)
        await self.meter.open()
        self._caller = await self.serve(self.path, None)

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

    async def close(self) -> None:
        """Ends all; nothing stays."""
        await asyncio.gather(*(app.close() for app in self.apps.values()))
        await self.volumes.close()
        await self.relay.close()
        if self._caller is not None:
            await self._caller.cleanup()
        await self.meter.close()
        await self.engine.close()
        await self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)
