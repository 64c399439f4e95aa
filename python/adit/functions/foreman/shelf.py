"""Queues and dicts in the store, and what was answered to those who may ask again as they did not hear it."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from .book import Book
from .store import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .book import Posted
    from .store import Row, Statement, Store

LEFT_S = 7 * 24 * 3600.0  # that what belongs to no app is kept without a name
ASKED_S, ASKED_MAX, ASKED_BYTES = (
    300.0,
    20_000,
    64 << 20,
)  # that answers are kept; whoever has not heard one asks again within seconds
ONCE_MAX = 64


class Answers(Book):
    """By what those who ask call their question: whoever asks once more gets the same answer, and nothing is done
    twice."""

    def __init__(self, store: Store | None = None, foreman: str = "") -> None:
        super().__init__(store, foreman)
        self.tables = TABLES
        self._given: OrderedDict[str, tuple[float, dict[str, Any], bytes]] = OrderedDict()
        self._bytes = 0

    def find(self, once: str) -> tuple[dict[str, Any], bytes] | None:
        """What was answered."""
        found = self._given.get(once)
        return None if found is None else found[1:]

    async def written(self, once: str) -> tuple[dict[str, Any], bytes] | None:
        """What was answered, if it is in the store with what was done for it; None when that could not be."""
        if (found := self.find(once)) is None:
            return None
        if not await self.read("SELECT id FROM answers WHERE id = ?", once):
            self._drop(once)
            return None
        return found

    def note(self, once: str, meta: dict[str, Any], payload: bytes = b"") -> tuple[Statement, ...]:
        """It is about to be answered: what is to be written along with what was done."""
        if not once or self._store is None:
            return ()
        now = time.time()
        self._keep(once, now, meta, payload)
        return (
            ("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", once, self._foreman, now, json.dumps(meta), payload),
            *(("DELETE FROM answers WHERE id = ?", old) for old in self._forget(now)),
        )

    def _keep(self, once: str, given: float, meta: dict[str, Any], payload: bytes) -> None:
        self._given[once] = given, meta, payload
        self._bytes += len(payload)

    def _drop(self, once: str) -> None:
        _, _, payload = self._given.pop(once, (0.0, {}, b""))
        self._bytes -= len(payload)

    def _forget(self, now: float) -> Iterator[str]:
        """Those that are old, or too many, but for the last."""
        while len(self._given) > 1:
            first = next(iter(self._given))
            given = self._given[first][0]
            if given > now - ASKED_S and len(self._given) <= ASKED_MAX and self._bytes <= ASKED_BYTES:
                return
            self._drop(first)
            yield first

    async def load(self) -> None:
        """Those of the foreman before."""
        for row in await self.read("SELECT * FROM answers WHERE foreman = ? ORDER BY given", self._foreman):
            self._keep(row["id"], row["given"], json.loads(row["meta"]), bytes(row["payload"]))


class Shelf(Book):
    """All queues and dicts of a foreman."""

    def __init__(self, store: Store | None = None, foreman: str = "") -> None:
        super().__init__(store, foreman)
        self.tables = TABLES

    def made(self, kind: str, identity: str, name: str | None, app: str | None, maxsize: int = 0) -> Record:
        """A new one."""
        row = (identity, self._foreman, kind, name or "", app or "", maxsize, 1, time.time())
        self.post((f"INSERT INTO held VALUES ({', '.join('?' * len(row))})", *row))
        return Record(self, identity)

    async def held(self, apps: Iterable[str]) -> list[Row]:
        """Those that are still anybody's, with what is in them; the others go."""
        there, rows = set(apps), []
        for row in await self.read("SELECT * FROM held WHERE foreman = ?", self._foreman):
            is_left = row["made"] < time.time() - LEFT_S if not row["app"] else row["app"] not in there
            if is_left and not row["name"]:
                Record(self, row["id"]).ended()
                continue
            inside = "SELECT * FROM {} WHERE held = ? ORDER BY seq"
            row["inside"] = await self.read(inside.format("items" if row["kind"] == "queue" else "entries"), row["id"])
            rows.append(row)
        return rows


class Record:
    """Of one queue or dict."""

    def __init__(self, shelf: Shelf, identity: str) -> None:
        self._shelf, self.id = shelf, identity
        self.seq = 0  # of the latest item or entry

    def next(self) -> int:
        """In the order in which they came."""
        self.seq += 1
        return self.seq

    def unless_written(self, undo: Callable[[], object]) -> None:
        """See Book."""
        self._shelf.unless_written(undo)

    def distrusted(self) -> Posted:
        """Somebody has put into it who is not trusted."""
        return self._shelf.post(("UPDATE held SET trusted = 0 WHERE id = ?", self.id))

    def ended(self) -> Posted:
        """With all that is in it."""
        gone = (("items", "held"), ("entries", "held"), ("held", "id"))
        return self._shelf.post(*((f"DELETE FROM {table} WHERE {key} = ?", self.id) for table, key in gone))

    # --- of a queue ---

    def put(
        self, items: list[tuple[int, bytes]], partition: str, ttl: float, also: tuple[Statement, ...] = ()
    ) -> Posted:
        """Items, by their numbers."""
        until = time.time() + ttl
        insert = "INSERT INTO items VALUES (?, ?, ?, ?, '', ?)"
        return self._shelf.post(*((insert, self.id, seq, partition, until, item) for seq, item in items), *also)

    def handed(self, numbers: list[int], taker: str) -> Posted:
        """To somebody who is to say that he has them; to nobody any more, where that is ''."""
        hand = "UPDATE items SET taker = ? WHERE held = ? AND seq = ?"
        return self._shelf.post(*((hand, taker, self.id, number) for number in numbers))

    def taken(self, numbers: list[int], also: tuple[Statement, ...] = ()) -> Posted:
        """They are somebody's."""
        gone = (("DELETE FROM items WHERE held = ? AND seq = ?", self.id, number) for number in numbers)
        return self._shelf.post(*gone, *also)

    # --- of a dict ---

    def set(self, entries: dict[bytes, bytes], also: tuple[Statement, ...] = ()) -> Posted:
        """Values of keys."""
        insert = (
            "INSERT INTO entries VALUES (?, ?, ?, ?) ON CONFLICT (held, entry) DO UPDATE SET value = excluded.value"
        )
        return self._shelf.post(*((insert, self.id, self.next(), k, v) for k, v in entries.items()), *also)

    def removed(self, key: bytes, also: tuple[Statement, ...] = ()) -> Posted:
        """One key."""
        return self._shelf.post(("DELETE FROM entries WHERE held = ? AND entry = ?", self.id, key), *also)

    def cleared(self) -> Posted:
        """All keys."""
        return self._shelf.post(("DELETE FROM entries WHERE held = ?", self.id))


TABLES = Tables(
    "held",
    (
        "CREATE TABLE held (id TEXT PRIMARY KEY, foreman TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,"
        " app TEXT NOT NULL, maxsize BIGINT NOT NULL, trusted BIGINT NOT NULL, made DOUBLE PRECISION NOT NULL)",
        "CREATE TABLE items (held TEXT NOT NULL, seq BIGINT NOT NULL, part TEXT NOT NULL,"
        " expires DOUBLE PRECISION NOT NULL, taker TEXT NOT NULL, item BYTEA NOT NULL, PRIMARY KEY (held, seq))",
        "CREATE TABLE entries (held TEXT NOT NULL, seq BIGINT NOT NULL, entry BYTEA NOT NULL, value BYTEA NOT NULL,"
        " PRIMARY KEY (held, entry))",
        "CREATE TABLE answers (id TEXT PRIMARY KEY, foreman TEXT NOT NULL, given DOUBLE PRECISION NOT NULL,"
        " meta TEXT NOT NULL, payload BYTEA NOT NULL)",
    ),
)
UNWRITTEN = Shelf()
