"""Queues: items that nobody here understands, by partition, first in, first out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from ...exception import Error, InvalidError, NotFoundError, QueueFullError
from .budget import Budget
from .holding import Holding

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

ITEMS_MAX = 5000  # of a partition
ITEM_MAX = 1 << 20
BYTES_MAX = 1 << 30  # of all items of all queues
PARTITIONS_MAX = 100_000
PARTITION_NAME_MAX = 64
QUEUE_BYTES = 256 << 20  # of the items of one queue
ITEM_COST, PARTITION_COST = 256, 1024  # what they count for, beside their bytes
SWEEP_S = 60.0  # how often partitions that have expired are looked for


class _Partition:
    def __init__(self) -> None:
        self.items: deque[bytes] = deque()
        self.expires = 0.0


def _cost(items: Collection[bytes]) -> int:
    return sum(map(len, items)) + ITEM_COST * len(items)


class Queue:
    """One queue. Those who wait are woken when it changes, and when it ends."""

    def __init__(self, maxsize: int, budget: Budget) -> None:
        self._budget = budget.share("items of one queue", QUEUE_BYTES)
        if not 0 <= maxsize <= ITEMS_MAX:
            raise InvalidError(f"queue: maxsize={maxsize} is not from 0 to {ITEMS_MAX} (use partitions for more)")
        self.limit = maxsize or ITEMS_MAX
        self._sweeping: asyncio.TimerHandle | None = None
        self._partitions: dict[str, _Partition] = {}
        self._changed = asyncio.Condition()
        self.ended = False
        self.trusted = True  # until somebody has put who is not: nobody tells later whose an item was

    def _find(self, name: str) -> _Partition | None:
        partition = self._partitions.get(name)
        if partition is not None and 0 < partition.expires < time.monotonic():
            self._forget(name)
            return None
        return partition

    def _make(self, name: str) -> _Partition:
        if (partition := self._find(name)) is not None:
            return partition
        if len(name) > PARTITION_NAME_MAX:
            raise InvalidError(f"partition: its name is longer than {PARTITION_NAME_MAX} characters")
        if len(self._partitions) >= PARTITIONS_MAX:
            raise InvalidError(f"partition: a queue has at most {PARTITIONS_MAX} of them")
        self._budget.take(PARTITION_COST)
        partition = self._partitions[name] = _Partition()
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        return partition

    def _sweep(self) -> None:
        """Those that nobody looks at go, too."""
        for name in list(self._partitions):
            self._find(name)
        again = bool(self._partitions)
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep) if again else None

    def _forget(self, name: str) -> None:
        partition = self._partitions.pop(name, None)
        if partition is not None:
            self._budget.give(PARTITION_COST + _cost(partition.items))

    async def _wait(self, until: float) -> bool:
        """Until something changes. False when the time is over."""
        left = until - time.monotonic()
        if left <= 0:
            return False
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), left)
            return True
        return False

    def _check(self) -> None:
        if self.ended:
            raise NotFoundError("queue: it has ended (its `with` block is over, or its app)")

    async def put(self, items: Iterable[bytes], partition: str, ttl: float, wait: float, *, some: bool) -> int:
        """All of them, or with ``some`` as many as there is room for; QueueFullError when there is none in time."""
        given = list(items)
        if any(len(item) > ITEM_MAX for item in given):
            raise InvalidError(f"queue: an item is larger than {ITEM_MAX >> 20} MiB (put a path or a URL instead)")
        if len(given) > self.limit and not some:
            raise InvalidError(f"queue: {len(given)} items at once, of at most {self.limit} (put fewer at a time)")
        until = time.monotonic() + wait
        async with self._changed:
            while True:
                self._check()
                place = self._make(partition)
                room = self.limit - len(place.items)
                if room >= len(given) or (some and room > 0):
                    break
                if not await self._wait(until):
                    raise QueueFullError(f"queue: it has {len(place.items)} items, as many as it may")
            taken = given[: max(room, 0)]
            self._budget.take(_cost(taken))
            place.items.extend(taken)
            place.expires = time.monotonic() + ttl
            self._changed.notify_all()
        return len(taken)

    async def get(self, n: int, partition: str, wait: float) -> list[bytes]:
        """Up to n items, at least one; an empty list when there is none in time. They count until they are ``sent``, or
        put back."""
        if n < 1:
            raise InvalidError(f"queue: {n} items are none (get at least 1)")
        until = time.monotonic() + wait
        async with self._changed:
            while True:
                self._check()
                place = self._find(partition)
                if place is not None and place.items:
                    break
                if not await self._wait(until):
                    return []
            taken = [place.items.popleft() for _ in range(min(n, len(place.items)))]
            self._changed.notify_all()
        return taken

    def sent(self, items: list[bytes]) -> None:
        """They are somebody's."""
        self._budget.give(_cost(items))

    async def put_back(self, items: list[bytes], partition: str) -> None:
        """Whoever was to have them went away."""
        async with self._changed:
            try:
                self._check()
                place = self._make(partition)
            except Error:
                self.sent(items)
                return
            place.items.extendleft(reversed(items))
            self._changed.notify_all()

    def peek(self, partition: str) -> list[bytes]:
        """What is there, and stays."""
        self._check()
        place = self._find(partition)
        return list(place.items) if place else []

    def count(self, partition: str | None, *, total: bool) -> int:
        """How many items there are."""
        self._check()
        if total:
            return sum(len(p.items) for name in list(self._partitions) if (p := self._find(name)) is not None)
        place = self._find(partition or "")
        return len(place.items) if place else 0

    async def clear(self, partition: str | None, *, everything: bool) -> None:
        """Forgets items."""
        async with self._changed:
            self._check()
            for name in list(self._partitions) if everything else [partition or ""]:
                self._forget(name)
            self._changed.notify_all()

    async def end(self) -> None:
        """Whoever waits is told at once."""
        async with self._changed:
            self.ended = True
            if self._sweeping is not None:
                self._sweeping.cancel()
            for name in list(self._partitions):
                self._forget(name)
            self._changed.notify_all()


class Queues(Holding[Queue]):
    """All of a foreman's."""

    def __init__(self) -> None:
        super().__init__("queue")
        self._budget = Budget("queues", BYTES_MAX)

    def named(self, name: str | None, maxsize: int, *, missing: bool, app: str | None = None) -> str:
        """The id of a new one, or of the one of that name."""
        return self.create(name, lambda: Queue(maxsize, self._budget), missing=missing, app=app)
