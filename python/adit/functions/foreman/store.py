"""What outlives a foreman: tables in a database that all foremen of a user share. SQL is SQLite's as far as PostgreSQL
understands it, too: values are ``?``, types TEXT, BIGINT, DOUBLE PRECISION, BYTEA, whoever inserts knows the key
(``ON CONFLICT (key) DO UPDATE SET x = excluded.x``), and a sum is cast to DOUBLE PRECISION."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ...exception import ConfigError, InvalidError
from .places import state_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import TypeVar

    T = TypeVar("T")

_VERSIONS = "CREATE TABLE IF NOT EXISTS versions (part TEXT PRIMARY KEY, version BIGINT NOT NULL)"
_NOTE_VERSION = "INSERT INTO versions VALUES (?, ?) ON CONFLICT (part) DO UPDATE SET version = excluded.version"

Row = dict[str, Any]
Statement = tuple[Any, ...]
"""SQL, and behind it the values of its question marks."""


@dataclass(frozen=True)
class Tables:
    """Those of one part of the foreman. Later versions of adit add steps and change none."""

    part: str
    steps: tuple[str, ...]


if TYPE_CHECKING:
    Run = Callable[..., list[Row]]
    """``run(sql, *values)`` within a transaction."""


class Database(Protocol):
    """Used by one thread at a time."""

    name: str
    """For people: nothing secret is in it."""

    def transaction(self) -> AbstractContextManager[Run]:
        """All that is run in the block, or none of it. ConfigError when it cannot be; InvalidError when it never can,
        because of what it is."""

    def upgrade(self) -> AbstractContextManager[Run]:
        """A transaction that may change tables: of several who would, one is in the block at a time."""

    def close(self) -> None:
        """Lets go of it."""


def default_place() -> str:
    """``ADIT_STORE``, a file or a URL; or a file in the user's state folder."""
    return os.environ.get("ADIT_STORE") or state_path("functions.db")


def open_database(place: str) -> Database:
    """A file, or what a URL leads to."""
    scheme, found, _ = place.partition("://")
    if not found:
        from .sqlite import Sqlite

        return Sqlite(os.path.abspath(place))
    if scheme not in ("postgresql", "postgres"):
        raise InvalidError(f"store: adit has no store at {scheme}:// (name a file, or postgresql://...)")
    from .postgresql import Postgresql

    return Postgresql(place)


def can_keep(text: str) -> bool:
    """Whether all kinds of them can: what is half a character, or ends a string in C, not."""
    return not re.search("[\0\ud800-\udfff]", text)


class Store:
    """A database with a thread of its own, in which things are done in the order in which they were asked for. It is
    opened when it is first needed."""

    def __init__(self, place: str | None = None) -> None:
        self.place = place or default_place()
        self.is_shared = "://" in self.place  # with other machines
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None  # no executor's: foremen of programs close when those have ended
        self._database: Database | None = None
        self._current: set[str] = set()

    async def read(self, tables: Tables, sql: str, *values: Any) -> list[Row]:
        """What a question gives."""
        return await self.write(tables, (sql, *values))

    async def write(self, tables: Tables, *statements: Statement) -> list[Row]:
        """Does all of them or none; what the last one gives (``RETURNING``)."""
        return await self.post(tables, *statements)

    def post(self, tables: Tables, *statements: Statement) -> asyncio.Future[list[Row]]:
        """``write``, whose place in the order is taken at once, whether or not it is waited for."""
        return self._in_thread(lambda: self.do(tables, *statements))

    def do(self, tables: Tables, *statements: Statement) -> list[Row]:
        """``write`` for those who have no event loop."""
        database = self._open(tables)
        rows: list[Row] = []
        with database.transaction() as run:
            for sql, *values in statements:
                rows = run(sql, *values)
        return rows

    def _open(self, tables: Tables) -> Database:
        if self._database is None:
            self._database = open_database(self.place)
        if tables.part not in self._current:
            with self._database.upgrade() as run:
                self._upgrade(run, tables)
            self._current.add(tables.part)
        return self._database

    def _upgrade(self, run: Run, tables: Tables) -> None:
        run(_VERSIONS)
        found = run("SELECT version FROM versions WHERE part = ?", tables.part)
        version = found[0]["version"] if found else 0
        if version > len(tables.steps):
            assert self._database is not None
            raise ConfigError(f"store: {self._database.name}: a newer adit has changed its tables (update this one)")
        for step in tables.steps[version:]:
            run(step)
        run(_NOTE_VERSION, tables.part, len(tables.steps))

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(result)  # type: ignore[arg-type]
            else:
                done.set_exception(error)

        def job() -> None:
            result, error = None, None
            try:
                result = call()
            except BaseException as raised:
                error = raised
            loop.call_soon_threadsafe(settle, result, error)

        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="adit-store", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return done

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    async def close(self) -> None:
        """When all is written."""
        if self._thread is not None:
            await self._in_thread(self._close)
            self._jobs.put(None)
        else:
            self._close()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
