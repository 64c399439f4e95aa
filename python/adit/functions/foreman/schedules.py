"""When functions of deployed apps run by themselves. What comes next is in the store, written with the call of a run,
which outlives the foreman itself: the next one runs once what was missed in the meantime, and nothing twice. A run
that is due while the one before goes on is left out. Times are the wall clock's, which may be set."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ...exception import Error
from .. import schedule, wire
from .store import Tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..spec import AppSpec
    from ..wire import Meta
    from .apps import App
    from .calls import Call
    from .store import Row, Statement, Store

LOOK_S = 5.0  # at least so often: nothing tells that the clock was set, or that the machine has slept
LATE_S = 60.0  # from then on it is said
CORRECTED_S = 3 * 3600.0  # a clock that goes back by more was wrong, and counts no more; cron does so, too
WORKER = "schedule"  # whose output it is what is said here

TABLES = Tables(
    "schedules",
    (
        "CREATE TABLE schedules (app TEXT NOT NULL, function TEXT NOT NULL, schedule TEXT NOT NULL,"
        " due DOUBLE PRECISION NOT NULL, seen DOUBLE PRECISION NOT NULL, call TEXT NOT NULL,"
        " PRIMARY KEY (app, function))",
    ),
)
_PUT = (
    "INSERT INTO schedules VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (app, function) DO UPDATE SET"
    " schedule = excluded.schedule, due = excluded.due, seen = excluded.seen, call = excluded.call"
)


@dataclass
class Job:
    """A function that runs by itself."""

    app: App
    function: str
    given: Meta
    due: float
    seen: float
    """When that was found out, by the wall clock."""
    call: Call | None = None


class Schedules:
    """Of one foreman."""

    def __init__(self, store: Store, wall: Callable[[], float] = time.time) -> None:
        self._store, self._wall = store, wall
        self._jobs: dict[tuple[str, str], Job] = {}
        self._left: dict[tuple[str, str], Row] = {}  # by the foreman before
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Knows what the foreman before had, and begins."""
        for row in await self._store.read(TABLES, "SELECT * FROM schedules"):
            self._left[row["app"], row["function"]] = row
        self._looking = asyncio.create_task(self._keep_looking(), name="schedules")

    def close(self) -> None:
        """No more runs."""
        if self._looking is not None:
            self._looking.cancel()

    def use(self, app: App, spec: AppSpec) -> None:
        """An app, or a version of it, is there. What has the same schedule as before runs when it would have."""
        now = self._wall()
        for function in spec.functions.values():
            key, given = (app.id, function.name), function.schedule
            old = self._jobs.get(key) or self._take(app, function.name)
            if given is None:
                continue
            if old is not None and old.given == given:
                self._jobs[key] = old
                continue
            call = old.call if old is not None else None
            job = self._jobs[key] = Job(app, function.name, given, schedule.following(given, now, now), now, call)
            self._save(job)
        for key, job in list(self._jobs.items()):
            if job.app is app and (job.function not in spec.functions or spec.functions[job.function].schedule is None):
                del self._jobs[key]
                self._write("DELETE FROM schedules WHERE app = ? AND function = ?", app.id, job.function)
        self._changed.set()

    def _take(self, app: App, function: str) -> Job | None:
        """From the foreman before, with the run that goes on or is to come."""
        row = self._left.pop((app.id, function), None)
        if row is None:
            return None
        call = app.foreman.calls.get(row["call"])
        job = Job(app, function, json.loads(row["schedule"]), row["due"], row["seen"], call)
        if call is not None:
            self._follow(job, call)
        return job

    async def forget(self, app: App) -> None:
        """It is stopped."""
        for key in [key for key in (*self._jobs, *self._left) if key[0] == app.id]:
            self._jobs.pop(key, None)
            self._left.pop(key, None)
        await self._store.write(TABLES, ("DELETE FROM schedules WHERE app = ?", app.id))

    def describe(self, app: App) -> dict[str, dict[str, Any]]:
        """What runs when, by function."""
        jobs = [job for job in self._jobs.values() if job.app is app]
        return {job.function: {"schedule": schedule.text_of(job.given), "next": job.due} for job in jobs}

    # --- runs ---

    async def _keep_looking(self) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._pause())
            self._changed.clear()
            self.look()

    def _pause(self) -> float:
        now = self._wall()
        return max(0.0, min([LOOK_S, *(job.due - now for job in self._jobs.values())]))

    def look(self) -> None:
        """Runs what is due."""
        now = self._wall()
        for job in list(self._jobs.values()):
            if job.app.ended:
                continue
            try:
                self._look_at(job, now)
            except Exception as error:  # such as of a time zone that is not there any more: the others go on
                del self._jobs[job.app.id, job.function]
                self._say(job, f"it does not run any more: {error} (deploy it again)")

    def _look_at(self, job: Job, now: float) -> None:
        if job.seen > now + CORRECTED_S:
            job.due, job.seen = schedule.following(job.given, now, now), now
            self._save(job)
        elif job.due <= now:
            self._run(job, now)

    def _run(self, job: Job, now: float) -> None:
        due, late = job.due, now - job.due >= LATE_S
        job.due, job.seen = schedule.following(job.given, due, now), now
        if job.call is not None and not job.call.done:
            self._say(job, f"the run of {_shown(due)} is left out, as the one before goes on")
            self._save(job)
            return
        if late:
            self._say(job, f"the run of {_shown(due)} was missed, and is made up for now")
        try:
            payload = wire.encode(((), {}), job.function)
            self._follow(job, job.app.call(job.function, "", payload, None, lambda call: self._begun(job, call)))
        except Error as error:
            self._say(job, str(error))
            self._save(job)

    def _begun(self, job: Job, call: Call) -> tuple[Statement, ...]:
        """What is to be written along with it, or not at all: it would run once more after a death in between."""
        job.call = call
        return (_put(job),)

    def _follow(self, job: Job, call: Call) -> None:
        if call.done:
            self._done(job, call)
        else:
            call.on_done.append(lambda call: self._done(job, call))

    def _done(self, job: Job, call: Call) -> None:
        """Nobody else asks what came of it."""
        assert call.outcome is not None
        outcome, app = call.outcome[0], job.app
        app.foreman.calls.forget(call)
        if not app.ended and outcome.get("status") != "ok":
            self._say(job, str(outcome.get("traceback") or outcome.get("text")).strip())

    def _say(self, job: Job, text: str) -> None:
        data = f"{job.function}: {text}\n".encode().decode("latin-1")
        about = {"function": job.function, "worker": WORKER, "version": job.app.version}
        job.app.tell("output", **about, stream=2, data=data)

    # --- the store ---

    def _save(self, job: Job) -> None:
        if self._jobs.get((job.app.id, job.function)) is job:
            self._write(*_put(job))

    def _write(self, *statement: Any) -> None:
        """What cannot be kept is gone with this foreman: the next one begins anew."""
        posted = self._store.post(TABLES, statement)
        posted.add_done_callback(lambda posted: posted.cancelled() or posted.exception())


def _put(job: Job) -> Statement:
    call = "" if job.call is None else job.call.id
    return (_PUT, job.app.id, job.function, json.dumps(job.given), job.due, job.seen, call)


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")
