"""``Queue``: items from one container to another, or to the caller. It lives at the foreman."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from ..exception import InvalidError, NotFoundError, QueueFullError
from . import plain, session, wire
from .held import Ephemeral, Held
from .twin import twin, twin_iterator

TTL_S = 24 * 3600
_NO_TIME = 0.0


def _check_timeout(block: bool, timeout: float | None) -> float | None:
    if timeout is not None and timeout < 0:
        raise InvalidError(f"timeout: {timeout} is less than 0")
    return timeout if block else _NO_TIME


def _check_size(given: object) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise InvalidError(f"Queue: maxsize: {given!r} is no whole number from 0 on")


class Queue(Held):
    """A queue of values, first in, first out, at the foreman; partitions of one are queues by themselves.

    Make one with ``Queue.ephemeral()`` (in a ``with`` block, at whose end it is gone) or ``Queue.from_name(name)``. It
    can be sent to functions and used there."""

    _kind = "queue"
    _instead: ClassVar[dict[str, str]] = {
        "new": "use Queue.ephemeral",
        "persisted": "use Queue.from_name(name, create_if_missing=True)",
        "lookup": "use Queue.from_name",
        "delete": "use clear(all=True)",
    }

    @staticmethod
    def ephemeral(*, maxsize: int = 0) -> Ephemeral[Queue]:
        """One for the ``with`` block. ``maxsize`` is the most items of a partition (0: 5,000)."""
        _check_size(maxsize)
        return Ephemeral(Queue, maxsize=maxsize)

    @staticmethod
    def from_name(name: str, *, create_if_missing: bool = False, maxsize: int = 0) -> Queue:
        """The one of that name, for all apps of a foreman, for as long as that runs; one of ``adit foreman`` stays when
        that starts again. NotFoundError when it is first used and there is none."""
        _check_size(maxsize)
        return Queue._named(name, create_if_missing, maxsize=maxsize)

    @twin
    def put(
        self,
        v: Any,
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
        partition_ttl: int = TTL_S,
    ) -> None:
        """Adds an item. When the queue is full, waits, for ``timeout`` seconds or without end; ``queue.Full`` after
        that, and at once with ``block=False``."""
        self._put([v], block, timeout, partition, partition_ttl)

    @twin
    def put_many(
        self,
        vs: list[Any],
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
        partition_ttl: int = TTL_S,
    ) -> None:
        """Adds items, all of them or none; no more at once than a partition may have."""
        self._put(list(vs), block, timeout, partition, partition_ttl)

    def _put(self, vs: list[Any], block: bool, timeout: float | None, partition: str | None, ttl: int) -> None:
        payload, channel = wire.pack_items([wire.encode(v, "Queue.put") for v in vs]), session.channel()
        meta = {"queue": self.object_id, "partition": partition or "", "ttl": ttl, **channel.once()}
        if channel.poll("queue_put", meta, payload, _check_timeout(block, timeout)) is None:
            raise QueueFullError("Queue.put: the queue is full (take items out, or give it a larger maxsize)")

    def _get(self, n: int, block: bool, timeout: float | None, partition: str | None) -> list[Any] | None:
        channel, wait = session.channel(), _check_timeout(block, timeout)
        until = None if wait is None else time.monotonic() + wait
        while True:
            meta = {"queue": self.object_id, "partition": partition or "", "n": n, **channel.once()}
            left = None if until is None else max(_NO_TIME, until - time.monotonic())
            found = channel.poll("queue_get", meta, b"", left)
            if found is None:
                return None
            if not found[0].get("acknowledge"):
                break
            with contextlib.suppress(NotFoundError):  # it took so long that they were given to others
                channel.ask("queue_got", meta)
                break
        trusted = bool(found[0].get("trusted"))
        return [wire.decode(item, trusted=trusted, what="Queue.get") for item in wire.unpack_items(found[1])]

    @twin
    def get(self, block: bool = True, timeout: float | None = None, *, partition: str | None = None) -> Any:
        """Takes the oldest item, waiting for one. After ``timeout`` seconds ``queue.Empty``; with ``block=False`` it is
        None when there is none."""
        items = self._get(1, block, timeout, partition)
        if items is None:
            if not block:
                return None
            raise queue.Empty
        return items[0]

    @twin
    def get_many(
        self, n_values: int, block: bool = True, timeout: float | None = None, *, partition: str | None = None
    ) -> list[Any]:
        """Takes up to so many, at least one. After ``timeout`` seconds ``queue.Empty``; with ``block=False`` the list
        may be empty."""
        if n_values < 1:
            raise InvalidError(f"Queue.get_many: n_values={n_values} are none (ask for 1 or more)")
        items = self._get(n_values, block, timeout, partition)
        if items is None:
            if not block:
                return []
            raise queue.Empty
        return items

    @twin
    def len(self, *, partition: str | None = None, total: bool = False) -> int:
        """How many items there are; ``total=True`` counts all partitions."""
        return int(self._ask("len", partition=partition or "", total=total)[0]["n"])

    @twin
    def clear(self, *, partition: str | None = None, all: bool = False) -> None:
        """Forgets the items of a partition, or of all."""
        self._ask("clear", partition=partition or "", all=all)

    @twin_iterator
    def iterate(self, *, partition: str | None = None, item_poll_timeout: float = 0.0) -> Iterator[Any]:
        """Over the items that are there, leaving them; ends when no more has come for ``item_poll_timeout`` seconds."""
        seen, end = 0, time.monotonic() + item_poll_timeout
        while True:
            meta, found = self._ask("peek", partition=partition or "")
            items = wire.unpack_items(found)
            for item in items[seen:]:
                yield wire.decode(item, trusted=bool(meta.get("trusted")), what="Queue.iterate")
                end = time.monotonic() + item_poll_timeout
            seen = max(seen, len(items))
            if time.monotonic() >= end:
                return
            time.sleep(min(0.05, max(0.0, end - time.monotonic())))


plain.handle(Queue, "queue", lambda held: held.object_id, lambda identity: Queue._of(str(identity)))
