"""Containers of one function: as many as its calls need, within its limits. One call at a time in each, unless the
function allows several; whoever calls next may get one that has been used, by the same function of the same app and
caller only."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from .admission import CONTAINERS_MAX
from .worker import Worker

if TYPE_CHECKING:
    from ..spec import FunctionSpec
    from .apps import App
    from .calls import Call

WEB_CONTAINERS = 10  # of a web endpoint that names no limit: whoever has its URL can have it start them
STARTING_MAX = 4  # of a function at once


class Pool:
    """The containers and waiting calls of a function."""

    def __init__(self, app: App, spec: FunctionSpec, name: str = "") -> None:
        self.app, self.spec, self.name = app, spec, name or spec.name
        self.waiting: deque[Call] = deque()
        self.workers: list[Worker] = []
        self._news = asyncio.Event()
        self.closed = False

    @property
    def limit(self) -> int:
        """Of containers at once."""
        return min(self.spec.concurrency_limit or (WEB_CONTAINERS if self.spec.web else CONTAINERS_MAX), CONTAINERS_MAX)

    def submit(self, call: Call) -> None:
        """A call more."""
        if self.closed:
            call.fail("CancelledError", f"{self.spec.name}: its app has ended")
            return
        self.waiting.append(call)
        self._news.set()
        self.scale()

    def scale(self) -> None:
        """Starts what is missing, some at a time: of many short calls the first containers do most."""
        while self._is_short():
            self.workers.append(Worker(self))

    def _is_short(self) -> bool:
        starting = sum(not w.ready.is_set() for w in self.workers)
        if self.closed or len(self.workers) >= self.limit or starting >= STARTING_MAX:
            return False
        return len(self.workers) < self.spec.keep_warm or sum(w.room for w in self.workers) < len(self.waiting)

    def start_one(self) -> None:
        """For a visitor, when there is none."""
        if not self.closed and len(self.workers) < self.limit:
            self.workers.append(Worker(self))

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

    def end(self, worker: Worker) -> None:
        """It gets no more calls, whichever of its slots asks."""
        worker.ending = True
        self._news.set()

    def may_end(self, worker: Worker) -> bool:
        """Whether a worker has been idle for long enough."""
        if worker.calls:
            return False
        idle = time.monotonic() - worker.idle_since
        return idle >= self.spec.idle_timeout and len(self.workers) > self.spec.keep_warm

    def retry(self, call: Call) -> bool:
        """Whether the call is to be tried once more, which is then arranged."""
        policy = self.spec.retries or {}
        if self.closed or call.done or call.tries >= policy.get("max_retries", 0):
            return False
        delay = min(
            policy["initial_delay"] * policy["backoff_coefficient"] ** call.tries, policy.get("max_delay", 60.0)
        )
        call.tries += 1
        asyncio.get_running_loop().call_later(delay, self.submit, call)
        return True

    def died(self, worker: Worker, kind: str, reason: str) -> None:
        """A worker has ended; whoever waits for it is told."""
        started = worker.ready.is_set()
        for call in worker.calls.values():
            if not call.done and (kind == "FunctionTimeoutError" or not self.retry(call)):
                call.fail(kind, reason)
        if not started and not worker.calls:  # it would be so for the next, too
            while self.waiting and not any(w.ready.is_set() and not w.ending for w in self.workers):
                self.waiting.popleft().fail(kind, reason)
            self.app.failed_start(self, kind, reason)

    def gone(self, worker: Worker) -> None:
        """Nothing is left of it."""
        self.workers.remove(worker)
        if worker.ready.is_set() or self.waiting:  # not for keep_warm what does not start
            self.scale()

    async def close(self) -> None:
        """Ends all of them."""
        self.closed = True
        while self.waiting:
            self.waiting.popleft().fail("CancelledError", f"{self.spec.name}: its app has ended")
        for worker in self.workers:
            for call in worker.calls.values():
                call.fail("CancelledError", f"{self.spec.name}: its app has ended")
        await asyncio.gather(*(worker.stop() for worker in list(self.workers)))
