"""What a foreman that is a service must not forget, in the store, from which the next one at the same socket goes on.
What is written is written in order, and whoever is answered is so when it is. A foreman of a program writes nothing, as
all that it knows ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from ...exception import Error, InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .store import Row, Statement, Store, Tables

    Posted = asyncio.Future[list[Row]] | None

AGAIN_S = 1.0  # until what could not be written is tried again
AT_ONCE = 100  # that are written in one go when they had to wait


class Book:
    """Of one foreman and one kind of thing."""

    tables: Tables

    def __init__(self, store: Store | None = None, foreman: str = "") -> None:
        self._store, self._foreman = store, foreman
        self._last: Posted = None
        self._gathered: list[Statement] | None = None
        self._undone: list[Callable[[], object]] = []  # if what is gathered is not written
        self._unwritten: deque[tuple[tuple[Statement, ...], asyncio.Future[list[Row]]]] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def post(self, *statements: Statement) -> Posted:
        """Its end may be waited for; what fails is told, as what runs goes on."""
        if self._store is None or not statements:
            return None
        if self._gathered is not None:
            self._gathered += statements
            return None
        self._last = self._store.post(self.tables, *statements)
        self._last.add_done_callback(_tell)
        return self._last

    def unless_written(self, undo: Callable[[], object]) -> None:
        """Is done when what was posted last cannot be written, as whoever asked for it hears that it is not so."""
        if self._gathered is not None:
            self._undone.append(undo)
        elif self._last is not None:
            self._last.add_done_callback(lambda posted: None if is_written(posted) else undo())

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is posted in the block, in which nothing is waited for, is written in one go at its end."""
        gathered: list[Statement] = []
        self._gathered = gathered
        try:
            yield
        finally:
            self._gathered = None
            undone, self._undone = self._undone, []
        if self.post(*gathered) is not None:
            for undo in undone:
                self.unless_written(undo)

    def keep(self, *statements: Statement) -> Posted:
        """``post``, of what nobody can be told that it failed, as it has happened: it is tried until it is written, and
        what is to be kept later comes behind it. It may be done twice."""
        if self._store is None or not statements:
            return None
        self._last = asyncio.get_running_loop().create_future()
        self._last.add_done_callback(_tell)
        self._unwritten.append((statements, self._last))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="book")
        return self._last

    async def _write(self) -> None:
        assert self._store is not None
        most, trouble = AT_ONCE, ""
        while self._unwritten:
            some = list(islice(self._unwritten, most))
            result: list[Row] | Exception = []
            try:
                await self._store.post(self.tables, *(one for statements, _ in some for one in statements))
                most, trouble = AT_ONCE, ""
            except Exception as error:
                result, may_be_later = error, isinstance(error, Error) and not isinstance(error, InvalidError)
                if may_be_later and not self._closing.is_set():
                    trouble = _say(error, trouble)
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._closing.wait(), AGAIN_S)
                    continue
                if may_be_later:
                    some = list(self._unwritten)
                elif len(some) > 1:  # it is one of them
                    most = 1
                    continue
            for _ in some:
                _, kept = self._unwritten.popleft()
                if isinstance(result, Exception):
                    kept.set_exception(result)
                else:
                    kept.set_result(result)
        self._writing = None

    async def close(self) -> None:
        """What cannot be written now is not."""
        self._closing.set()
        if self._writing is not None:
            await self._writing

    async def read(self, sql: str, *values: Any) -> list[Row]:
        """What a question gives."""
        return await self._store.read(self.tables, sql, *values) if self._store is not None else []

    async def is_written(self) -> None:
        """All until now."""
        await done(self._last)


async def done(posted: Posted) -> None:
    """It is written. Whoever waits may go, and it is all the same."""
    if posted is not None:
        await asyncio.shield(posted)


def is_written(posted: asyncio.Future[list[Row]]) -> bool:
    """Of what is over: whether it went well."""
    return not posted.cancelled() and posted.exception() is None


def _tell(posted: asyncio.Future[list[Row]]) -> None:
    if not posted.cancelled() and (error := posted.exception()) is not None:
        _say(error)


def _say(error: BaseException, before: str = "") -> str:
    text = str(error)
    if text != before:
        print(f"adit: what is to outlive the foreman is not written down: {text}", file=sys.stderr, flush=True)
    return text
