"""What a foreman that is a service must not forget, in the store: containers and calls, from which the next one at the
same socket goes on. What is written is written in order, and whoever is answered is so when it is. A foreman of a
program has none, as all that it knows ends with it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any

from ..engine import Gpu
from ..spec import FunctionSpec
from . import owner
from .amounts import Amounts
from .calls import Call
from .store import Tables

if TYPE_CHECKING:
    from .budget import Budget
    from .store import Row, Statement, Store
    from .worker import Worker

DONE_S, DONE_BYTES = 7 * 24 * 3600.0, 1 << 30  # that outcomes are kept
PURGE_BYTES = 64 << 20  # of new ones, until it is looked which are too many

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
    ),
)


class Ledger:
    """Of one foreman."""

    def __init__(self, store: Store | None, foreman: str) -> None:
        self._store, self._foreman = store, foreman
        self._unpurged = 0

    def _post(self, *statements: Statement) -> asyncio.Future[list[Row]] | None:
        """Its end may be waited for; what fails is told, as what runs goes on."""
        if self._store is None:
            return None
        posted = self._store.post(TABLES, *statements)
        posted.add_done_callback(_tell)
        return posted

    async def _read(self, sql: str, *values: Any) -> list[Row]:
        return await self._store.read(TABLES, sql, *values) if self._store is not None else []

    # --- containers ---

    async def worker_starts(self, worker: Worker) -> None:
        """Before the engine is asked for it."""
        pool = worker.pool
        spec, gpus = json.dumps(asdict(pool.spec)), json.dumps(worker.gpus)
        row = (worker.id, self._foreman, owner.boot(), pool.app.id, pool.version, pool.name, spec, gpus)
        if (posted := self._post((f"INSERT INTO workers VALUES ({', '.join('?' * 10)})", *row, 0, 0))) is not None:
            await posted

    def worker_is_ready(self, worker: Worker) -> None:
        """Before that there is nothing in it that is worth to be kept."""
        self._post(("UPDATE workers SET ready = 1 WHERE id = ?", worker.id))

    def worker_gone(self, worker: str) -> None:
        """Nothing is left of it."""
        self._post(("DELETE FROM workers WHERE id = ?", worker))

    async def workers(self) -> list[Row]:
        """All that the foreman before had."""
        rows = await self._read("SELECT * FROM workers WHERE foreman = ?", self._foreman)
        for row in rows:
            row["spec"] = FunctionSpec.read(json.loads(row["spec"]))
            row["gpus"] = [Gpu(*gpu) for gpu in json.loads(row["gpus"])]
        return rows

    # --- calls ---

    def made(self, call: Call) -> None:
        """One that waits."""
        call.lasts = True
        row = (call.id, self._foreman, call.app, call.function, call.pool, int(call.inside), int(call.trusted))
        rest = (time.time(), call.tries, "", 0, 0.0, "", 0.0, 0, "", "", "", call.payload)
        call.saved = self._post((f"INSERT INTO calls VALUES ({', '.join('?' * 19)})", *row, *rest))

    def began(self, call: Call, worker: Worker, slot: int, at: float, mark: Amounts) -> None:
        """A container is about to get it, which it does once."""
        call.saved = self._post(
            (
                "UPDATE calls SET worker = ?, slot = ?, began = ?, mark = ?, tries = ? WHERE id = ?",
                *(worker.id, slot, at, json.dumps(astuple(mark)), call.tries, call.id),
            ),
            ("UPDATE workers SET inputs = ? WHERE id = ?", worker.inputs, worker.id),
        )

    def waits_again(self, call: Call) -> None:
        """It is to be tried once more."""
        call.saved = self._post(
            ("UPDATE calls SET worker = '', began = 0, tries = ? WHERE id = ?", call.tries, call.id)
        )

    def done(self, call: Call) -> None:
        """It has an outcome, and perhaps what it used is known."""
        assert call.outcome is not None
        meta, payload = call.outcome
        used = "" if call.used is None else json.dumps(astuple(call.used))
        call.saved = self._post(
            (
                "UPDATE calls SET done = ?, size = ?, outcome = ?, used = ?, gpu = ?, payload = ? WHERE id = ?",
                *(time.time(), call.kept_bytes, json.dumps(meta), used, call.gpu, payload, call.id),
            )
        )
        self._unpurged += call.kept_bytes
        if self._unpurged > PURGE_BYTES:
            self.purge()

    def forget(self, calls: list[str]) -> None:
        """Nobody asks for them again."""
        self._post(*(("DELETE FROM calls WHERE id = ?", identity) for identity in calls))

    def purge(self) -> None:
        """Outcomes that are old, and the oldest of those that are too many: of calls that containers made, and of
        others, so that no container has those forgotten that a caller waits for."""
        self._unpurged = 0
        self._post(
            ("DELETE FROM calls WHERE foreman = ? AND done > 0 AND done < ?", self._foreman, time.time() - DONE_S),
            (
                "DELETE FROM calls WHERE id IN (SELECT id FROM (SELECT id, SUM(size) OVER (PARTITION BY inside"
                " ORDER BY done DESC, id) AS total FROM calls WHERE foreman = ? AND done > 0) AS kept WHERE total > ?)",
                *(self._foreman, DONE_BYTES),
            ),
        )

    async def find(self, identity: str, budget: Budget) -> Call | None:
        """One that is done."""
        rows = await self._read(
            "SELECT * FROM calls WHERE id = ? AND foreman = ? AND done > 0", identity, self._foreman
        )
        return _call_of(rows[0], budget) if rows else None

    async def calls(self, budget: Budget) -> list[tuple[Row, Call]]:
        """Those that are not done, the oldest first."""
        rows = await self._read("SELECT * FROM calls WHERE foreman = ? AND done = 0 ORDER BY made", self._foreman)
        return [(row, _call_of(row, budget)) for row in rows]


def _call_of(row: Row, budget: Budget) -> Call:
    inside, trusted = bool(row["inside"]), bool(row["trusted"])
    payload = bytes(row["payload"])
    call = Call(row["app"], row["function"], b"" if row["done"] else payload, budget, inside=inside, trusted=trusted)
    call.lasts = True
    call.id, call.pool, call.tries = row["id"], row["pool"], row["tries"]
    call.began = row["began"] > 0
    if row["used"]:
        call.used, call.gpu = amounts(row["used"]), row["gpu"]
    if row["done"]:
        call.settle(json.loads(row["outcome"]), payload)
    return call


def amounts(written: str) -> Amounts:
    """As they were written down."""
    return Amounts(*json.loads(written)) if written else Amounts()


def _tell(posted: asyncio.Future[list[Row]]) -> None:
    if not posted.cancelled() and (error := posted.exception()) is not None:
        print(f"adit: what is to outlive the foreman is not written down: {error}", file=sys.stderr, flush=True)
