"""A budget: how much it is, when its periods are, and what comes of it being spent."""

import asyncio
import time
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest

from adit.exception import ConfigError, InvalidError, RemoteError
from adit.functions.command_line import Parser
from adit.functions.foreman import meter, refusal, spending
from adit.functions.foreman.admission import Admission
from adit.functions.foreman.amounts import TABLES, Amounts, Bill, Period
from adit.functions.foreman.prices import Prices
from adit.functions.foreman.spending import Budget, Spending
from adit.functions.foreman.store import Store
from adit.functions.spec import FunctionSpec

PRICES = Prices(core_hour=1.0, gpu_hour={"H100": 10.0}, known=True)
CORE_HOUR_NS = 3600 * 10**9


@pytest.fixture(autouse=True)
def somewhere(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def noon():
    """Of a Wednesday."""
    return datetime(2026, 1, 14, 12, 0).timestamp()


def shown(budget, now):
    return [datetime.fromtimestamp(at).isoformat(" ", "minutes") for at in budget.bounds(now)]


def test_a_budget_is_a_sum_for_each_period_or_in_all():
    assert spending.read("20/day") == Budget(20.0, "day")
    assert spending.read("0.5/hour") == Budget(0.5, "hour")
    assert spending.read("5") == Budget(5.0, "")
    for wrong in ("", "-5/day", "5/", "5/year", "five", "5 / day", "$5/day", "1e3", "inf", "5/day\n"):
        with pytest.raises(InvalidError, match="is no budget"):
            spending.read(wrong)


def test_periods_are_by_the_clocks_here_also_when_those_change():
    now = noon() + 1234
    assert shown(Budget(1, "hour"), now) == ["2026-01-14 12:00", "2026-01-14 13:00"]
    assert shown(Budget(1, "day"), now) == ["2026-01-14 00:00", "2026-01-15 00:00"]
    assert shown(Budget(1, "week"), now) == ["2026-01-12 00:00", "2026-01-19 00:00"]
    assert shown(Budget(1, "month"), now) == ["2026-01-01 00:00", "2026-02-01 00:00"]
    long = Budget(1, "day").bounds(datetime(2026, 11, 1, 12).timestamp())
    assert long[1] - long[0] == 25 * 3600


class World:
    def __init__(self, place, budget, prices=PRICES):
        self.now, self.told = noon(), []
        self.store = Store(place)
        self.spending = Spending(
            budget, prices, self.store, "me", lambda kind, text: self.told.append(text), lambda: self.now
        )

    async def spend(self, core_hours, owner="me", ago_s=60.0, **bill):
        at = self.now - ago_s
        period = Period("c", owner, "", Bill("app", "f", **bill), began=at, seen=at)
        period.used = Amounts(cpu_ns=round(core_hours * CORE_HOUR_NS))
        await self.store.write(TABLES, period.to_statement())
        await self.spending.look()
        return self.spending.why_not()


@pytest.fixture
def in_world(store_place):
    def run(work, *given):
        async def live():
            world = World(store_place, *given)
            try:
                await work(world)
            finally:
                await world.store.close()

        return asyncio.run(live())

    return run


def test_when_a_days_budget_is_spent_there_is_no_more_until_the_next(in_world):
    async def work(world):
        await world.spending.look()
        assert world.spending.why_not() is None
        assert await world.spend(100.0, ago_s=13 * 3600) is None  # yesterday
        assert await world.spend(1.5) is None
        await world.spend(5.0)
        why = "budget: $6.50 of $2.00 a day are spent (try again from 2026-01-15 00:00 on)"
        assert world.spending.why_not() == why and world.told == [f"{why}: no container is started"]
        assert world.spending.again_s == 12 * 3600
        await world.spend(0.5, owner="another's")  # counts, too, and is not told again
        assert "$7.00 of" in world.spending.why_not() and len(world.told) == 1
        world.now += 12 * 3600
        assert world.spending.why_not() is None
        await world.spending.look()
        assert world.spending.why_not() is None
        assert await world.spend(2.0, ago_s=0) is not None and len(world.told) == 2

    in_world(work, Budget(2.0, "day"))


def test_a_budget_in_all_is_of_this_foreman_alone(in_world):
    async def work(world):
        assert await world.spend(50.0, owner="another's") is None
        assert await world.spend(2.0, ago_s=86_400 * 40) == "budget: $2.00 of $2.00 are spent (--budget gives more)"
        assert world.spending.again_s == spending.NEVER_S

    in_world(work, Budget(2.0))


def test_without_prices_there_is_no_budget(in_world):
    for prices in (Prices(), Prices(known=True), Prices(gpu_hour={"H100": 0}, known=True)):
        with pytest.raises(ConfigError, match=r"no prices \(write them into .*prices\.toml"):
            in_world(None, Budget(2.0), prices)


@pytest.mark.parametrize(
    ("error", "text"), [(ConfigError("store: gone"), "store: gone"), (ValueError("of a row"), "ValueError: of a row")]
)
def test_nothing_is_started_when_it_is_not_known_what_was_spent(in_world, monkeypatch, error, text):
    async def work(world):
        monkeypatch.setattr(spending, "LOOK_S", 0.01)
        await world.spending.open()
        read, looked = world.store.read, asyncio.Semaphore(0)

        async def fail(*_):
            looked.release()
            raise error

        world.store.read = fail
        for _ in range(2):  # it goes on looking
            await asyncio.wait_for(looked.acquire(), 10)
        assert world.spending.why_not() == f"budget: it is not known what was spent: {text}"
        world.store.read = read
        await world.spending.look()
        assert world.spending.why_not() is None
        world.spending.close()

    in_world(work, Budget(2.0, "day"))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Chatham"])
def test_rows_begin_where_a_budgets_hours_do_in_each_time_zone(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    begin, end = Budget(1.0, "hour").bounds(1_700_000_000.0)
    assert begin % meter.PERIOD_S == end % meter.PERIOD_S == 0


def test_callers_and_visitors_are_told_and_spares_are_not_taken(in_world):
    async def work(world):
        admission = Admission(SimpleNamespace())
        pool = SimpleNamespace(spec=FunctionSpec("f", "m", "f"), spare=False, waiting=[], app=world)
        assert admission.again_s == refusal.RETRY_S
        admission.spending = world.spending
        assert admission.again_s == refusal.RETRY_S
        await world.spend(2.0)
        with pytest.raises(RemoteError, match=r"^f: budget: \$2.00 of \$2.00 a day are spent"):
            await admission.check(SimpleNamespace(pool=pool))
        assert not admission.pass_on(pool)
        assert admission.again_s == 12 * 3600

    in_world(work, Budget(2.0, "day"))


def test_a_gpu_counts_with_its_price(in_world):
    async def work(world):
        period = Period("c", "me", "", Bill("app", "f", gpu="H100", gpus=1), began=world.now, seen=world.now)
        period.used = Amounts(gpu_s=3600.0)
        await world.store.write(TABLES, period.to_statement())
        await world.spending.look()
        assert "$10.00 of $10.00" in world.spending.why_not()

    in_world(work, Budget(10.0, "hour"), replace(PRICES, core_hour=0.0))


def test_commands_take_it_and_say_what_is_wrong_with_it(monkeypatch, capsys):
    monkeypatch.delenv("ADIT_FOREMAN", raising=False)
    monkeypatch.setenv("ADIT_BUDGET", "")
    parser = Parser("run", "Runs.")
    parser.takes_budget()
    assert spending.wanted() is None
    parser.parse_args(["--budget", "20/day"])
    assert spending.wanted() == Budget(20.0, "day")
    for text, foreman, why in (("20/dya", "", "is no budget (such as 20/day"), ("20", "/x", "adit foreman --budget")):
        monkeypatch.setenv("ADIT_FOREMAN", foreman)
        with pytest.raises(SystemExit):
            parser.parse_args(["--budget", text])
        assert why in capsys.readouterr().err
    monkeypatch.setenv("ADIT_BUDGET", "much")
    with pytest.raises(ConfigError, match="ADIT_BUDGET: 'much' is no budget"):
        spending.wanted()
