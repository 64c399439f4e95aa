"""What a foreman that is a service must not forget, in the store, from which the next one at the same socket goes on.
What is written is written in order, and whoever is answered is so when it is. A foreman of a program writes nothing, as
all that it knows ends with it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .store import Row, Statement, Store, Tables

    Posted = asyncio.Future[list[Row]] | None


class Book:
    """Of one foreman and one kind of thing."""

    tables: Tables

    def __init__(self, store: Store | None = None, foreman: str = "") -> None:
        self._store, self._foreman = store, foreman
        self._last: Posted = None

    def post(self, *statements: Statement) -> Posted:
        """Its end may be waited for; what fails is told, as what runs goes on."""
        if self._store is None or not statements:
            return None
        self._last = self._store.post(self.tables, *statements)
        self._last.add_done_callback(_tell)
        return self._last

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


def _tell(posted: asyncio.Future[list[Row]]) -> None:
    if not posted.cancelled() and (error := posted.exception()) is not None:
        print(f"adit: what is to outlive the foreman is not written down: {error}", file=sys.stderr, flush=True)
