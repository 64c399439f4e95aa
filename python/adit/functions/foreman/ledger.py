"""Containers and calls in the store."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING

from ..engine import Gpu
from ..spec import FunctionSpec
from . import owner
from .amounts import Amounts
from .book import Book, done
from .calls import Call
from .store import Tables

if TYPE_CHECKING:
    from .book import Posted
    from .budget import Budget
    from .store import Row, Statement, Store
    from .worker import Worker

DONE_S, DONE_BYTES = 7 * 24 * 3600.0, 1 << 30  # that outcomes are kept
UNWRITTEN_BYTES = 256 << 20  # of outcomes that wait for a store that is away
PURGE_BYTES = 64 << 20  # of new ones, until it is looked which are too many
PURGE_S = 24 * 3600.0  # until it is in any case

TABLES = Tables(
    "ledger",
    (
        "CREATE TABLE workers (id TEXT PRIMARY KEY, foreman TEXT NOT NULL, boot TEXT NOT NULL, app TEXT NOT NULL,"
        " version BIGINT NOT NULL, pool TEXT NOT NULL, spec TEXT NOT NULL, gpus TEXT NOT NULL, ready BIGINT NOT NULL,"
        " inputs BIGINT NOT NULL)",
        "CREATE TABLE calls (id TEXT PRIMARY KEY, foreman TEXT NOT NULL, app TEXT NOT NULL, function TEXT NOT NULL,"
        " pool TEXT NOT NULL, inside BIGINT NOT NULL, trusted BIGINT NOT NULL, made DOUBLE PRECISION NOT NULL,"
        " tries BIGINT NOT NULL, worker TEXT NOT NULL, slot BIGINT NOT NULL, began DOUBLE PRECISION NOT NULL,"
        " mark TEXT NOT NULL, done DOUBLE PRECISION NOT NULL, size BIGINT NOT NULL, outcome TEXT NOT NULL,"
        " used TEXT NOT NULL, gpu TEXT NOT NULL, payload BYTEA NOT NULL)",
        "CREATE INDEX calls_done ON calls (foreman, done)",
        "ALTER TABLE calls ADD COLUMN pieces_read BIGINT NOT NULL DEFAULT 0",
        "CREATE TABLE pieces (id TEXT NOT NULL, seq BIGINT NOT NULL, piece BYTEA NOT NULL, PRIMARY KEY (id, seq))",
    ),
)


class Ledger(Book):
    """Of one foreman."""

    def __init__(self, store: Store | None = None, foreman: str = "") -> None:
        super().__init__(store, foreman)
        self.tables = TABLES
        self._unpurged, self._purged = 0, -math.inf
        self._unwritten_bytes = 0  # of outcomes

    # --- containers ---

    async def worker_starts(self, worker: Worker) -> None:
        """Before the engine is asked for it."""
        pool = worker.pool
        spec, gpus = json.dumps(asdict(pool.spec)), json.dumps(worker.gpus)
        row = (worker.id, self._foreman, owner.boot(), pool.app.id, pool.version, pool.name, spec, gpus)
        insert = f"INSERT INTO workers VALUES ({', '.join('?' * 10)}) ON CONFLICT (id) DO NOTHING"
        await done(self.keep((insert, *row, 0, 0)))

    def worker_is_ready(self, worker: Worker) -> None:
        """Before that there is nothing in it that is worth to be kept."""
        self.keep(("UPDATE workers SET ready = 1 WHERE id = ?", worker.id))

    def worker_gone(self, worker: str) -> None:
        """Nothing is left of it."""
        self.keep(("DELETE FROM workers WHERE id = ?", worker))

    async def workers(self) -> list[Row]:
        """All that the foreman before had."""
        rows = await self.read("SELECT * FROM workers WHERE foreman = ?", self._foreman)
        for row in rows:
            row["spec"] = FunctionSpec.read(json.loads(row["spec"]))
            row["gpus"] = [Gpu(*gpu) for gpu in json.loads(row["gpus"])]
        return rows

    # --- calls ---

    def made(self, call: Call, also: tuple[Statement, ...] = ()) -> None:
        """One that waits."""
        call.lasts = True
        row = (call.id, self._foreman, call.app, call.function, call.pool, int(call.inside), int(call.trusted))
        rest = (time.time(), call.tries, "", 0, 0.0, "", 0.0, 0, "", "", "", call.payload)
        call.saved = self.post((f"INSERT INTO calls VALUES ({', '.join('?' * 20)})", *row, *rest, 0), *also)

    def began(self, call: Call, worker: Worker, slot: int, at: float, mark: Amounts) -> None:
        """A container is about to get it, which it does once."""
        call.saved = self.keep(
            (
                "UPDATE calls SET worker = ?, slot = ?, began = ?, mark = ?, tries = ? WHERE id = ?",
                *(worker.id, slot, at, json.dumps(astuple(mark)), call.tries, call.id),
            ),
            ("UPDATE workers SET inputs = ? WHERE id = ?", worker.inputs, worker.id),
        )

    def waits_again(self, call: Call) -> None:
        """It is to be tried once more."""
        call.saved = self.keep(("UPDATE calls SET worker = '', began = 0, tries = ? WHERE id = ?", call.tries, call.id))

    def done(self, call: Call) -> None:
        """It has an outcome, and perhaps what it used is known."""
        assert call.outcome is not None
        meta, payload = call.outcome
        used = "" if call.used is None else json.dumps(astuple(call.used))
        call.saved = self.keep(
            (
                "UPDATE calls SET done = ?, size = ?, outcome = ?, used = ?, gpu = ?, payload = ? WHERE id = ?",
                *(time.time(), call.kept_bytes, json.dumps(meta), used, call.gpu, payload, call.id),
            )
        )
        self._hold(call.saved, call.kept_bytes)
        self._unpurged += call.kept_bytes
        if self._unpurged > PURGE_BYTES:
            self.purge()

    def _hold(self, saved: Posted, n: int) -> None:
        def let_go(_: object) -> None:
            self._unwritten_bytes -= n

        if saved is not None:
            self._unwritten_bytes += n
            saved.add_done_callback(let_go)

    def has_room(self, n: int) -> bool:
        """For an outcome of so many bytes, beside those that are not written down yet. One is taken whatever its
        size."""
        return not self._unwritten_bytes or self._unwritten_bytes + n <= UNWRITTEN_BYTES

    def used(self, call: Call) -> None:
        """What it used, known after its outcome."""
        used = json.dumps(astuple(call.used or Amounts()))
        self.keep(("UPDATE calls SET used = ?, gpu = ? WHERE id = ?", used, call.gpu, call.id))

    def forget(self, calls: list[str]) -> None:
        """Nobody asks for them again."""
        self.keep(*((f"DELETE FROM {table} WHERE id = ?", call) for call in calls for table in ("calls", "pieces")))

    def look_old(self) -> None:
        """They go also when nothing comes after them."""
        if time.monotonic() - self._purged > PURGE_S:
            self.purge()

    def purge(self) -> None:
        """Outcomes that are old, and the oldest of those that are too many: of calls that containers made, and of
        others, so that no container has those forgotten that a caller waits for."""
        self._unpurged, self._purged = 0, time.monotonic()
        self.keep(
            ("DELETE FROM calls WHERE foreman = ? AND done > 0 AND done < ?", self._foreman, time.time() - DONE_S),
            (
                "DELETE FROM calls WHERE id IN (SELECT id FROM (SELECT id, SUM(size) OVER (PARTITION BY inside"
                " ORDER BY done DESC, id) AS total FROM calls WHERE foreman = ? AND done > 0) AS kept WHERE total > ?)",
                *(self._foreman, DONE_BYTES),
            ),
            ("DELETE FROM pieces WHERE id NOT IN (SELECT id FROM calls)",),
        )

    def gave(self, call: Call, number: int, piece: bytes) -> None:
        """A generator's next value."""
        insert = "INSERT INTO pieces VALUES (?, ?, ?) ON CONFLICT (id, seq) DO UPDATE SET piece = excluded.piece"
        call.saved = self.keep((insert, call.id, number, piece))

    def pieces_read(self, call: Call, have: int) -> None:
        """The first values of a generator are not asked for again."""
        self.keep(
            ("DELETE FROM pieces WHERE id = ? AND seq < ?", call.id, have),
            ("UPDATE calls SET pieces_read = ? WHERE id = ? AND pieces_read < ?", have, call.id, have),
        )

    async def find(self, identity: str, budget: Budget) -> Call | None:
        """One that is done."""
        rows = await self.read("SELECT * FROM calls WHERE id = ? AND foreman = ? AND done > 0", identity, self._foreman)
        if not rows:
            return None
        pieces = await self.read("SELECT piece FROM pieces WHERE id = ? ORDER BY seq", identity)
        return _call_of(rows[0], [bytes(row["piece"]) for row in pieces], budget)

    async def calls(self, budget: Budget) -> list[tuple[Row, Call]]:
        """Those that are not done, the oldest first."""
        theirs = "FROM calls WHERE foreman = ? AND done = 0"
        rows = await self.read(f"SELECT * {theirs} ORDER BY made", self._foreman)
        given: dict[str, list[bytes]] = {}
        of_theirs = f"SELECT id, piece FROM pieces WHERE id IN (SELECT id {theirs}) ORDER BY id, seq"
        for row in await self.read(of_theirs, self._foreman):
            given.setdefault(row["id"], []).append(bytes(row["piece"]))
        return [(row, _call_of(row, given.get(row["id"], []), budget)) for row in rows]


def _call_of(row: Row, pieces: list[bytes], budget: Budget) -> Call:
    inside, trusted = bool(row["inside"]), bool(row["trusted"])
    payload = bytes(row["payload"])
    call = Call(row["app"], row["function"], b"" if row["done"] else payload, budget, inside=inside, trusted=trusted)
    call.lasts = True
    call.id, call.pool, call.tries = row["id"], row["pool"], row["tries"]
    call.began = row["began"] > 0
    call.restore_pieces(row["pieces_read"], pieces)
    if row["used"]:
        call.used, call.gpu = amounts(row["used"]), row["gpu"]
    if row["done"]:
        call.used = call.used or Amounts()  # all that will be known of it
        call.settle(json.loads(row["outcome"]), payload)
    return call


def amounts(written: str) -> Amounts:
    """As they were written down."""
    return Amounts(*json.loads(written)) if written else Amounts()
