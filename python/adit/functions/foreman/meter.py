"""The meter: what containers use, read each second and whenever it matters, and written so that little is lost whatever
dies. The hard thing is the end of a container, when the engine knows nothing of it any more. So its runner waits, after
an answer, until the meter has been read; and where control groups may be made, each container is in one of its own,
which has the sum when the container is gone."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ...exception import Error
from ..engine import EXACT, REPORTED, SAMPLED, Usage
from ..engine.groups import Hierarchies
from . import owner
from .amounts import TABLES, Amounts, Bill, Period, amounts_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
    from typing import TypeVar

    from ..engine import Build, Container, Ended, Engine, Running
    from .counts import Passed
    from .store import Row, Statement, Store

    E = TypeVar("E", bound="Entry")

SAMPLE_S = 1.0
WRITE_S = 3.0  # what a crash may cost
PERIOD_S = 900.0  # of a row: wherever somebody counts by the hour, one begins with a row, whatever his time zone is
READ_S = 5.0  # that an engine may take; then the sample before stands
READS = 8  # that an engine is asked for at once
GROUP = "/adit"  # above all of ours
GROUP_TRIES, GROUP_TRY_S = 50, 0.04  # until the engine has left one
MOST = 1 << 62  # that is believed of a container
AWAY_S = 300.0  # that a container may have gone on without a foreman, whatever the clock says
LEAVING_NS = 100_000_000  # of its processors: what a runner that leaves still needs


class Entry:
    """One thing that is metered."""

    def __init__(self, meter: Meter, source: str, bill: Bill, group: str = "") -> None:
        self.bill, self.total = bill, Amounts()
        self._meter = meter
        now = meter.wall()
        self.period = Period(source, meter.owner, group, bill, began=now, seen=now)

    def add(self, more: Amounts) -> None:
        """It has used this."""
        self.total.add(more)
        self.period.used.add(more)
        self._meter.add_to_run(self.bill, more)

    def turn(self, *, over: bool = False) -> list[Period]:
        """What is to be written now: its present period and, if that is ``over``, as it is with its time, the next."""
        old, now = self.period, self._meter.wall()
        old.seen = now
        if not over and old.began // PERIOD_S == now // PERIOD_S:
            return [old]
        new = Period(old.source, old.owner, old.control_group, self.bill, began=now, seen=now, how=old.how)
        new.cpu_limit, new.memory_limit = old.cpu_limit, old.memory_limit
        old.ended, old.how, self.period = True, EXACT, new
        return [old, new]

    async def sample(self) -> None:
        """Looks how it stands."""


class Grouped(Entry):
    """What runs in a control group of its own."""

    def __init__(self, meter: Meter, source: str, bill: Bill, group: str = "") -> None:
        super().__init__(meter, source, bill, group)
        self._group = group
        self._last, self._at = Usage(0, 0), meter.clock()
        self._reading = asyncio.Lock()
        self._over = False

    async def read(self) -> bool:
        """Reads the meter. False when there is nothing to be read any more."""
        async with self._reading:
            found = await self.ask()
            if found is None:
                return False
            if self._over:  # until when it had its memory
                found = replace(found, memory_bytes=self._last.memory_bytes)
            self._take(found)
            return True

    async def ask(self) -> Usage | None:
        """What it has used; None when that cannot be told."""
        return self._meter.group_usage(self._group)

    def _take(self, found: Usage) -> None:
        now, bill = self._meter.clock(), self.bill
        seconds, self._at = now - self._at, now
        cpu = max(0, found.cpu_ns - self._last.cpu_ns)
        memory = (found.memory_bytes + self._last.memory_bytes) / 2 * seconds
        self._last = replace(found, cpu_ns=self._last.cpu_ns + cpu)
        self.period.memory_peak = max(self.period.memory_peak, found.memory_bytes)
        more = Amounts(seconds=seconds, cpu_ns=cpu, memory_byte_s=memory, gpu_s=bill.gpus * seconds)
        more.cpu_most_ns = max(cpu, round(bill.cpus * seconds * 1e9))
        more.memory_most_byte_s = max(memory, bill.memory_bytes * seconds)
        self.add(more)

    async def sample(self) -> None:
        """See Entry."""
        if not self._over:
            await self.read()

    async def close(self, exact: bool = False) -> None:
        """Nothing of it runs any more. ``exact``: nothing did since the last reading."""
        self._over = True
        exact = await self.read() or exact
        self.period.how = self._last.how if exact else SAMPLED
        self._meter.end(self, self._group)


class Metered(Grouped):
    """A container as the engine has it (see Running), and its meter."""

    def __init__(self, meter: Meter, running: Running, bill: Bill, group: str = "") -> None:
        super().__init__(meter, running.id, bill, group)
        self.id, self._running = running.id, running
        self._marks: dict[str, Amounts] = {}
        self._left_at: int | None = None
        self.counted: Callable[[bool], Awaitable[dict[str, Passed] | None]] | None = None
        self._counted: dict[str, Passed] = {}
        self._said = Amounts()

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """See Running."""
        return self._running.output()

    async def ended(self) -> Ended:
        """See Running."""
        ended = await self._running.ended()
        self._over = True
        return ended

    async def usage(self) -> Usage | None:
        """See Running."""
        return await self._running.usage()

    async def rename(self, name: str) -> None:
        """See Running."""
        await self._running.rename(name)

    async def signal(self, name: str) -> None:
        """See Running."""
        await self._running.signal(name)

    async def remove(self) -> None:
        """See Running. The last reading is just before, or, of a group of its own, after; whatever comes of that, the
        container goes. When the engine cannot be asked the row stays open for a later foreman."""
        try:
            try:
                exact = await self.read() or self._has_left()
            finally:
                await self._running.remove()
        except BaseException:
            self._meter.leave(self)
            raise
        await self.count(last=True)
        await self.close(exact)

    async def ask(self) -> Usage | None:
        """See Grouped."""
        found = await super().ask()
        is_over = self._over and self._last.how != REPORTED  # it may have said it when it ended
        return found if found is not None or is_over else await self._meter.usage_of(self._running)

    def go_on(self, row: Row, known: Amounts, now: Usage, away: float) -> None:
        """From what a foreman before has written of it, who was ``away`` for so long."""
        self.total = known
        self._last, self._at = Usage(known.cpu_ns, now.memory_bytes), self._at - away
        self.period.cpu_limit, self.period.memory_limit = row["cpu_limit"], row["memory_limit"]

    async def become(self, bill: Bill) -> None:
        """It was a spare, and is somebody's. That one has what its start took of the processors, as if it had been
        started for it, and the spare what it had while it waited."""
        await self.read()
        self.bill, start = bill, self.period.used
        periods = self.turn(over=True)
        begun = Amounts(cpu_ns=start.cpu_ns, cpu_most_ns=start.cpu_most_ns)  # it is in the total already
        self.period.used.add(begun)
        self._meter.add_to_run(bill, begun)
        start.cpu_ns = start.cpu_most_ns = 0
        self._meter.write(periods)

    # --- what its runner tells ---

    def resume_call(self, call: str, mark: Amounts) -> None:
        """It had a call already, when it had used this."""
        self._marks[call] = mark

    async def begin_call(self, call: str) -> None:
        """It has a call."""
        await self.read()
        self._marks[call] = self.total.copy()
        self.period.calls += 1

    async def end_call(self, call: str) -> Amounts:
        """What it used while it had the call, which is answered."""
        await self.read()
        used = self.call_used(call)
        self._marks.pop(call, None)
        return used

    def call_used(self, call: str) -> Amounts:
        """Since the call began, as far as is known."""
        return self.total.since(self._marks.get(call, self.total))

    async def leaves(self) -> None:
        """It is about to end, and does no more."""
        if await self.read():
            self._left_at = self._last.cpu_ns

    def _has_left(self) -> bool:
        return self._left_at is not None and self._last.cpu_ns - self._left_at < LEAVING_NS

    def passed(self, streams: int, count: int) -> None:
        """How many visitors and bytes have come through its tunnels, as it says itself; they cost nothing."""
        more = Amounts()
        more.streams = max(0, min(streams, MOST) - self.total.streams)
        more.bytes = more.bytes_said = max(0, min(count, MOST) - self.total.bytes)
        self.add(more)
        self._said.add(more)

    async def count(self, *, last: bool = False) -> bool:
        """Takes what the relay has counted of its tunnels, and nothing of what it has said itself; False: the relay
        cannot be asked."""
        found = await self.counted(last) if self.counted is not None else None
        if found is None:
            return False
        more, self._said = Amounts().since(self._said), Amounts()
        for token, now in found.items():
            before = self._counted.get(token, (0, 0))
            if now[0] < before[0] or now[1] < before[1]:  # the relay has begun anew
                before = (0, 0)
            more.streams += now[0] - before[0]
            more.bytes += now[1] - before[1]
            self._counted[token] = now
        self.add(more)
        return True

    async def sample(self) -> None:
        """See Entry."""
        await super().sample()
        if not self._over:
            await self.count()


class Passing(Entry):
    """A tunnel of the foreman's own."""

    def __init__(self, meter: Meter, source: str, bill: Bill, stats: Callable[[], tuple[int, int]]) -> None:
        super().__init__(meter, source, bill)
        self._stats = stats
        self.period.how = EXACT

    async def sample(self) -> None:
        """See Entry."""
        streams, count = self._stats()
        self.add(Amounts(streams=streams - self.total.streams, bytes=count - self.total.bytes))

    async def close(self) -> None:
        """The last look."""
        await self.sample()
        self._meter.end(self)


class Meter:
    """Of one foreman."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        name: str,
        tell: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``name`` is this foreman's alone."""
        self.clock, self.wall = clock, wall
        self.owner = owner.labels()[owner.LABEL]
        self._engine, self._store, self._tell = engine, store, tell
        self._group = posixpath.join(GROUP, name)
        self._here = Hierarchies.here()
        self._makes_groups = False
        self._entries: set[Entry] = set()
        self._runs: dict[str, dict[str, Amounts]] = {}
        self._some = asyncio.Event()
        self._asking = asyncio.Semaphore(READS)
        self._jobs: set[asyncio.Task[None]] = set()
        self._sampler: asyncio.Task[None] | None = None
        self._written_at = clock()
        self._due: dict[str, Statement] = {}  # that is to be written, by rows
        self._is_writing = False
        self._trouble: str | None = None
        self._has_told = False

    async def open(self) -> None:
        """Closes the rows of foremen that have died, but for what was adopted, and begins."""
        await self._open_group()
        with self._noting_trouble():
            await self._sweep()
        self._sampler = asyncio.create_task(self._keep_sampling(), name="meter")

    async def close(self) -> None:
        """All is written then."""
        if self._sampler is not None:
            self._sampler.cancel()
        for entry in list(self._entries):
            self.leave(entry)
        await asyncio.gather(*self._jobs, return_exceptions=True)
        if self._here is not None and self._makes_groups:
            self._here.remove(self._group)

    async def _open_group(self) -> None:
        if self._here is not None and not self._makes_groups and await self._engine.shares_groups():
            self._makes_groups = self._here.make(self._group)

    # --- what is metered ---

    def _make_group(self, name: str) -> str:
        group = f"{self._group}/{name}"
        return group if self._makes_groups and self._here is not None and self._here.make(group) else ""

    async def start(self, container: Container, bill: Bill) -> Metered:
        """Has the engine start it."""
        group = self._make_group(container.name)
        try:
            running = await self._engine.start(replace(container, parent=group) if group else container)
        except BaseException:
            self._do(self._remove_group(group))
            raise
        metered = Metered(self, running, bill, group)
        if container.limits is not None:
            metered.period.cpu_limit = container.limits.cpus
            metered.period.memory_limit = container.limits.memory_bytes
        return self._enter(metered)

    async def build(self, build: Build, tell: Callable[[str], None], bill: Bill) -> str:
        """Has the engine build an image. What it starts for that can be metered in a group of ours only."""
        name = f"adit-build-{secrets.token_hex(4)}"
        group = self._make_group(name)
        if not group:
            return await self._engine.build(build, tell)
        metered = self._enter(Grouped(self, name, bill, group))
        try:
            return await self._engine.build(replace(build, parent=group), tell)
        finally:
            await asyncio.shield(metered.close())

    async def adopt(self, running: Running, bill: Bill) -> Metered:
        """A container that another foreman had started, which has died. It is counted on from what that one has
        written, so that nothing is lost or counted twice."""
        await self._open_group()
        where = "FROM usage WHERE source = ?"
        rows = await self._store.read(TABLES, f"SELECT * {where} ORDER BY began DESC LIMIT 1", running.id)
        metered = Metered(self, running, bill, rows[0]["control_group"] if rows else "")
        if rows:
            known = Amounts()
            for row in await self._store.read(TABLES, f"SELECT * {where}", running.id):
                known.add(amounts_of(row))
            now = await metered.ask() or Usage(known.cpu_ns, 0)
            metered.go_on(rows[0], known, now, min(max(0.0, self.wall() - rows[0]["seen"]), AWAY_S))
            over = "UPDATE usage SET ended = 1, how = ? WHERE source = ? AND ended = 0"
            await self._store.write(TABLES, (over, EXACT, running.id))
        return self._enter(metered)

    def watch(self, source: str, bill: Bill, stats: Callable[[], tuple[int, int]]) -> Passing:
        """A tunnel of the foreman's own; ``stats`` tells how many visitors and bytes have come through it."""
        return self._enter(Passing(self, source, bill, stats))

    def _enter(self, entry: E) -> E:
        self._entries.add(entry)
        self._some.set()
        self.write(entry.turn())
        return entry

    def end(self, entry: Entry, group: str = "") -> None:
        """It is over, and its group is not needed any more."""
        if entry in self._entries:
            self._entries.discard(entry)
            periods = entry.turn()
            periods[-1].ended = True
            self.write(periods)
            self._do(self._remove_group(group))

    def leave(self, entry: Entry) -> None:
        """It goes on without this foreman."""
        if entry in self._entries:
            self._entries.discard(entry)
            self.write(entry.turn())

    # --- sums of runs ---

    def add_to_run(self, bill: Bill, more: Amounts) -> None:
        """Some more of an app's run."""
        if bill.run:
            self._runs.setdefault(bill.run, {}).setdefault(bill.gpu, Amounts()).add(more)

    def take_run(self, run: str) -> dict[str, Amounts]:
        """What it has used with each kind of GPU, at its end."""
        return self._runs.pop(run, {})

    # --- reading and writing ---

    def group_usage(self, group: str) -> Usage | None:
        """Of a group that had a container in it; None when it has not."""
        found = self._here.usage(group) if group and self._here is not None else None
        return found if found is not None and found.cpu_ns else None

    async def usage_of(self, running: Running) -> Usage | None:
        """As the engine tells it; None when it does not."""
        with contextlib.suppress(
            Error, OSError, ArithmeticError, LookupError, TypeError, ValueError, asyncio.TimeoutError
        ):
            if self._engine.has_machines:  # its containers answer, each for itself
                return await asyncio.wait_for(running.usage(), READ_S)
            async with self._asking:
                return await asyncio.wait_for(running.usage(), READ_S)
        return None

    async def _keep_sampling(self) -> None:
        while True:
            if not self._entries:
                self._some.clear()
                await self._some.wait()
            await asyncio.sleep(SAMPLE_S)
            await self.sample()

    async def sample(self) -> None:
        """Looks at all; writes now and then."""
        await asyncio.gather(*(entry.sample() for entry in self._entries), return_exceptions=True)
        if self.clock() - self._written_at >= WRITE_S:
            self._written_at = self.clock()
            self.write([period for entry in self._entries for period in entry.turn()])
        if self._trouble is not None and not self._has_told:
            self._has_told = True
            self._tell("note", text=f"usage is not written down: {self._trouble}")

    def write(self, periods: list[Period]) -> None:
        """Has them written down. What comes while that goes on is written after it, each row as it is last: a store
        that is away has no more to do by that."""
        self._due.update((period.id, period.to_statement()) for period in periods)
        if self._due and not self._is_writing:
            self._is_writing = True
            self._do(self._write())

    async def _write(self) -> None:
        try:
            while self._due:
                due, self._due = self._due, {}
                with self._noting_trouble():
                    await self._store.write(TABLES, *due.values())
        finally:
            self._is_writing = False

    @contextlib.contextmanager
    def _noting_trouble(self) -> Iterator[None]:
        """What runs goes on when it cannot be written down."""
        try:
            yield
        except Error as error:
            self._trouble = str(error)

    def _do(self, job: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _remove_group(self, group: str) -> None:
        for _ in range(GROUP_TRIES if group else 0):
            if self._here is None or self._here.remove(group):
                return
            await asyncio.sleep(GROUP_TRY_S)

    async def _sweep(self) -> None:
        """Rows that foremen left open which have died. Where their containers had groups, these have the last word."""
        rows = await self._store.read(TABLES, "SELECT id, source, owner, control_group FROM usage WHERE ended = 0")
        dead = [row for row in rows if not owner.is_alive(row["owner"])]
        for row in dead:
            more, how = 0, SAMPLED
            if (found := self.group_usage(row["control_group"])) is not None:
                known = "SELECT SUM(cpu_ns) AS cpu_ns FROM usage WHERE source = ?"
                more = found.cpu_ns - int((await self._store.read(TABLES, known, row["source"]))[0]["cpu_ns"])
                how = EXACT
            end = "UPDATE usage SET ended = 1, how = ?, cpu_ns = cpu_ns + ?, cpu_most_ns = cpu_most_ns + ? WHERE id = ?"
            await self._store.write(TABLES, (f"{end} AND ended = 0", how, max(0, more), max(0, more), row["id"]))
        for group in {row["control_group"] for row in dead} - {""}:
            await self._remove_group(group)
        for group in {posixpath.dirname(row["control_group"]) for row in dead} - {""}:
            if self._here is not None:
                self._here.remove(group)
