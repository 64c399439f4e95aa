"""When functions run by themselves: the times, and what runs of them on a clock that is set, stops, and goes back."""

import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from adit import App, Cron, Period, asgi_app, web_endpoint
from adit.exception import ConfigError, InvalidError, RemoteError
from adit.functions import schedule
from adit.functions.foreman.budget import Budget
from adit.functions.foreman.calls import Call, Calls
from adit.functions.foreman.ledger import Ledger
from adit.functions.foreman.schedules import CORRECTED_S, TABLES, Schedules
from adit.functions.foreman.store import Store
from adit.functions.spec import AppSpec, FunctionSpec

DAY_S, HOUR_S = 86_400.0, 3600.0


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def times(given, start, n, zone="UTC"):
    """The next n, as clocks there show them."""
    now, shown = at(start, zone), []
    for _ in range(n):
        now = schedule.following(given._meta, now, now)
        shown.append(datetime.fromtimestamp(now, ZoneInfo(zone)).isoformat(" ", "minutes"))
    return shown


# --- when ---


def test_cron_is_by_the_clocks_of_its_time_zone():
    assert times(Cron("0 9 * * 1-5"), "2026-01-02T08:59", 2) == ["2026-01-02 09:00+00:00", "2026-01-05 09:00+00:00"]
    berlin = Cron("0 9 * * *", timezone="Europe/Berlin")
    assert times(berlin, "2026-03-28T08:00", 3, "Europe/Berlin") == [
        "2026-03-28 09:00+01:00",
        "2026-03-29 09:00+02:00",
        "2026-03-30 09:00+02:00",
    ]


def test_what_a_spring_day_leaves_out_runs_when_the_gap_ends_and_what_comes_twice_in_autumn_runs_once():
    zone = "America/New_York"
    half_past = Cron("30 2 * * *", timezone=zone)
    assert times(half_past, "2026-03-08T00:00", 2, zone) == ["2026-03-08 03:00-04:00", "2026-03-09 02:30-04:00"]
    half_past = Cron("30 1 * * *", timezone=zone)
    assert times(half_past, "2026-11-01T00:00", 2, zone) == ["2026-11-01 01:30-04:00", "2026-11-02 01:30-05:00"]


def test_what_runs_each_half_hour_does_so_when_clocks_change():
    each = Cron("*/30 * * * *", timezone="Europe/Berlin")
    for start in ("2026-03-29T00:15", "2026-10-25T00:15"):
        now, seen = at(start, "Europe/Berlin"), []
        for _ in range(12):
            now = schedule.following(each._meta, now, now)
            seen.append(now)
        assert {b - a for a, b in zip(seen, seen[1:])} == {1800.0}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
@pytest.mark.parametrize("text", ["30 1 * * *", "30 2 * * *", "*/15 1-3 * * *", "5 0,1,2,3 * * *"])
def test_the_next_is_always_later_whatever_clocks_do(zone, text):
    given = Cron(text, timezone=zone)._meta
    for day in ("2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01"):
        begin = at(f"{day}T00:00")
        for minute in range(-720, 720, 7):
            now = begin + 60.0 * minute + 0.25
            assert now < schedule.following(given, 0.0, now) <= now + 26 * HOUR_S


def test_a_period_is_counted_from_when_it_was_due_and_months_have_their_ends():
    day = Period(days=1, hours=1)._meta
    assert schedule.following(day, 1000.0, 1000.0) == 1000.0 + 25 * HOUR_S
    assert schedule.following(day, 1000.0, 1000.0 + 100 * HOUR_S) == 1000.0 + 125 * HOUR_S
    assert schedule.following(day, 1000.0, 0.0) == 1000.0 + 25 * HOUR_S
    assert times(Period(months=1), "2026-01-31T12:00", 2) == ["2026-02-28 12:00+00:00", "2026-03-28 12:00+00:00"]
    assert times(Period(years=1, seconds=60.0), "2024-02-29T12:00", 1) == ["2025-02-28 12:01+00:00"]
    late = schedule.following(Period(months=1)._meta, at("2026-01-10T00:00"), at("2026-05-09T23:59"))
    assert late == at("2026-05-10T00:00")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Cron("0 9 * *"), "it has 5 fields (minute hour"),
        (lambda: Cron("@daily"), "it has 5 fields"),
        (lambda: Cron("0 0 9 * * *"), "it has 5 fields"),
        (lambda: Cron("60 9 * * *"), "Bad minute"),
        (lambda: Cron("0 9 31 2 *"), "Bad day"),
        (lambda: Cron("0 9 29 2 */8#5"), "Bad day-of-week"),
        (lambda: Cron(9), "no string"),
        (lambda: Cron("0 9 * * *", timezone="Europe/Berln"), "did you mean Europe/Berlin?"),
        (lambda: Cron("0 9 * * *", timezone="../../etc/passwd"), "there is no"),
        (lambda: Cron("0 9 * * *", timezone="Europe"), "there is no"),
        (lambda: Cron("0 9 * * *", timezone=""), "there is no"),
        (Period, "a second at least"),
        (lambda: Period(seconds=0.5), "a second at least"),
        (lambda: Period(hours=-1), "no whole number"),
        (lambda: Period(hours=0.5), "no whole number"),
        (lambda: Period(days=True), "no whole number"),
        (lambda: Period(seconds=float("nan")), "no number"),
        (lambda: Period(seconds=float("inf")), "no number"),
        (lambda: Period(days=10**12), "100 years at most"),
        (lambda: Period(years=10**12), "100 years at most"),
    ],
)
def test_a_schedule_that_never_comes_or_cannot_be_is_refused(make, text):
    with pytest.raises(InvalidError) as caught:
        make()
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_in_a_container_there_are_no_time_zones_and_nothing_is_looked_up(monkeypatch):
    monkeypatch.setattr(schedule, "is_local", lambda: False)
    assert repr(Cron("0 9 * * *", "Mars/Olympus")) == "adit.Cron('0 9 * * *', timezone='Mars/Olympus')"


def test_without_the_package_for_it_that_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cronsim", None)
    with pytest.raises(ConfigError, match=r"cronsim.*pip install 'adit\[functions\]'"):
        Cron("0 9 * * *")


# --- of what ---


def test_a_function_with_a_schedule_needs_no_arguments_and_is_told_to_the_foreman():
    app = App("jobs")

    @app.function(schedule=Cron("0 9 * * *", timezone="Europe/Berlin"), serialized=True)
    def report(day="today", *rest, **more):
        pass

    @app.function(schedule=Period(minutes=5, seconds=1.5), serialized=True)
    async def look():
        pass

    spec = AppSpec.read(app._spec().to_meta())
    assert spec.functions["report"].schedule == {"cron": "0 9 * * *", "timezone": "Europe/Berlin"}
    assert spec.functions["look"].schedule == {"period": {"minutes": 5, "seconds": 1.5}}
    assert schedule.text_of(spec.functions["look"].schedule) == "Period(minutes=5, seconds=1.5)"


def test_what_cannot_run_by_itself_is_refused_when_it_is_decorated():
    app, hourly = App("jobs"), Period(hours=1)

    def needs(day, *, kind):
        pass

    def gives():
        yield 1

    @web_endpoint()
    def page():
        pass

    @asgi_app()
    def site():
        pass

    for raw, given, text in (
        (needs, hourly, "its arguments then (defaults for day, kind)"),
        (gives, hourly, "it is a generator"),
        (page, hourly, "it is a web endpoint"),
        (site, hourly, "it is a web endpoint"),
        (gives, "0 9 * * *", "such as Cron('0 9 * * *')"),
        (gives, Cron, "no schedule"),
        (gives, 60, "Period(hours=4)"),
    ):
        with pytest.raises(InvalidError) as caught:
            app.function(schedule=given, serialized=True)(raw)
        assert "schedule: " in str(caught.value) and text in str(caught.value)
    with pytest.raises(InvalidError, match="it is for functions"):
        app.cls(schedule=hourly)
    assert app.registered_functions == {}


# --- on a clock ---


class Foreman:
    def __init__(self):
        self.calls = Calls(Ledger(None, "test"))


class Deployed:
    """An app, of which calls are begun and ended by hand."""

    def __init__(self, foreman):
        self.id, self.version, self.ended, self.foreman = "ap-1", 1, False, foreman
        self.made, self.told, self.refuses = [], [], None

    def call(self, function, key, payload, maker, also):
        if self.refuses:
            raise RemoteError(self.refuses)
        call = Call(self.id, function, payload, Budget("inputs", 1 << 30), inside=False, trusted=True)
        self.foreman.calls.add(call)
        self.foreman.store.post(TABLES, *also(call))
        self.made.append(call)
        return call

    def tell(self, kind, **what):
        assert (kind, what["stream"]) == ("output", 2)
        self.told.append(what["data"])

    def end(self, **outcome):
        self.made[-1].settle({"status": "ok", **outcome})


class World:
    """A foreman's schedules, its clock, and the foremen that come after it."""

    def __init__(self, place):
        self.place, self.now = place, at("2026-01-01T00:00")
        self.foreman = Foreman()  # whose calls outlive it

    async def start(self, **given):
        self.store, self.app = Store(self.place), Deployed(self.foreman)
        self.foreman.store = self.store
        self.schedules = Schedules(self.store, lambda: self.now)
        await self.schedules.open()
        self.schedules._looking.cancel()
        self.use(**given)

    def use(self, **given):
        functions = {n: FunctionSpec(n, "m", n, schedule=s and s._meta) for n, s in given.items()}
        self.schedules.use(self.app, AppSpec("app", functions))

    async def stop(self):
        self.schedules.close()
        await self.store.close()

    async def restart(self, **given):
        await self.stop()
        await self.start(**given)

    def go(self, seconds, step=60.0):
        """Time passes; how many runs there were in it."""
        before, end = len(self.app.made), self.now + seconds
        while self.now < end:
            self.now = min(self.now + step, end)
            self.schedules.look()
        return len(self.app.made) - before

    def next(self, name="f"):
        return self.schedules.describe(self.app)[name]["next"]


@pytest.fixture
def in_world(store_place):
    def run(work):
        async def live():
            world = World(store_place)
            try:
                await work(world)
            finally:
                await world.stop()

        asyncio.run(live())

    return run


NINE = Cron("0 9 * * *")


def test_a_function_runs_when_it_is_due_and_no_more_often(in_world):
    async def work(world):
        await world.start(f=NINE, g=Period(hours=4), h=None)
        assert world.schedules.describe(world.app) == {
            "f": {"schedule": "Cron('0 9 * * *', timezone='UTC')", "next": at("2026-01-01T09:00")},
            "g": {"schedule": "Period(hours=4)", "next": at("2026-01-01T04:00")},
        }
        ran = []
        for _ in range(48):
            world.go(HOUR_S)
            for call in world.app.made:
                call.settle({"status": "ok"})
            ran += [(call.function, world.now) for call in world.app.made]
            world.app.made.clear()
        fs, gs = ([when for name, when in ran if name == wanted] for wanted in "fg")
        assert fs == [at("2026-01-01T09:00"), at("2026-01-02T09:00")]
        assert gs == [at("2026-01-01T04:00") + 4 * HOUR_S * n for n in range(12)]
        assert world.app.foreman.calls._calls == {} and world.app.told == []

    in_world(work)


def test_while_a_run_goes_on_those_that_are_due_are_left_out_and_told(in_world):
    async def work(world):
        await world.start(f=Period(minutes=10))
        assert world.go(25 * 60) == 1
        assert "left out, as the one before goes on" in world.app.told[0] and len(world.app.told) == 1
        world.app.end()
        assert world.go(5 * 60) == 1 and world.now == at("2026-01-01T00:30")

    in_world(work)


def test_a_foreman_that_comes_back_neither_doubles_nor_forgets(in_world):
    async def work(world):
        await world.start(f=NINE)
        assert world.go(9 * HOUR_S) == 1
        world.app.end()
        await world.restart(f=NINE)
        assert world.go(10) == 0 and world.next() == at("2026-01-02T09:00")
        assert world.go(DAY_S) == 1
        [call] = world.app.made
        await world.restart(f=NINE)
        assert world.go(DAY_S) == 0 and "left out, as the one before goes on" in world.app.told[0]
        call.fail("ExecutionError", "its container is gone")
        assert "f: its container is gone\n" in world.app.told
        await world.restart(f=NINE)
        assert world.go(10) == 0 and world.go(DAY_S) == 1

    in_world(work)


def test_of_a_run_that_was_lost_with_the_foreman_before_it_is_told(in_world):
    async def work(world):
        await world.start(f=NINE)
        assert world.go(9 * HOUR_S) == 1
        [call] = world.app.made
        await world.stop()
        call.on_done.clear()
        call.fail("ExecutionError", "its container is gone")
        await world.start(f=NINE)
        assert world.app.told == ["f: its container is gone\n"] and world.go(10) == 0

    in_world(work)


def test_of_runs_that_were_missed_one_is_made_up_for(in_world):
    async def work(world):
        await world.start(f=NINE, g=Period(hours=5))
        await world.stop()
        world.now += 3 * DAY_S + 10 * HOUR_S
        await world.start(f=NINE, g=Period(hours=5))
        assert world.go(1) == 2
        assert all("was missed, and is made up for now" in text for text in world.app.told)
        assert world.next("f") == at("2026-01-05T09:00")
        assert world.next("g") == at("2026-01-01T00:00") + 17 * 5 * HOUR_S

    in_world(work)


def test_a_machine_that_slept_makes_up_for_one(in_world):
    async def work(world):
        await world.start(f=NINE)
        assert world.go(10 * DAY_S, step=10 * DAY_S) == 1
        world.app.end()
        assert world.go(8 * HOUR_S) == 0 and world.go(HOUR_S) == 1

    in_world(work)


def test_a_clock_that_goes_back_a_little_has_nothing_run_twice(in_world):
    async def work(world):
        await world.start(f=NINE)
        assert world.go(9 * HOUR_S + 30, step=1) == 1
        world.app.end()
        for back in (40.0, HOUR_S, CORRECTED_S - 60):
            world.now = at("2026-01-01T09:00") - back + 30
            assert world.go(back) == 0
        assert world.next() == at("2026-01-02T09:00")

    in_world(work)


def test_a_clock_that_was_wrong_by_years_is_forgotten_when_it_is_corrected(in_world):
    async def work(world):
        await world.start(f=NINE, g=Period(days=2))
        right, world.now = world.now, at("2031-05-05T05:05")
        assert world.go(1) == 2
        for call in world.app.made:
            call.settle({"status": "ok"})
        await world.restart(f=NINE, g=Period(days=2))
        world.now = right + 60
        assert world.go(60) == 0
        assert world.next("f") == at("2026-01-01T09:00")
        assert right + DAY_S < world.next("g") < right + 3 * DAY_S

    in_world(work)


def test_a_new_version_keeps_the_time_of_what_has_the_same_schedule(in_world):
    async def work(world):
        day = Period(days=1)
        await world.start(f=day, g=day, h=day)
        world.go(20 * HOUR_S)
        world.use(f=day, g=Period(days=2), k=day)
        assert world.next("f") == at("2026-01-02T00:00")
        assert world.next("g") == world.now + 2 * DAY_S and world.next("k") == world.now + DAY_S
        await world.restart(f=day, g=Period(days=2), k=day, h=day)
        assert world.next("f") == at("2026-01-02T00:00") and world.next("h") == world.now + DAY_S

    in_world(work)


def test_what_is_stopped_is_forgotten(in_world):
    async def work(world):
        await world.start(f=NINE)
        await world.schedules.forget(world.app)
        assert world.schedules.describe(world.app) == {} and world.go(DAY_S) == 0
        assert await world.store.read(TABLES, "SELECT * FROM schedules") == []

    in_world(work)


def test_what_goes_wrong_is_told_where_the_apps_output_is(in_world):
    async def work(world):
        await world.start(f=Period(hours=1))
        assert world.go(HOUR_S) == 1
        world.app.end(status="raised", traceback="Traceback ...\nValueError: \u00fc\n")
        assert world.go(HOUR_S) == 1
        world.app.made[-1].fail("ImageError", "no image")
        world.app.refuses = "no room"
        assert world.go(HOUR_S) == 0
        told = "".join(world.app.told).encode("latin-1").decode()
        assert told == "f: Traceback ...\nValueError: \u00fc\nf: no image\nf: no room\n"
        assert world.next() == at("2026-01-01T04:00")
        world.app.refuses = None
        await world.restart(f=Period(hours=1))
        assert world.go(60) == 0  # what has failed before it began is not tried again until it is due

    in_world(work)


def test_a_schedule_that_cannot_be_told_any_more_stops_no_other(in_world):
    async def work(world):
        await world.start(f=NINE, g=NINE)
        world.schedules._jobs["ap-1", "f"].given = {"cron": "0 9 * * *", "timezone": "Mars/Olympus"}
        assert world.go(9 * HOUR_S) == 1
        assert "it does not run any more: Cron: timezone: there is no 'Mars/Olympus'" in world.app.told[0]

    in_world(work)


def test_it_looks_by_itself_when_something_is_due(store_place):
    async def work():
        store, app = Store(store_place), Deployed(Foreman())
        begin = asyncio.get_running_loop().time()
        schedules = Schedules(store, lambda: 1000 + 50 * (asyncio.get_running_loop().time() - begin))
        await schedules.open()
        ran = asyncio.Event()
        app.call, call = (lambda *given: (ran.set(), call(*given))[1]), app.call
        spec = FunctionSpec("f", "m", "f", schedule=Period(seconds=5)._meta)
        schedules.use(app, AppSpec("app", {"f": spec}))
        await asyncio.wait_for(ran.wait(), 30)
        schedules.close()
        await store.close()

    asyncio.run(work())
