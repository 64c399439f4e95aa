"""The tokens that containers were given, while they are good: what a foreman needs to revoke them, or the next one if
it ends before. That is ids and times alone, with which nobody opens a tunnel."""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from .book import Book, done
from .store import Tables

if TYPE_CHECKING:
    from .store import Store

TABLES = Tables(
    "tokens",
    (
        "CREATE TABLE tokens (id TEXT PRIMARY KEY, root TEXT NOT NULL, ends DOUBLE PRECISION NOT NULL,"
        " worker TEXT NOT NULL, foreman TEXT NOT NULL)",
    ),
)


@dataclass(frozen=True)
class Given:
    """One of them."""

    id: str
    root: str
    """The id of the operator's token that it is from."""
    ends: float
    """When it expires, as ``time.time()``."""
    worker: str
    """The container's id."""


class Tokens(Book):
    """Of one foreman."""

    def __init__(self, store: Store | None = None, foreman: str = "") -> None:
        super().__init__(store, foreman)
        self.tables = TABLES
        self._given: dict[str, Given] = {}  # by their ids

    async def load(self) -> None:
        """Those of the foreman before."""
        of_before = "SELECT id, root, ends, worker FROM tokens WHERE foreman = ? AND ends > ?"
        for row in await self.read(of_before, self._foreman, time.time()):
            self._given[row["id"]] = Given(**row)

    async def add(self, token: Given) -> None:
        """A container is about to get it. Those that have expired are dropped, of whatever foreman."""
        now = time.time()
        self._given = {one.id: one for one in self._given.values() if one.ends > now}
        self._given[token.id] = token
        insert = "INSERT INTO tokens VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
        drop = "DELETE FROM tokens WHERE ends <= ?"
        await done(self.keep((insert, *astuple(token), self._foreman), (drop, now)))

    @property
    def workers(self) -> set[str]:
        """The containers that have some."""
        return {token.worker for token in self._given.values()}

    def take(self, worker: str) -> list[Given]:
        """Those of a container that has ended. What is not ``revoked`` then stays in the store for the next foreman."""
        taken = [token for token in self._given.values() if token.worker == worker]
        for token in taken:
            del self._given[token.id]
        return taken

    def revoked(self, token: Given) -> None:
        """It is good no more."""
        self.keep(("DELETE FROM tokens WHERE id = ?", token.id))
