"""What a foreman that comes back has again, whenever the one before died: with a store whose writes come when the test
says so, and a death that loses those which have not."""

import asyncio
import random
from types import SimpleNamespace

import pytest

from adit.functions import wire
from adit.functions.foreman import queue_verbs, shelf
from adit.functions.foreman.dicts import Dicts
from adit.functions.foreman.queues import Queues
from adit.functions.foreman.shelf import Answers, Shelf
from adit.functions.foreman.store import Store
from adit.functions.foreman.verbs import Asked


class LateStore:
    """Its writes wait until they are let through, one after the other."""

    def __init__(self, path):
        self._store, self._waiting = Store(path), []

    def post(self, tables, *statements):
        posted = asyncio.get_running_loop().create_future()
        self._waiting.append((posted, tables, statements))
        return posted

    async def read(self, tables, sql, *values):
        return self._store.do(tables, (sql, *values))

    def let_through(self):
        if self._waiting:
            posted, tables, statements = self._waiting.pop(0)
            rows = self._store.do(tables, *statements)
            if not posted.done():
                posted.set_result(rows)

    def lose(self):
        self._waiting.clear()


class World:
    """A foreman with queues and dicts, which dies and is there again, and its callers, who ask until they are
    answered."""

    def __init__(self, path, seed):
        self.store, self.random = LateStore(path), random.Random(seed)
        self.asking = set()
        self.there = asyncio.Event()
        self.deaths = 0

    async def start(self):
        held, answers = Shelf(self.store, "f"), Answers(self.store, "f")
        self.foreman = SimpleNamespace(
            shelf=held, answers=answers, queues=Queues(held), dicts=Dicts(held), returns=True
        )
        await answers.load()
        for row in await held.held([]):
            (self.foreman.queues if row["kind"] == "queue" else self.foreman.dicts).restore(row)
        self.there.set()

    async def die(self):
        self.deaths += 1
        self.there.clear()
        self.store.lose()
        asking, self.asking = self.asking, set()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self.start()

    async def ask(self, verb, payload=b"", **meta):
        meta = {"once": self.random.randbytes(8).hex(), **meta}
        while True:
            await self.there.wait()
            task = asyncio.ensure_future(verb(Asked(self.foreman, None, meta, payload)))
            self.asking.add(task)
            await asyncio.wait({task})
            await asyncio.sleep(0)  # the answer is on its way, and may not be heard
            if task in self.asking:
                self.asking.discard(task)
                return task.result(), meta

    async def put(self, queue, items):
        while items:
            n = self.random.randint(1, 3)
            some, items = items[:n], items[n:]
            await self.ask(queue_verbs.queue_put, wire.pack_items(some), queue=queue, partition="", ttl=3600)

    async def get(self, queue, got, count):
        while len(got) < count:
            answer, meta = await self.ask(queue_verbs.queue_get, queue=queue, partition="", n=self.random.randint(1, 3))
            if answer.meta.get("not_yet"):
                await asyncio.sleep(0)
                continue
            await self.ask(queue_verbs.queue_got, **meta)
            got += wire.unpack_items(answer.payload)

    async def drive(self, work):
        """Lets things happen in an order of chance until all of the work is done."""
        work = asyncio.gather(*work)
        while not work.done():
            chance = self.random.random()
            if chance < 0.02:
                await self.die()
            elif chance < 0.5:
                self.store.let_through()
            for _ in range(self.random.randint(0, 3)):
                await asyncio.sleep(0)
        return await work


@pytest.mark.parametrize("seeds", [range(n, n + 25) for n in range(0, 200, 25)], ids=str)
def test_items_are_neither_lost_nor_doubled_whenever_a_foreman_dies(tmp_path, seeds):
    async def use(seed):
        world = World(str(tmp_path / f"{seed}.db"), seed)
        await world.start()
        creating = asyncio.ensure_future(world.ask(queue_verbs.queue_create, name="q"))
        await world.drive([creating])
        queue = creating.result()[0].meta["queue"]
        items = [[b"%d-%d" % (who, n) for n in range(8)] for who in range(2)]
        got = []
        putting = [world.put(queue, given) for given in items]
        await world.drive([*putting, *(world.get(queue, got, 16) for _ in range(2))])
        assert sorted(got) == sorted(items[0] + items[1])
        assert world.foreman.queues.find(queue).count(None, total=True) == 0
        return world.deaths

    deaths = [asyncio.run(use(seed)) for seed in seeds]
    assert sum(deaths) > len(deaths)


def test_answers_are_kept_for_a_while_and_not_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "ASKED_BYTES", 100)

    async def use():
        store = LateStore(str(tmp_path / "store.db"))
        answers = Answers(store, "f")
        for n in range(5):
            store.post(shelf.TABLES, *answers.note(f"{n}", {"n": n}, bytes(40)))
        for _ in range(5):
            store.let_through()
        again = Answers(store, "f")
        await again.load()
        for kept in (answers, again):
            assert [n for n in range(5) if kept.find(f"{n}")] == [3, 4]
        assert again.find("4") == ({"n": 4}, bytes(40))
        assert again.note("", {}) == ()

    asyncio.run(use())
