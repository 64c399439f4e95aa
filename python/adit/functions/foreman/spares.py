"""Spares: containers that wait for what they are to be. Nothing of a function is in one before it is taken, so that it
may become one of any function of its app, and its version, whose containers are as it is; then another takes its
place. They yield: none is started where it would be in the way, and any ends to make room."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from .pool import AGAIN_MOST_S, AGAIN_S, STARTING_MAX, Pool
from .worker import Worker

if TYPE_CHECKING:
    from ..spec import FunctionSpec
    from .apps import App

KINDS_MAX = 8  # of an app: those that were asked for last
AFTER_S = 0.5  # of a container that is ready: a program that is done by then needs none


class Spares(Pool):
    """Those of one kind."""

    spare = True

    def __init__(self, app: App, spec: FunctionSpec, bundle: bytes, version: int, count: int) -> None:
        super().__init__(app, replace(spec, keep_warm=count), bundle)
        self.version = version

    def _is_short(self) -> bool:
        starting = sum(not worker.waits for worker in self.workers)
        return not self.draining and len(self.workers) < self.spec.keep_warm and starting < STARTING_MAX

    def scale_after(self, seconds: float) -> None:
        """Starts what is missing, then."""
        if self._later is not None:
            self._later.cancel()
        if not self.draining:
            self._later = asyncio.get_running_loop().call_later(seconds, self._scale_again)

    def arrived(self) -> None:
        """One waits."""
        self._again_s = AGAIN_S
        self.scale()

    def best(self) -> Worker | None:
        """One that waits, or else one that is on its way."""
        there = [worker for worker in self.workers if worker.is_there and not worker.ending]
        return max(there, key=lambda worker: worker.waits, default=None)

    def died(self, worker: Worker, kind: str, reason: str) -> None:
        """Nobody waits for it: what keeps it from starting is told of a container that is needed."""
        worker.ending = True

    def gone(self, worker: Worker) -> None:
        """See Pool. There was no room, or something is wrong: so not at once."""
        self.workers.remove(worker)
        self.scale_after(self._again_s)
        self._again_s = min(2 * self._again_s, AGAIN_MOST_S)
        self.changed()


class Reserve:
    """All spares of one version of an app."""

    def __init__(self, app: App, bundle: bytes, count: int) -> None:
        """``count`` of each kind, of the version that the app has now."""
        self._app, self._bundle, self._count, self._version = app, bundle, count, app.version
        self.kinds: list[Spares] = []  # the one that was asked for last is the last

    def _find(self, spec: FunctionSpec) -> Spares | None:
        kind = spec.kind()
        return next((spares for spares in self.kinds if replace(spares.spec, keep_warm=0) == kind), None)

    def want(self, spec: FunctionSpec, after: float = AFTER_S) -> None:
        """Containers like those of this function are needed, and so may be more of them."""
        if not self._count or spec.gpus:  # one that waits would have it to itself
            return
        spares = self._find(spec)
        if spares is None:
            spares = Spares(self._app, spec.kind(), self._bundle, self._version, self._count)
        else:
            self.kinds.remove(spares)
        self.kinds.append(spares)
        spares.scale_after(after)
        if len(self.kinds) > KINDS_MAX:
            self.end(self.kinds[0])

    def take(self, pool: Pool) -> Worker | None:
        """One that is a container of this pool from now on; None if there is none, or may be none."""
        spares = self._find(pool.spec)
        worker = spares.best() if spares is not None else None
        if worker is None or not self._app.foreman.admission.pass_on(pool):
            return None
        worker.become(pool)
        return worker

    def end(self, spares: Spares) -> None:
        """Those of a kind."""
        self.kinds.remove(spares)
        self._app.let_go(spares)

    async def close(self) -> None:
        """There are no more."""
        self._count = 0
        await asyncio.gather(*(spares.close() for spares in self.kinds))

    def look_unused(self) -> None:
        """An app that stays is to be nothing when nobody uses it."""
        if self._app.stays and not any(pool.workers for pool in self._app.pools.values()):
            self.rest()

    def rest(self) -> None:
        """Until something of the app is needed again."""
        for spares in list(self.kinds):
            self.end(spares)
