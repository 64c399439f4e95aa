"""``Queue``: items from one container to another, or to the caller. It lives at the foreman."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..exception import InvalidError, QueueFullError
from . import plain, session, wire
from .twin import in_thread, twin

TTL_S = 24 * 3600
_NO_TIME = 0.0


def _check_timeout(block: bool, timeout: float | None) -> float | None:
    if timeout is not None and timeout < 0:
        raise InvalidError(f"timeout: {timeout} is less than 0")
    return timeout if block else _NO_TIME


class Queue:
    """A queue of values, first in, first out, at the foreman; partitions of one are queues by themselves.

    Make one with ``Queue.ephemeral()`` (in a ``with`` block, at whose end it is gone) or ``Queue.from_name(name)``. It
    can be sent to functions and used there."""

    def __init__(self) -> None:
        raise InvalidError("Queue: it has no constructor (use Queue.ephemeral() in a with block, or Queue.from_name())")

    _id: str | None
    _find: Callable[[], str]

    @classmethod
    def _of(cls, identity: str | None, find: Callable[[], str] | None = None) -> Queue:
        made = cls.__new__(cls)
        made._id = identity
        made._find = find or (lambda: str(identity))
        return made

    def __repr__(self) -> str:
        return f"<adit.Queue {self._id or '(not used yet)'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.object_id,)

    @property
    def object_id(self) -> str:
        """What names it at the foreman; whoever knows it may use the queue."""
        if self._id is None:
            self._id = self._find()
        return self._id

    @staticmethod
    def ephemeral(*, maxsize: int = 0) -> _Ephemeral:
        """One for the ``with`` block. ``maxsize`` is the most items of a partition (0: 5,000)."""
        return _Ephemeral(maxsize)

    @staticmethod
    def from_name(name: str, *, create_if_missing: bool = False, maxsize: int = 0) -> Queue:
        """The one of that name, for all apps of a foreman, for as long as that runs. NotFoundError when it is first
        used and there is none."""
        if not isinstance(name, str) or not name:
            raise InvalidError(f"Queue.from_name: {name!r} is no name")
        return Queue._of(None, lambda: _create(name=name, create=create_if_missing, maxsize=maxsize))

    def _ask(self, verb: str, payload: bytes = b"", **meta: Any) -> tuple[dict[str, Any], bytes]:
        return session.channel().ask(verb, {"queue": self.object_id, **meta}, payload)

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
        """Adds items, all of them or none."""
        self._put(list(vs), block, timeout, partition, partition_ttl)

    def _put(self, vs: list[Any], block: bool, timeout: float | None, partition: str | None, ttl: int) -> None:
        payload = wire.pack_items([wire.encode(v, "Queue.put") for v in vs])
        meta = {"queue": self.object_id, "partition": partition or "", "ttl": ttl}
        if session.channel().poll("queue_put", meta, payload, _check_timeout(block, timeout)) is None:
            raise QueueFullError("Queue.put: the queue is full (take items out, or give it a larger maxsize)")

    def _get(self, n: int, block: bool, timeout: float | None, partition: str | None) -> list[Any] | None:
        meta = {"queue": self.object_id, "partition": partition or "", "n": n}
        found = session.channel().poll("queue_get", meta, b"", _check_timeout(block, timeout))
        if found is None:
            return None
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
        items = self._get(n_values, block, timeout, partition)
        if items is None:
            if not block:
                return []
            raise queue.Empty
        return items

    @twin
    def len(self, *, partition: str | None = None, total: bool = False) -> int:
        """How many items there are; ``total=True`` counts all partitions."""
        return int(self._ask("queue_len", partition=partition or "", total=total)[0]["n"])

    @twin
    def clear(self, *, partition: str | None = None, all: bool = False) -> None:
        """Forgets the items of a partition, or of all."""
        self._ask("queue_clear", partition=partition or "", all=all)

    def iterate(self, *, partition: str | None = None, item_poll_timeout: float = 0.0) -> Iterator[Any]:
        """Over the items that are there, leaving them; ends when no more has come for ``item_poll_timeout`` seconds."""
        seen, end = 0, time.monotonic() + item_poll_timeout
        while True:
            meta, found = self._ask("queue_peek", partition=partition or "")
            items = wire.unpack_items(found)
            for item in items[seen:]:
                yield wire.decode(item, trusted=bool(meta.get("trusted")), what="Queue.iterate")
                end = time.monotonic() + item_poll_timeout
            seen = max(seen, len(items))
            if time.monotonic() >= end:
                return
            time.sleep(min(0.05, max(0.0, end - time.monotonic())))


def _restore(identity: str) -> Queue:
    return Queue._of(identity)


plain.handle(Queue, "queue", lambda queue: queue.object_id, lambda identity: _restore(str(identity)))


def _create(**meta: Any) -> str:
    return str(session.channel().ask("queue_create", meta)[0]["queue"])


class _Ephemeral(contextlib.AbstractContextManager[Queue], contextlib.AbstractAsyncContextManager[Queue]):
    def __init__(self, maxsize: int) -> None:
        self._maxsize, self._queues = maxsize, list[Queue]()

    def __enter__(self) -> Queue:
        self._queues.append(Queue._of(_create(maxsize=self._maxsize)))
        return self._queues[-1]

    def __exit__(self, *_: object) -> None:
        session.channel().ask("queue_end", {"queue": self._queues.pop().object_id})

    async def __aenter__(self) -> Queue:
        return await in_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await in_thread(self.__exit__)

    def __getattr__(self, name: str) -> Any:
        raise InvalidError(
            f"Queue.ephemeral(): it is opened by a with block (with Queue.ephemeral() as q: q.{name}...)"
        )
