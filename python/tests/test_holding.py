"""Queues and dicts at the foreman: what they cost, and to whom they belong."""

import asyncio

import pytest

from adit.exception import ConfigError, InvalidError, NotFoundError, RemoteError
from adit.functions import wire
from adit.functions.foreman import dicts, holding, queues
from adit.functions.foreman.budget import Budget


def test_items_without_bytes_are_counted_before_they_are_made():
    assert wire.unpack_items(bytes(4 * 3), 3) == [b""] * 3
    with pytest.raises(InvalidError, match="more than 3 items"):
        wire.unpack_items(bytes(4 * 4), 3)


def test_an_entry_costs_more_than_its_bytes_and_gives_all_of_it_back():
    budget = Budget("dicts", 1 << 20)
    made = dicts.Dict(budget)
    made.put([(b"a", b"1"), (b"b", b"2")], skip=False)
    assert budget._taken == 2 * (dicts.ENTRY_COST + 2)
    made.put([(b"a", b""), (b"b", b"22")], skip=False)
    assert budget._taken == 2 * dicts.ENTRY_COST + 4
    made.pop(b"b")
    made.put([(b"a", b"1234")], skip=True)
    made.clear()
    assert budget._taken == 0
    with pytest.raises(RemoteError, match="try again later"):
        made.put(((b"%d" % n, b"") for n in range(10_000)), skip=False)


@pytest.mark.parametrize("error", [ConfigError("store: it is away"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no")])
def test_items_that_cannot_be_written_leave_nothing_and_make_room(error):
    async def use():
        budget = Budget("queues", 1 << 20)
        queue = queues.Queue(1, budget)
        await queue.put([b"a"], "", 3600, 0, some=False)
        [(number, _)] = await queue.get(1, "", 0)
        queue.sent([(number, b"a")])
        empty, record = budget._taken, queue._record.put
        failing = asyncio.get_running_loop().create_future()
        queue._record.put = lambda *_: failing
        first = asyncio.ensure_future(queue.put([b"lost"], "", 3600, 0, some=False))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(queue.put([b"there"], "", 3600, 10, some=False))
        await asyncio.sleep(0)
        queue._record.put = record
        failing.set_exception(error)
        with pytest.raises(type(error)):
            await first
        assert await second == 1
        assert [item for _, item in await queue.get(9, "", 0)] == [b"there"]
        queue.sent([(0, b"there")])
        assert budget._taken == empty

    asyncio.run(use())


def test_one_with_a_name_stays_and_an_app_makes_so_many(monkeypatch):
    monkeypatch.setattr(holding, "NAMED_MAX", 2)

    async def use():
        held = queues.Queues()
        mine = held.named("mine", 0, missing=True)
        with pytest.raises(InvalidError, match="it has a name, and stays"):
            await held.end(mine)
        for name in ("a", "b", "a"):
            held.named(name, 0, missing=True, app="app")
        with pytest.raises(RemoteError, match="2 with names already"):
            held.named("c", 0, missing=True, app="app")
        assert held.named("mine", 0, missing=True, app="app") == mine
        held.named("c", 0, missing=True)
        for name in ("", "x" * (holding.NAME_MAX + 1), 7):
            with pytest.raises(InvalidError, match="1 to 256 characters"):
                held.named(name, 0, missing=True)
        for name in ("a\0", "\ud800"):
            with pytest.raises(InvalidError, match=r"its name 'a?\\\S+' has characters that cannot be kept"):
                held.named(name, 0, missing=True)
        other = held.named(None, 0, missing=True, app="app")
        await held.end(other)
        with pytest.raises(NotFoundError):
            held.find(other)

    asyncio.run(use())


def test_what_a_queue_can_never_do_is_refused_at_once():
    async def use():
        queue = queues.Queue(3, Budget("queues", 1 << 20))
        with pytest.raises(InvalidError, match="4 items at once, of at most 3"):
            await queue.put([b""] * 4, "", 60, 60, some=False)
        for n in (0, -1):
            with pytest.raises(InvalidError, match="get at least 1"):
                await queue.get(n, "", 60)
        for maxsize in (-1, queues.ITEMS_MAX + 1):
            with pytest.raises(InvalidError, match="from 0 to 5000"):
                queues.Queue(maxsize, Budget("queues", 1 << 20))

    asyncio.run(use())


def test_items_that_have_expired_are_not_counted_and_go_without_being_looked_for(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(queues.time, "monotonic", lambda: now[0])

    async def use():
        budget = Budget("queues", 1 << 20)
        queue = queues.Queue(0, budget)
        await queue.put([b"x"], "one", 60, 0, some=False)
        await queue.put([b"x"], "two", 90, 0, some=False)
        now[0] += 61
        assert queue.count("one", total=False) == 0 and queue.count(None, total=True) == 1
        now[0] += 30
        queue._sweep()
        assert budget._taken == 0 and queue._sweeping is None

    asyncio.run(use())


def test_items_under_way_count_until_they_are_sent_or_back():
    async def use():
        budget = Budget("queues", 1 << 20)
        queue = queues.Queue(0, budget)
        await queue.put([b"x"] * 4, "", 60, 0, some=False)
        full = budget._taken
        first, second, third = [await queue.get(1, "", 0) for _ in range(3)]
        assert budget._taken == full
        queue.sent(first)
        await queue.put_back(second, "")
        assert queue.count("", total=False) == 2
        await queue.end()
        await queue.put_back(third, "")
        assert budget._taken == 0

    asyncio.run(use())
