"""The meter, on a virtual clock and an engine that is none: what it adds up, writes, and makes a price of."""

import asyncio
import json
import os

import pytest

from adit.exception import ConfigError, InvalidError, RemoteError
from adit.functions import quantities, usage as command
from adit.functions.engine import Container, Ended, Resources, Usage
from adit.functions.engine.groups import Hierarchies
from adit.functions.foreman import prices
from adit.functions.foreman.amounts import TABLES, Amounts, Bill
from adit.functions.foreman.meter import Meter
from adit.functions.foreman.store import Store

BEGIN = 1_700_000_000.0  # 22:13:20 UTC
GIB = 1 << 30
CONTAINER = Container("image", ["true"], "adit-f-1", {}, limits=Resources(4.0, 2 * GIB))
PRICED = prices.Prices(core_hour=0.05, gib_hour=0.01, gpu_hour={"H100": 4.0}, known=True)


class Running:
    """A container that uses what it is told to."""

    def __init__(self, name):
        self.id, self.cpu_ns, self.memory, self.alive, self.removable = name, 0, 0, True, True
        self.end = asyncio.Event()

    async def usage(self):
        return Usage(round(self.cpu_ns), self.memory) if self.alive else None

    async def ended(self):
        await self.end.wait()
        return Ended(1)

    async def signal(self, name):
        pass

    async def remove(self):
        if not self.removable:
            raise RemoteError("engine: gone")
        self.alive = False


class Engine:
    has_machines = False

    def __init__(self):
        self.n = 0

    async def shares_groups(self):
        return False

    async def start(self, container):
        self.n += 1
        return Running(f"{container.name}-{self.n}")


class World:
    """A meter, its clock, and what it has told."""

    def __init__(self, path):
        self.now, self.told, self.is_store_there = 0.0, [], True
        self.store = Store(str(path))
        clock, wall = (lambda: self.now), (lambda: BEGIN + self.now)
        self.meter = Meter(Engine(), self.store, "test", lambda kind, text: self.told.append((kind, text)), clock, wall)

    async def start(self, **bill):
        return await self.meter.start(CONTAINER, Bill("app", "f", "ap-1", **bill))

    async def go(self, running, seconds, cores=0.0, memory=0, step=1):
        """Time passes, in which a container uses this."""
        for _ in range(0, seconds, step):
            self.now += step
            running._running.cpu_ns += cores * step * 1e9
            running._running.memory = memory
            await self.meter.sample()
        if self.is_store_there:
            await asyncio.gather(*self.meter._jobs)

    async def rows(self):
        return await self.store.read(TABLES, "SELECT * FROM usage ORDER BY began, seen")


@pytest.fixture
def in_world(store_place):
    def run(work):
        async def live():
            world = World(store_place)
            try:
                return await work(world)
            finally:
                await world.meter.close()
                await world.store.close()

        return asyncio.run(live())

    return run


async def the_hour(world, tunnel):
    """An hour of development with 0.01 cores, then an intensive job with 16 for one minute of it."""
    container = await world.start()
    passing = (
        world.meter.watch("t", Bill("app", "f"), lambda: (int(world.now), int(world.now) << 20)) if tunnel else None
    )
    for cores, seconds in ((0.01, 59 * 60), (16, 60)):
        await world.go(container, seconds, cores, GIB // 2, step=5)
        if tunnel:
            container.passed(int(world.now), int(world.now) << 30)
    await container.remove()
    if passing is not None:
        await passing.close()
    return PRICED.sum(world.meter.take_run("ap-1"))


def test_an_hour_at_a_hundredth_of_a_core_and_a_minute_at_sixteen_is_028_core_hours(in_world):
    told = in_world(lambda world: the_hour(world, tunnel=False))
    assert told["core_hours"] == pytest.approx(0.01 * 59 / 60 + 16 / 60) == pytest.approx(0.2765)
    assert quantities.sentence(told).startswith("0.28 core-hours, 0.5 GiB-hours, tunnels: free. $0.0")


def test_a_container_is_removed_whatever_becomes_of_its_last_reading(in_world):
    async def work(world):
        container = await world.start()

        async def usage():
            return Usage(0, 10**400)

        container._running.usage = usage
        with pytest.raises(OverflowError):
            await container.remove()
        return container._running.alive, world.meter._entries

    assert in_world(work) == (False, set())


def test_a_tunnel_changes_the_price_by_nothing(in_world):
    async def work(world):
        told = await the_hour(world, tunnel=True)
        await asyncio.gather(*world.meter._jobs)
        return told, command.report(await world.rows(), "app", PRICED)

    told, report = in_world(work)
    without = in_world(lambda world: the_hour(world, tunnel=False))
    assert told == without and told["price"] > 0
    assert report["total"]["price"] == pytest.approx(without["price"], rel=1e-12)
    assert report["tunnel"] == {
        "streams": 2 * 3600,
        "bytes": (3600 << 30) + (3600 << 20),
        "bytes_said": 3600 << 30,
        "price": 0.0,
    }


def test_each_quarter_of_an_hour_has_a_row_and_their_sum_is_the_whole(in_world):
    async def work(world):
        container = await world.start(cpus=0.1, memory_bytes=GIB, gpu="H100", gpus=2)
        await container.begin_call("c")
        await world.go(container, 2 * 3600, 0.5, GIB, step=60)
        await container.remove()
        await asyncio.gather(*world.meter._jobs)
        return await world.rows()

    rows = in_world(work)
    assert [row["began"] - BEGIN for row in rows] == [0, *range(120, 7200, 900)]  # 22:15:20, 22:30:20 and so on
    assert sum(row["cpu_ns"] for row in rows) == 3600 * 10**9
    assert sum(row["memory_byte_s"] for row in rows) == pytest.approx(7170 * GIB)  # it grew for the first minute
    assert sum(row["gpu_s"] for row in rows) == 4 * 3600
    assert {(row["ended"], row["how"]) for row in rows} == {(1, "exact")}
    assert [row["calls"] for row in rows] == [1, *[0] * 8]
    assert {(row["cpu_limit"], row["memory_limit"], row["memory_peak"]) for row in rows} == {(4.0, 2 * GIB, GIB)}


def test_what_is_billed_is_what_was_used_or_at_each_moment_what_was_asked_for_if_that_is_more(in_world):
    async def work(world):
        container = await world.start(cpus=1.0, memory_bytes=GIB)
        await world.go(container, 1800, 0.0, 2 * GIB)
        await world.go(container, 1800, 3.0, 0)
        await container.remove()
        return world.meter.take_run("ap-1")

    used = in_world(work)
    use = prices.Prices(core_hour=1.0, known=True).sum(used)
    most = prices.Prices(core_hour=1.0, bill="max", known=True).sum(used)
    assert use["price"] == pytest.approx(1.5) and most["price"] == pytest.approx(0.5 + 1.5)
    most = prices.Prices(gib_hour=1.0, bill="max", known=True).sum(used)
    assert most["price"] == pytest.approx(1.0 + 0.5, rel=1e-3)


def test_a_call_has_what_its_container_used_meanwhile(in_world):
    async def work(world):
        container = await world.start()
        await world.go(container, 5, 1.0)
        used = []
        for cores in (0.1, 0.4):
            await container.begin_call("c")
            world.now += 1
            container._running.cpu_ns += cores * 1e9
            used.append(await container.end_call("c"))
            await world.go(container, 3, 0.01)
        return used

    first, second = in_world(work)
    assert (first.cpu_ns, first.seconds) == (100_000_000, 1.0)
    assert (second.cpu_ns, second.seconds) == (400_000_000, 1.0)


@pytest.mark.parametrize(("last_word", "how"), [(False, "sampled"), (True, "exact")])
def test_of_a_container_that_died_the_last_sample_stands_unless_it_had_said_that_it_ends(in_world, last_word, how):
    async def work(world):
        container = await world.start()
        await world.go(container, 10, 1.0, GIB)
        if last_word:
            await container.leaves()
        container._running.end.set()
        await container.ended()
        container._running.alive = False
        world.now += 0.5
        await world.meter.sample()
        await container.remove()
        await asyncio.gather(*world.meter._jobs)
        return await world.rows()

    (row,) = in_world(work)
    assert (row["how"], row["ended"], row["cpu_ns"]) == (how, 1, 10 * 10**9)


def test_of_a_crash_what_was_written_last_stands_and_a_later_foreman_closes_it(in_world, monkeypatch):
    async def crash(world):
        container = await world.start()
        await world.go(container, 31, 1.0)
        for job in list(world.meter._jobs):
            await job
        world.meter._entries.clear()
        await world.store.write(TABLES, ("UPDATE usage SET owner = ?", world.meter.owner + "0"))
        return (await world.rows())[0]

    async def later(world):
        await world.meter.open()
        return await world.rows()

    left = in_world(crash)
    assert left["ended"] == 0 and left["cpu_ns"] == 30 * 10**9
    assert in_world(later) == [{**left, "ended": 1, "how": "sampled"}]


def test_when_the_engine_is_gone_the_row_stays_open_for_later(in_world):
    async def work(world):
        container = await world.start()
        await world.go(container, 10, 1.0)
        container._running.removable = False
        with pytest.raises(RemoteError):
            await container.remove()
        await asyncio.gather(*world.meter._jobs)
        return await world.rows()

    (row,) = in_world(work)
    assert row["ended"] == 0 and row["cpu_ns"] == 10 * 10**9


def test_when_nothing_can_be_written_that_is_said_once_and_all_goes_on(tmp_path):
    async def work():
        (tmp_path / "file").write_text("")
        world = World(tmp_path / "file" / "x.db")
        container = await world.start()
        await asyncio.gather(*world.meter._jobs)
        await world.go(container, 30, 1.0)
        await container.remove()
        await world.meter.close()
        return world.told, world.meter.take_run("ap-1")

    told, used = asyncio.run(work())
    assert len(told) == 1 and told[0][0] == "note" and "usage is not written down: store: " in told[0][1]
    assert used[""].cpu_ns == 30 * 10**9


def test_a_store_that_does_not_answer_is_not_asked_ever_more(tmp_path, monkeypatch):
    async def work():
        world, asked, answer = World(tmp_path / "x.db"), [], asyncio.Event()
        write = world.store.write

        async def late(*what):
            asked.append(what)
            await answer.wait()
            return await write(*what)

        monkeypatch.setattr(world.store, "write", late)
        world.is_store_there = False
        container = await world.start()
        await world.go(container, 60, 1.0)
        assert len(asked) == 1
        answer.set()
        await asyncio.gather(*world.meter._jobs)
        assert len(asked) == 2
        [row] = await world.rows()
        assert row["cpu_ns"] == 60 * 10**9
        await world.meter.close()
        await world.store.close()

    asyncio.run(work())


def test_a_containers_word_on_its_tunnels_is_kept_within_bounds(in_world):
    async def work(world):
        container = await world.start()
        for streams, count in ((3, 100), (2, 50), (1 << 80, 1 << 80), (-5, -5)):
            container.passed(streams, count)
        await container.remove()
        await asyncio.gather(*world.meter._jobs)
        return await world.rows()

    (row,) = in_world(work)
    assert row["streams"] == row["bytes"] == row["bytes_said"] == 1 << 62


def test_what_the_relay_counts_stands_for_a_containers_word(in_world):
    """From when the relay is there, and when it begins anew, too."""

    async def work(world):
        container, answers = await world.start(), [None]

        async def counted(last):
            return answers[-1]

        container.counted = counted
        assert not await container.count()
        container.passed(7, 1 << 40)
        for answer in ({"a": (1, 100)}, {"a": (3, 500), "b": (1, 10)}, {"a": (1, 50), "b": (1, 10)}, {}, None):
            answers.append(answer)
            await world.go(container, 1)
        answers.append({"b": (2, 20)})
        await container.remove()
        await asyncio.gather(*world.meter._jobs)
        return await world.rows()

    (row,) = in_world(work)
    assert (row["streams"], row["bytes"], row["bytes_said"]) == (3 + 1 + 2, 500 + 50 + 20, 0)


# --- control groups ---


def files(folder, **contents):
    os.makedirs(folder)
    for name, text in contents.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_control_groups_of_version_1_are_read(tmp_path):
    mounts = [
        f"cgroup {tmp_path}/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n",
        f"cgroup {tmp_path}/memory cgroup rw,memory 0 0\n",
        f"cgroup2 {tmp_path}/unified cgroup2 rw 0 0\n",
        "proc /proc proc rw 0 0\n",
    ]
    here = Hierarchies.find(mounts)
    assert here is not None and not here.unified
    files(tmp_path / "cpu,cpuacct" / "adit" / "x", cpuacct__usage="548580123\n")
    memory = {
        "memory__usage_in_bytes": "73400320\n",
        "memory__stat": "cache 4096\ninactive_file 1\ntotal_inactive_file 400320\n",
    }
    files(tmp_path / "memory" / "adit" / "x", **memory)
    assert here.usage("/adit/x") == Usage(548580123, 73_000_000)
    assert here.usage("/adit/y") is None


def test_control_groups_of_version_2_are_read(tmp_path):
    here = Hierarchies.find([f"cgroup2 {tmp_path} cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0\n"])
    assert here is not None and here.unified
    files(
        tmp_path / "adit" / "x",
        cpu__stat="usage_usec 548580\nuser_usec 500000\nsystem_usec 48580\nnr_periods 0\n",
        memory__current="73400320\n",
        memory__stat="anon 1\nfile 2\ninactive_anon 7\ninactive_file 400320\n",
    )
    assert here.usage("/adit/x") == Usage(548_580_000, 73_000_000)
    files(tmp_path / "adit" / "bare", cpu__stat="usage_usec 7\n")  # without a controller of memory
    assert here.usage("/adit/bare") == Usage(7000, 0)


def test_control_groups_are_made_and_removed_and_none_where_there_is_no_right_to(tmp_path):
    here = Hierarchies.find([f"cgroup2 {tmp_path}/here cgroup2 rw 0 0\n"])
    assert here.make("/adit/f/x") and (tmp_path / "here" / "adit" / "f" / "x").is_dir()
    (tmp_path / "here" / "adit" / "f" / "x" / "busy").write_text("")
    assert not here.remove("/adit/f/x")
    (tmp_path / "here" / "adit" / "f" / "x" / "busy").unlink()
    assert here.remove("/adit/f/x") and here.remove("/adit/f/x")
    assert not Hierarchies.find(["cgroup2 /proc/self cgroup2 ro 0 0\n"]).make("/adit/x")
    assert Hierarchies.find(["proc /proc proc rw 0 0\n"]) is None


# --- prices and words ---


def test_prices_are_read_and_a_wrong_one_is_told_with_its_name(tmp_path):
    path = tmp_path / "prices.toml"
    assert not prices.read(str(path)).known
    path.write_text('currency = "EUR"\ncore_hour = 0.05\nbill = "max"\n[gpu_hour]\nH100 = 4\nany = 1.5\n')
    read = prices.read(str(path))
    assert (read.currency, read.core_hour, read.gib_hour, read.bill) == ("EUR", 0.05, 0.0, "max")
    assert read.gpu_hour == {"H100": 4, "any": 1.5}
    for text, said in (
        ("core_hour = ", "prices.toml: "),
        ("core_hour = -1", "core_hour: -1 is no price"),
        ('gib_hour = "much"', "gib_hour: 'much' is no price"),
        ("core_hours = 1", "core_hours: there is no such setting .core_hour, "),
        ('bill = "both"', "bill: 'both' is neither"),
        ("gpu_hour = 3", "gpu_hour.: it is a table"),
        ("currency = 3", "currency: 3 is no string"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            prices.read(str(path))


def test_a_gpu_has_the_price_of_the_kind_that_says_most_of_it():
    listed = prices.Prices(gpu_hour={"any": 1.0, "A100": 2.0, "A100-80GB": 3.0, "L4": 4.0}, known=True)
    for name, price in (
        ("NVIDIA A100-SXM4-80GB", 3.0),
        ("NVIDIA A100-SXM4-40GB", 2.0),
        ("NVIDIA L4", 4.0),
        ("NVIDIA L40S", 1.0),
        ("", 0.0),
    ):
        assert listed.sum({name: Amounts(gpu_s=3600)})["price"] == price


def test_quantities_are_written_so_that_small_ones_tell_something():
    assert [quantities.number(x) for x in (0, 0.2765, 0.4, 1.005, 1234.5, 0.000421)] == [
        *("0", "0.28", "0.4", "1.00", "1,234.50", "0.00042"),
    ]
    assert [quantities.money(x, "$") for x in (0, 0.0138, 12.5, 0.000003)] == ["$0.00", "$0.014", "$12.50", "$0.000003"]
    assert quantities.money(1, "EUR") == "1.00 EUR"
    assert [quantities.duration(x) for x in (1.24, 12.3, 240, 3600, 7500)] == [
        "1.2 s",
        "12 s",
        "4 min",
        "1 h",
        "2 h 5 min",
    ]
    assert [quantities.size(x) for x in (0, 1023, 1536, 3 << 30)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]


def test_a_time_since_when_is_a_duration_or_a_date():
    from datetime import datetime

    now = datetime(2026, 1, 31, 12, 30)
    for text, when in (
        ("90m", datetime(2026, 1, 31, 11)),
        ("2d", datetime(2026, 1, 29, 12, 30)),
        ("today", datetime(2026, 1, 31)),
        ("2026-01-02", datetime(2026, 1, 2)),
        ("2026-01-02T03:04", datetime(2026, 1, 2, 3, 4)),
    ):
        assert command.since(text, now) == when.timestamp()
    for wrong in ("", "yesterday-ish", "5 parsecs", "2026-13-01"):
        with pytest.raises(InvalidError, match="is no time"):
            command.since(wrong, now)


def test_the_usage_of_a_store_is_shown_wherever_that_is(in_world, store_place, capsys, monkeypatch):
    async def work(world):
        await world.go(container := await world.start(), 36, 1.0)
        await container.remove()

    in_world(work)
    assert command.usage(["--store", store_place, "--json"]) == 0
    given = capsys.readouterr().out
    assert json.loads(given)["total"]["core_hours"] == pytest.approx(0.01)
    monkeypatch.setenv("ADIT_STORE", store_place)
    assert command.usage(["--json", "--since", "2020-01-01"]) == 0
    assert capsys.readouterr().out == given


def test_a_report_has_a_row_for_tunnels_even_if_there_was_nothing():
    assert command.table(command.report([], "app", prices.Prices()))[1].split() == [
        "tunnel",
        "0",
        "streams,",
        "0",
        "B",
        "0.00",
    ]
