"""Queues: items that nobody here understands, by partition, first in, first out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...exception import Error, InvalidError, NotFoundError, QueueFullError
from .book import done
from .budget import Budget
from .holding import Holding
from .shelf import UNWRITTEN, Record
from .store import can_keep

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from .book import Posted
    from .shelf import Shelf
    from .store import Row, Statement

ITEMS_MAX = 5000  # of a partition
ITEM_MAX = 1 << 20
BYTES_MAX = 1 << 30  # of all items of all queues
PARTITIONS_MAX = 100_000
PARTITION_NAME_MAX = 64
QUEUE_BYTES = 256 << 20  # of the items of one queue
ITEM_COST, PARTITION_COST = 256, 1024  # what they count for, beside their bytes
ACKNOWLEDGE_S = 60.0  # until items that nobody says to have are others'
BACK_S = 24 * 3600.0  # that they stay then, if what they were in has gone meanwhile
SWEEP_S = 60.0  # how often partitions that have expired are looked for


if TYPE_CHECKING:
    Item = tuple[int, bytes]
    """With its number in the order in which they came."""


@dataclass
class _Handed:
    """Items that somebody was given who has not said yet that he has them."""

    items: list[Item]
    partition: str
    timer: asyncio.TimerHandle
    written: Posted


class _Partition:
    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.expires = 0.0


def _cost(items: Collection[Item]) -> int:
    return sum(len(item) for _, item in items) + ITEM_COST * len(items)


def _numbers(items: Iterable[Item]) -> list[int]:
    return [number for number, _ in items]


class Queue:
    """One queue. Those who wait are woken when it changes, and when it ends."""

    def __init__(self, maxsize: int, budget: Budget, record: Record | None = None) -> None:
        self._record = record or Record(UNWRITTEN, "")
        self._handed: dict[str, _Handed] = {}  # by what their getters call their question
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
        if not can_keep(name):
            raise InvalidError(f"partition: its name {name!a} has characters that cannot be kept (leave them out)")
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
            self._record.taken(_numbers(partition.items))

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

    def distrust(self, trusted: bool) -> None:
        """Whoever puts something is ``trusted``, or not."""
        if self.trusted and not trusted:
            self.trusted = False
            self._record.distrusted()

    async def put(
        self,
        items: Iterable[bytes],
        partition: str,
        ttl: float,
        wait: float,
        *,
        some: bool,
        also: Callable[[int], tuple[Statement, ...]] = lambda _: (),
    ) -> int:
        """All of them, or with ``some`` as many as there is room for; QueueFullError when there is none in time.
        ``also`` tells what is to be written along with them, by how many they are."""
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
            taken = [(0, item) for item in given[: max(room, 0)]]
            self._budget.take(_cost(taken))
            taken = [(self._record.next(), item) for _, item in taken]
            place.items.extend(taken)
            place.expires = time.monotonic() + ttl
            written = self._record.put(taken, partition, ttl, also(len(taken)))
            self._changed.notify_all()
        try:
            await done(written)
        except Exception:  # whoever puts them hears that they are not here
            await self._take_out(place, partition, set(_numbers(taken)))
            raise
        return len(taken)

    async def _take_out(self, place: _Partition, name: str, numbers: set[int]) -> None:
        """Those that are still there."""
        async with self._changed:
            if self._partitions.get(name) is place:
                self._budget.give(_cost([item for item in place.items if item[0] in numbers]))
                place.items = deque(item for item in place.items if item[0] not in numbers)
                self._changed.notify_all()

    async def get(self, n: int, partition: str, wait: float, once: str = "") -> list[Item]:
        """Up to n items, at least one; an empty list when there is none in time. They count until they are ``sent``, or
        put back. With ``once`` they are handed to whoever calls his question so, who is to ``acknowledge`` them; who
        asks again gets the same."""
        if n < 1:
            raise InvalidError(f"queue: {n} items are none (get at least 1)")
        until = time.monotonic() + wait
        async with self._changed:
            while True:
                self._check()
                if once in self._handed:
                    taken, written = self._handed[once].items, self._handed[once].written
                    break
                place = self._find(partition)
                if place is not None and place.items:
                    taken = [place.items.popleft() for _ in range(min(n, len(place.items)))]
                    written = self._hand(taken, partition, once) if once else None
                    self._changed.notify_all()
                    break
                if not await self._wait(until):
                    return []
        await done(written)
        return taken

    def _hand(self, items: list[Item], partition: str, once: str) -> Posted:
        later = asyncio.get_running_loop().call_later(ACKNOWLEDGE_S, self._forsake, once)
        written = self._record.handed(_numbers(items), once)
        self._handed[once] = _Handed(items, partition, later, written)
        return written

    def _forsake(self, once: str) -> None:
        """Whoever was given items has not said that he has them."""
        self._putting = asyncio.ensure_future(self.take_back(once))

    def sent(self, items: list[Item]) -> None:
        """They are somebody's."""
        self._budget.give(_cost(items))

    async def acknowledge(self, once: str, also: tuple[Statement, ...] = ()) -> None:
        """Whoever was handed items has them. NotFoundError when that took too long, and they are others'."""
        handed = self._handed.pop(once, None)
        if handed is None:
            raise NotFoundError("queue: what was taken from it was put back, as nobody said for too long that it came")
        handed.timer.cancel()
        self.sent(handed.items)
        await done(self._record.taken(_numbers(handed.items), also))

    async def take_back(self, once: str) -> None:
        """Whoever was handed items is gone."""
        handed = self._handed.pop(once, None)
        if handed is not None:
            handed.timer.cancel()
            written = self._record.handed(_numbers(handed.items), "")
            await self.put_back(handed.items, handed.partition)
            await done(written)

    async def put_back(self, items: list[Item], partition: str) -> None:
        """Whoever was to have them went away."""
        async with self._changed:
            try:
                self._check()
                place = self._make(partition)
            except Error:
                self.sent(items)
                self._record.taken(_numbers(items))
                return
            place.expires = place.expires or time.monotonic() + BACK_S
            place.items.extendleft(reversed(items))
            self._changed.notify_all()

    def restore(self, rows: list[Row]) -> None:
        """What the foreman before had in it, in order."""
        now, wall = time.monotonic(), time.time()
        handed: dict[str, tuple[str, list[Item]]] = {}
        for row in rows:
            item = (row["seq"], bytes(row["item"]))
            self._record.seq = max(self._record.seq, row["seq"])
            self._budget.take(_cost([item]))
            if row["taker"]:
                handed.setdefault(row["taker"], (row["part"], []))[1].append(item)
                continue
            place = self._make(row["part"])
            place.items.append(item)
            place.expires = max(0.001, now + row["expires"] - wall)
        for once, (partition, items) in handed.items():
            self._hand(items, partition, once)

    def peek(self, partition: str) -> list[bytes]:
        """What is there, and stays."""
        self._check()
        place = self._find(partition)
        return [item for _, item in place.items] if place else []

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
                place = self._find(name)
                self._forget(name)
                if place is not None and place.items:
                    self._record.unless_written(functools.partial(self._come_back, name, list(place.items)))
            self._changed.notify_all()

    def _come_back(self, name: str, items: list[Item]) -> None:
        """What could not be cleared, as the next foreman would have it, too."""
        self._budget.give(-_cost(items))  # there was room for them
        self._putting = asyncio.ensure_future(self.put_back(items, name))

    async def end(self) -> None:
        """Whoever waits is told at once."""
        async with self._changed:
            self.ended = True
            self._record.ended()
            for handed in self._handed.values():
                handed.timer.cancel()
                self.sent(handed.items)
            self._handed.clear()
            if self._sweeping is not None:
                self._sweeping.cancel()
            for name in list(self._partitions):
                self._forget(name)
            self._changed.notify_all()


class Queues(Holding[Queue]):
    """All of a foreman's."""

    def __init__(self, shelf: Shelf = UNWRITTEN) -> None:
        super().__init__("queue", shelf)
        self._budget = Budget("queues", BYTES_MAX)

    def named(self, name: str | None, maxsize: int, *, missing: bool, app: str | None = None) -> str:
        """The id of a new one, or of the one of that name."""

        def make(identity: str) -> Queue:
            made = Queue(maxsize, self._budget)
            made._record = self._shelf.made("queue", identity, name, app, maxsize)
            return made

        return self.create(name, make, missing=missing, app=app)

    def restore(self, row: Row) -> None:
        """One that the foreman before had."""
        queue = Queue(row["maxsize"], self._budget, Record(self._shelf, row["id"]))
        queue.trusted = bool(row["trusted"])
        queue.restore(row["inside"])
        self.put_in(row, queue)
