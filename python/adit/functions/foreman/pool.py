"""Containers of one function: as many as its calls need, within its limits. One call at a time in each, unless the
function allows several; whoever calls next may get one that has been used, by the same function of the same app and
caller only."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from ..spec import CONTAINERS_MAX, WEB_CONTAINERS
from .worker import Taken, Worker

if TYPE_CHECKING:
    from ..spec import FunctionSpec
    from .apps import App
    from .calls import Call
    from .spares import Reserve

STARTING_MAX = 4  # of a function at once
AGAIN_S, AGAIN_MOST_S = 5.0, 300.0  # until what does not start is started again, though nobody waits for it


class Pool:
    """The containers and waiting calls of a function."""

    spare = False  # whether they wait for what they are to be (see spares.py)

    def __init__(
        self, app: App, spec: FunctionSpec, bundle: bytes, reserve: Reserve | None = None, name: str = ""
    ) -> None:
        self.app, self.spec, self.bundle, self.version, self.reserve = app, spec, bundle, app.version, reserve
        self.name = name or spec.name
        self.waiting: deque[Call] = deque()
        self.workers: list[Worker] = []
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self._failed_starts, self._why = 0, ""  # in all, and of the last one
        self.draining = self.closed = self._is_left = False
        self._again_s = AGAIN_S
        self._later: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        """Of containers at once."""
        return min(self.spec.concurrency_limit or (WEB_CONTAINERS if self.spec.web else CONTAINERS_MAX), CONTAINERS_MAX)

    def submit(self, call: Call) -> None:
        """A call more. It waits for the next foreman if this one has left: it is written down."""
        if self._is_left:
            return
        if self.closed:
            call.fail("CancelledError", f"{self.spec.name}: its app has ended")
            return
        self.waiting.append(call)
        self._news.set()
        self.scale()

    def scale(self) -> None:
        """Starts what is missing, some at a time: of many short calls the first containers do most."""
        while self._is_short():
            self._add()

    def _add(self) -> None:
        """One more container: a spare, if there is one."""
        worker = self.reserve.take(self) if self.reserve is not None else None
        self.workers.append(worker or Worker(self))

    def is_up(self, worker: Worker) -> None:
        """One can be called."""
        if self.reserve is not None and not self.draining:
            self.reserve.want(self.spec)
        self.scale()
        self.changed()

    def _is_short(self) -> bool:
        starting = sum(not w.ready.is_set() for w in self.workers)
        if self.draining or len(self.workers) >= self.limit or starting >= STARTING_MAX:
            return False
        return len(self.workers) < self.spec.keep_warm or sum(w.room for w in self.workers) < len(self.waiting)

    def of_objects(self, name: str) -> Pool:
        """For the objects of its class that were made with the same arguments."""
        spec = replace(self.spec, parametrised=True, keep_warm=0)
        pool = Pool(self.app, spec, self.bundle, self.reserve, name)
        pool.version = self.version  # its app may be about to have another
        return pool

    def adopt(self, taken: Taken) -> Worker:
        """A container of the foreman before."""
        worker = Worker(self, taken)
        self.workers.append(worker)
        self.app.foreman.admission.keep(worker)
        return worker

    async def up(self, seconds: float | None = None) -> tuple[Worker | None, str]:
        """A container that is ready, of several the one with the fewest visitors; or why there is none."""
        failed = self._failed_starts

        async def look() -> tuple[Worker | None, str]:
            while True:
                live = [w for w in self.workers if not w.ending]
                there = [w for w in live if w.ready.is_set()]
                if there:
                    best = min(there, key=lambda w: w.connections)
                    return (None, best.refused) if best.refused else (best, "")
                if self._failed_starts > failed or self.closed:
                    return None, self._why or "its app has ended"
                if not live and len(self.workers) < self.limit:
                    self._add()
                await self._changed.wait()

        try:
            return await asyncio.wait_for(look(), seconds)
        except asyncio.TimeoutError:
            return None, "it does not start"

    def arrived(self) -> None:
        """A spare waits."""

    def changed(self) -> None:
        """A worker has become something else: whoever waits for that looks."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def take(self, worker: Worker, seconds: float) -> Call | None:
        """The next call for a worker; None when there is none in time."""
        until = time.monotonic() + seconds
        while not worker.ending:
            while self.waiting:
                call = self.waiting.popleft()
                if not call.done:
                    return call
            self._news.clear()
            left = until - time.monotonic()
            if left <= 0:
                return None
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)
        return None

    def put_back(self, call: Call) -> None:
        """One that was taken and is not begun: it is the next."""
        self.waiting.appendleft(call)
        self._news.set()
        self.scale()

    def end(self, worker: Worker) -> None:
        """It gets no more calls, whichever of its slots asks."""
        worker.ending = True
        worker.look_stuck()
        self._news.set()

    def may_end(self, worker: Worker) -> bool:
        """Whether a worker has been idle for long enough."""
        if worker.is_busy:
            return False
        least = max(self.spec.keep_warm, 1 if self.spec.web and not self.app.stays else 0)
        idle = time.monotonic() - worker.idle_since
        return idle >= self.spec.idle_timeout and sum(not w.ending for w in self.workers) > least

    def retry(self, call: Call) -> bool:
        """Whether the call is to be tried once more, which is then arranged."""
        policy = self.spec.retries or {}
        if (self.closed and not self._is_left) or call.done or call.tries >= policy.get("max_retries", 0):
            return False
        delay = most = policy.get("max_delay", 60.0)
        with contextlib.suppress(OverflowError):
            delay = min(policy["initial_delay"] * policy["backoff_coefficient"] ** call.tries, most)
        call.tries += 1
        if call.lasts:
            self.app.foreman.ledger.waits_again(call)
        asyncio.get_running_loop().call_later(delay, self._again, call)
        return True

    def _again(self, call: Call) -> None:
        self.app.successor(self).submit(call)

    def died(self, worker: Worker, kind: str, reason: str) -> None:
        """A worker has ended; whoever waits for it is told."""
        worker.ending = True
        started = worker.ready.is_set()
        for call in worker.calls.values():
            if not call.done and (kind == "FunctionTimeoutError" or not self.retry(call)):
                call.fail(kind, reason)
        if not started and not worker.calls and not worker.is_fresh:  # it would be so for the next, too
            while self.waiting and not any(w.ready.is_set() and not w.ending for w in self.workers):
                self.waiting.popleft().fail(kind, reason)
            self._failed_starts, self._why = self._failed_starts + 1, reason
            self.app.tell("failed", function=self.spec.name, error=kind, text=reason)
            self.changed()

    def gone(self, worker: Worker) -> None:
        """Nothing is left of it."""
        self.workers.remove(worker)
        if worker.ready.is_set():
            self._again_s = AGAIN_S
        if worker.ready.is_set() or self.waiting:
            self.scale()
        elif self._is_short() and self._later is None:  # what is to be warm and does not start is tried now and then
            self._later = asyncio.get_running_loop().call_later(self._again_s, self._scale_again)
            self._again_s = min(2 * self._again_s, AGAIN_MOST_S)
        self.changed()
        if self.reserve is not None:
            self.reserve.look_unused()

    def _scale_again(self) -> None:
        self._later = None
        self.scale()

    async def drain(self, successor: Pool) -> None:
        """Takes nothing new and ends with what it has; what has not begun goes to its successor."""
        self.draining = True
        while self.waiting and successor is not self:
            successor.submit(self.waiting.popleft())
        for worker in self.workers:
            self.end(worker)
        try:
            await asyncio.wait_for(self._finish(), self.spec.timeout)
        except asyncio.TimeoutError:
            pass  # visitors who do not go; calls have ended at this time
        finally:
            if not self._is_left:
                await asyncio.shield(self.close())

    async def _finish(self) -> None:
        while busy := [w for w in self.workers if w.is_busy]:
            for worker in self.workers:
                if worker not in busy and worker.ready.is_set():
                    worker.retire()
            await self._changed.wait()

    async def leave(self) -> None:
        """All go on without this foreman."""
        self._is_left = self.closed = self.draining = True
        if self._later is not None:
            self._later.cancel()
        for worker in self.workers:
            worker.leave()
        await asyncio.gather(*(worker.task for worker in self.workers), return_exceptions=True)

    async def close(self) -> None:
        """Ends all of them."""
        self.closed = self.draining = True
        if self._later is not None:
            self._later.cancel()
        while self.waiting:
            self.waiting.popleft().fail("CancelledError", f"{self.spec.name}: its app has ended")
        for worker in self.workers:
            for call in worker.calls.values():
                call.fail("CancelledError", f"{self.spec.name}: its app has ended")
        self.changed()
        await asyncio.gather(*(worker.stop() for worker in list(self.workers)))
