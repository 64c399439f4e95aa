"""What a foreman that comes back has again, whenever the one before died: with a store whose writes come when the test
says so, and a death that loses those which have not."""

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from adit.exception import ConfigError, NotFoundError, RemoteError
from adit.functions import wire
from adit.functions.engine import Ended, Resources, Usage
from adit.functions.foreman import (
    apps,
    book,
    calls,
    foreman as foreman_module,
    images,
    ledger,
    owner,
    places,
    queue_verbs,
    shelf,
    worker,
)
from adit.functions.foreman.amounts import Amounts
from adit.functions.foreman.call_verbs import TAKEN_MAX
from adit.functions.foreman.calls import CALL_COST, Call
from adit.functions.foreman.dicts import Dicts
from adit.functions.foreman.foreman import Foreman
from adit.functions.foreman.queues import Queues
from adit.functions.foreman.shelf import Answers, Shelf
from adit.functions.foreman.store import Store, open_database
from adit.functions.foreman.verbs import CALLER, RUNNER, Asked
from adit.functions.remote import Channel
from adit.functions.spec import FOREMAN_GONE, AppSpec, FunctionSpec


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

    async def close(self):
        await self._store.close()


class World:
    """A foreman with queues and dicts, which dies and is there again, and its callers, who ask until they are
    answered."""

    def __init__(self, path, seed):
        self.store, self.name, self.random = LateStore(path), f"f{seed}", random.Random(seed)
        self.asking = set()
        self.there = asyncio.Event()
        self.deaths = 0

    async def start(self):
        held, answers = Shelf(self.store, self.name), Answers(self.store, self.name)
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
            if chance < 0.04:
                await self.die()
            elif chance < 0.5:
                self.store.let_through()
            for _ in range(self.random.randint(0, 3)):
                await asyncio.sleep(0)
        return await work


@pytest.mark.parametrize("seeds", [range(n, n + 25) for n in range(0, 200, 25)], ids=str)
def test_items_are_neither_lost_nor_doubled_whenever_a_foreman_dies(store_place, seeds):
    async def use(seed):
        world = World(store_place, seed)
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
        await world.store.close()
        return world.deaths

    some = seeds[:4] if "://" in store_place else seeds  # as it takes longer there
    deaths = [asyncio.run(use(seed)) for seed in some]
    assert sum(deaths) >= len(deaths)


@pytest.mark.parametrize("kind", ["queue", "dict"])
def test_what_is_made_is_there_whole_with_its_answer_or_not_at_all(tmp_path, kind):
    async def use():
        world = World(str(tmp_path / "store.db"), 1)
        await world.start()
        payload = wire.pack_items([b"key", b"value"]) if kind == "dict" else b""
        asking = asyncio.ensure_future(world.ask(CALLER[f"{kind}_create"], payload, once="o"))
        await asyncio.sleep(0.01)
        world.store.let_through()
        await world.die()  # before the answer is heard
        await asyncio.sleep(0.01)
        world.store.let_through()
        made = (await asking)[0].meta[kind]
        rows = await world.store.read(shelf.TABLES, "SELECT id FROM held")
        assert [row["id"] for row in rows] == [made]
        if kind == "dict":
            assert world.foreman.dicts.find(made).entries == {b"key": b"value"}

    asyncio.run(use())


def test_answers_are_kept_for_a_while_and_not_too_many(store_place, monkeypatch):
    monkeypatch.setattr(shelf, "ASKED_BYTES", 100)

    async def use():
        store = LateStore(store_place)
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
        await store.close()

    asyncio.run(use())


@pytest.fixture
def place(tmp_path, store_place, monkeypatch):
    """Of a socket and of the state of a foreman."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("ADIT_STORE", store_place)
    monkeypatch.setattr(apps, "_check", nothing)
    monkeypatch.setattr(images.Images, "ensure", nothing)
    return str(tmp_path / "caller.sock"), str(tmp_path / "state")


async def nothing(*_, **__):
    pass


class Container:
    """It runs until it is removed."""

    def __init__(self, worker):
        self.id, self.worker, self.gone = f"id of {worker}", worker, asyncio.Event()

    async def output(self):
        return
        yield

    async def ended(self):
        await self.gone.wait()
        return Ended(1)

    async def usage(self):
        return Usage(1, 1)

    async def signal(self, name):
        self.gone.set()

    async def remove(self):
        self.gone.set()


class Engine:
    """Of one machine. ``there`` are the containers that it has, by what the foreman calls them; ``started`` are new."""

    def __init__(self, *there):
        self.there, self.adopted, self.started = [Container(worker) for worker in there], [], []

    def __getattr__(self, name):
        return nothing

    async def leftovers(self, label):
        return [(c, {owner.LABEL: self.owner, worker.LABEL: c.worker}) for c in self.there]

    async def leftover_volumes(self, label):
        return []

    async def find_image(self, name):
        return f"id of {name}"

    async def resources(self):
        return Resources(4.0, 64 << 30)

    async def adopt(self, running, since, folder):
        self.adopted.append(running.worker)
        return True

    async def start(self, container):
        made = Container(container.labels[worker.LABEL])
        self.started.append(made.worker)
        return made


def live(place, engine, work):
    """``await work(foreman)``, of one that dies then."""

    async def run():
        engine.owner = owner.service_labels(places.state_identity(), place[0])[owner.LABEL]
        foreman = Foreman(engine, place)
        try:
            await foreman.open()
            return await work(foreman)
        finally:
            await foreman.close()

    return asyncio.run(run())


async def with_calls(foreman, retries):
    """An app with a function, and two calls: one that waits, and one that the container ``w`` has; their ids."""
    functions = {"f": FunctionSpec("f", "m", "f", retries=retries, concurrency_limit=1)}
    asked = {"spec": AppSpec("shop", functions).to_meta(), "name": "shop"}
    app = (await CALLER["app_named"](Asked(foreman, None, asked, b""))).meta["app"]
    await CALLER["app_update"](Asked(foreman, None, {**asked, "app": app}, b"code"))
    app, made = foreman.apps[app], []
    for _ in range(2):
        call = Call(app.id, "f", b"input", foreman.calls.budget, inside=False, trusted=True)
        foreman.ledger.made(call)
        made.append(call)
    has = SimpleNamespace(id="w", pool=app.pool("f"), gpus=[], inputs=1)
    os.makedirs(os.path.join(foreman.folder, "w"), exist_ok=True)
    await foreman.ledger.worker_starts(has)
    foreman.ledger.worker_is_ready(has)
    foreman.ledger.began(made[1], has, 0, time.monotonic(), Amounts())
    await foreman.ledger.is_written()
    return [call.id for call in made]


def test_what_a_runner_says_waits_for_a_store_that_is_away_and_is_not_refused(place, monkeypatch):
    monkeypatch.setattr(book, "AGAIN_S", 0.01)
    waits, had = live(place, Engine(), lambda foreman: with_calls(foreman, None))

    async def use(foreman):
        [there] = [w for pool in foreman.find_deployed("shop").pools.values() for w in pool.workers]
        post, tried = foreman.store.post, asyncio.Event()

        def away(tables, *statements):
            tried.set()
            return post(tables, ("SELECT * FROM nowhere",))

        async def ask(verb, payload=b"", **meta):
            """While the store is away, and then there again."""
            tried.clear()
            foreman.store.post = away
            asking = asyncio.ensure_future(RUNNER[verb](Asked(foreman, there, meta, payload)))
            for _ in range(3):
                await tried.wait()
                tried.clear()
            assert not asking.done()
            foreman.store.post = post
            return (await asking).meta

        await ask("piece", b"value", call=had, seq=0)
        await ask("result", b"done", call=had, outcome={"status": "ok"})
        assert (await ask("next", slot=0))["call"] == waits
        [row] = await foreman.store.read(ledger.TABLES, "SELECT * FROM calls WHERE id = ?", waits)
        assert (row["worker"], row["began"] > 0) == ("w", True)
        return (await foreman.ledger.find(had, foreman.calls.budget)).outcome

    assert live(place, Engine("w"), use) == ({"status": "ok"}, b"done")


@pytest.mark.parametrize("verb", ["call", "queue_get"])
def test_who_asks_again_is_answered_when_what_was_done_is_written_and_not_before(place, verb):
    async def use(foreman):
        await with_calls(foreman, None)
        made = (await CALLER["queue_create"](Asked(foreman, None, {}, b""))).meta["queue"]
        about = {"app": "shop", "function": "f", "queue": made, "partition": "", "ttl": 60, "n": 1}
        await CALLER["queue_put"](Asked(foreman, None, about, wire.pack_items([b"item"])))
        post, held = foreman.store.post, []

        def hold(*given):
            held.append((asyncio.get_running_loop().create_future(), given))
            return held[-1][0]

        asked = Asked(foreman, None, {**about, "once": "o"}, b"input")
        foreman.store.post = hold
        both = [asyncio.ensure_future(CALLER[verb](asked)) for _ in range(2)]
        await asyncio.wait(both, timeout=0.05)
        assert not any(one.done() for one in both)
        foreman.store.post = post
        for posted, given in held:
            posted.set_result(await post(*given))
        first, again = await asyncio.gather(*both)
        assert (first.meta, first.payload) == (again.meta, again.payload)

    live(place, Engine(), use)


def test_who_asks_again_when_it_could_not_be_written_has_it_done(place):
    async def use(foreman):
        post, asked = foreman.store.post, Asked(foreman, None, {"once": "o"}, b"")
        foreman.store.post = lambda tables, *_: post(tables, ("SELECT * FROM nowhere",))
        with pytest.raises(ConfigError):
            await CALLER["queue_create"](asked)
        foreman.store.post = post
        made = (await CALLER["queue_create"](asked)).meta["queue"]
        assert [row["id"] for row in await foreman.store.read(shelf.TABLES, "SELECT id FROM held")] == [made]

    live(place, Engine(), use)


@pytest.mark.parametrize("kind", ["queue", "dict"])
def test_one_with_a_name_that_could_not_be_written_is_not_there(place, kind):
    async def use(foreman):
        post, payload = foreman.store.post, wire.pack_items([b"key", b"value"]) if kind == "dict" else b""
        holding = foreman.queues if kind == "queue" else foreman.dicts
        named = Asked(foreman, None, {"name": "n"}, payload)
        foreman.store.post = lambda tables, *_: post(tables, ("SELECT * FROM nowhere",))
        with pytest.raises(ConfigError):
            await CALLER[f"{kind}_create"](named)
        foreman.store.post = post
        with pytest.raises(NotFoundError, match="there is none of that name"):
            await CALLER[f"{kind}_create"](Asked(foreman, None, {"name": "n", "create": False}, b""))
        await asyncio.sleep(0)
        assert not holding._by_id and not holding._names and not holding._budget._taken
        made = (await CALLER[f"{kind}_create"](named)).meta[kind]
        assert [row["id"] for row in await foreman.store.read(shelf.TABLES, "SELECT id FROM held")] == [made]

    live(place, Engine(), use)


def test_what_could_not_be_written_of_a_queue_or_dict_has_not_happened(place):
    async def use(foreman):
        async def ask(verb, payload=b"", **meta):
            about = {"partition": "", "ttl": 60, "n": 9, **meta}
            return await CALLER[verb](Asked(foreman, None, about, payload))

        queue = (await ask("queue_create", name="q")).meta["queue"]
        held = (await ask("dict_create", wire.pack_items([b"a", b"1", b"b", b"2"]), name="d")).meta["dict"]
        await ask("queue_put", wire.pack_items([b"first", b"second"]), queue=queue)
        taken = foreman.queues._budget._taken, foreman.dicts._budget._taken
        post = foreman.store.post
        foreman.store.post = lambda tables, *_: post(tables, ("SELECT * FROM nowhere",))
        for verb, payload in (
            ("dict_put", wire.pack_items([b"a", b"longer", b"c", b"3"])),
            ("dict_pop", b"a"),
            ("dict_clear", b""),
            ("queue_clear", b""),
        ):
            with pytest.raises(ConfigError):
                await ask(verb, payload, dict=held, queue=queue)
            await asyncio.sleep(0.01)
        assert foreman.dicts.find(held).entries == {b"a": b"1", b"b": b"2"}
        assert (foreman.queues._budget._taken, foreman.dicts._budget._taken) == taken
        foreman.store.post = post
        assert wire.unpack_items((await ask("queue_get", queue=queue)).payload) == [b"first", b"second"]

    live(place, Engine(), use)


def test_a_result_for_which_there_is_no_room_while_the_store_is_away_stays_in_its_container(place, monkeypatch):
    monkeypatch.setattr(book, "AGAIN_S", 0.01)
    monkeypatch.setattr(ledger, "UNWRITTEN_BYTES", 3 * CALL_COST)
    _, had = live(place, Engine(), lambda foreman: with_calls(foreman, None))

    async def use(foreman):
        [there] = [w for pool in foreman.find_deployed("shop").pools.values() for w in pool.workers]
        post, first = foreman.store.post, there._timers[had]
        foreman.store.post = lambda tables, *_: post(tables, ("SELECT * FROM nowhere",))
        other = Call(there.pool.app.id, "f", b"", foreman.calls.budget, inside=False, trusted=True)
        other.settle({"status": "ok"}, bytes(CALL_COST))
        foreman.ledger.done(other)
        said = Asked(foreman, there, {"call": had, "outcome": {"status": "ok"}}, bytes(CALL_COST + 1))
        assert (await RUNNER["result"](said)).meta == {"not_yet": True}
        assert first.cancelled() and not there._timers[had].cancelled() and not there.call.done
        foreman.store.post = post
        await asyncio.shield(other.saved)
        await asyncio.sleep(0)
        assert (await RUNNER["result"](said)).meta == {}
        return (await foreman.ledger.find(had, foreman.calls.budget)).outcome

    assert live(place, Engine("w"), use) == ({"status": "ok"}, bytes(CALL_COST + 1))


def test_foremen_of_machines_that_are_called_alike_have_nothing_of_each_others(place, tmp_path, monkeypatch):
    mine, boot, found = owner.labels()[owner.LABEL], owner.boot(), []

    async def look(foreman):
        return foreman.name if foreman.store.is_shared else foreman.labels[owner.LABEL]

    found.append(live(place, Engine(), look))
    monkeypatch.setattr(owner, "boot", lambda: "another")
    assert not owner.is_alive(mine)  # this very machine has been started again
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert owner.is_alive(mine)
    monkeypatch.setattr(owner, "boot", lambda: boot)
    os.rename(place[0].removesuffix(".sock") + ".d", tmp_path / "gone")
    found.append(live(place, Engine(), look))
    assert found[0] != found[1] and not any(os.uname().nodename in name.split() for name in found)


def test_a_call_that_is_not_given_yet_has_its_time_when_it_is(place):
    live(place, Engine(), lambda foreman: with_calls(foreman, None))

    async def use(foreman):
        [there] = [w for pool in foreman.find_deployed("shop").pools.values() for w in pool.workers]
        call = there.call
        there._timed_out(call, asyncio.get_running_loop().create_future())
        assert not call.done and not there._timers[call.id].cancelled()
        there._timed_out(call)
        assert call.outcome[0]["error"] == "FunctionTimeoutError"

    live(place, Engine("w"), use)


def test_what_can_never_be_written_holds_up_nothing_and_a_store_that_stays_away_no_end(place, capfd):
    async def use(foreman):
        kept = foreman.ledger
        first = kept.keep(("SELECT 1",))
        wrong, right = kept.keep(("SELECT ?", "\ud800")), kept.keep(("DELETE FROM workers",))
        await asyncio.wait({first, wrong, right})
        assert isinstance(wrong.exception(), UnicodeEncodeError) and right.result() == []
        foreman.store.post = lambda *_: foreman.store._in_thread(lambda: open_database(os.path.dirname(place[0])))
        kept.keep(("SELECT 1",))

    live(place, Engine(), use)
    assert capfd.readouterr().err.count("is not written down") >= 2


def test_a_scheduled_run_is_begun_once_whenever_the_foreman_dies(place):
    async def deploy_and_die(foreman):
        functions = {"f": FunctionSpec("f", "m", "f", schedule={"period": {"days": 1}})}
        asked = {"spec": AppSpec("shop", functions).to_meta(), "name": "shop"}
        app = (await CALLER["app_named"](Asked(foreman, None, asked, b""))).meta["app"]
        await CALLER["app_update"](Asked(foreman, None, {**asked, "app": app}, b"code"))
        post, written = foreman.store.post, []

        def last(tables, *statements):
            """All that comes after the call is lost."""
            if written:
                lost = asyncio.get_running_loop().create_future()
                lost.set_result([])
                return lost
            written.extend(sql for sql, *_ in statements if "INTO calls" in sql)
            return post(tables, *statements)

        foreman.store.post = last
        foreman.schedules._wall = lambda: time.time() + 86_400
        foreman.schedules.look()

    live(place, Engine(), deploy_and_die)

    async def look(foreman):
        foreman.schedules._wall = lambda: time.time() + 86_400
        foreman.schedules.look()
        await foreman.ledger.is_written()
        rows = await foreman.store.read(ledger.TABLES, "SELECT * FROM calls")
        return [row["function"] for row in rows]

    assert live(place, Engine(), look) == ["f"]


RETRIES = {"max_retries": 1, "initial_delay": 0.0, "backoff_coefficient": 1.0, "max_delay": 1.0}


@pytest.mark.parametrize("retries", [None, RETRIES], ids=["once", "tried again"])
@pytest.mark.parametrize("what", ["it lives", "it is gone", "another boot", "an engine that was started anew"])
def test_a_call_is_had_by_its_container_or_fails_or_is_tried_again(place, monkeypatch, what, retries):
    waits, had = live(place, Engine(), lambda foreman: with_calls(foreman, retries))
    engine = Engine() if what == "it is gone" else Engine("w")
    if what == "another boot":
        monkeypatch.setattr(owner, "boot", lambda: "another")
    if what == "an engine that was started anew":

        async def adopt(running, since, folder):
            return False

        engine.adopt = adopt

    async def look(foreman):
        there = [await foreman.calls.find(identity) for identity in (waits, had)]
        workers = [w for pool in foreman.find_deployed("shop").pools.values() for w in pool.workers]
        return [call.outcome and call.outcome[0] for call in there], [call.tries for call in there], workers

    outcomes, tries, workers = live(place, engine, look)
    assert outcomes[0] is None
    if what == "it lives":
        assert outcomes[1] is None and tries == [0, 0]
        assert [w.id for w in workers] == ["w"] and workers[0].calls[0].id == had
    elif retries:
        assert outcomes[1] is None and tries == [0, 1]
    else:
        assert (
            outcomes[1]["error"] == "ExecutionError"
            and "is gone since the foreman was restarted" in outcomes[1]["text"]
        )
        assert [w.id for w in workers] != ["w"]


def test_what_a_container_says_as_soon_as_its_foreman_is_back_counts(place, monkeypatch):
    _, had = live(place, Engine(), lambda foreman: with_calls(foreman, None))
    channel = Channel(os.path.join(place[0].removesuffix(".sock") + ".d", "w", "foreman.sock"), 10.0)
    outcome = {"call": had, "outcome": {"status": "ok"}}
    saying, calls = [], ledger.Ledger.calls

    async def slowly(*given):
        saying.append(asyncio.ensure_future(asyncio.to_thread(channel.ask, "result", outcome, b"done")))
        await asyncio.wait(saying, timeout=0.5)  # which is for as long as it is not heard
        return await calls(*given)

    monkeypatch.setattr(ledger.Ledger, "calls", slowly)

    async def look(foreman):
        await saying[0]
        return (await foreman.calls.find(had)).outcome

    assert live(place, Engine("w"), look) == ({"status": "ok"}, b"done")


def test_generators_have_their_own_values_again(place):
    async def begin(foreman):
        made = [Call("app", "f", b"input", foreman.calls.budget, inside=False, trusted=True) for _ in range(3)]
        for n, call in enumerate(made):
            foreman.ledger.made(call)
            for number in range(n):
                foreman.ledger.gave(call, number, b"%d of %d" % (number, n))
        await foreman.ledger.is_written()
        there = dict((call.id, call) for _, call in await foreman.ledger.calls(foreman.calls.budget))
        return [there[call.id].pieces_beyond(0) for call in made]

    assert live(place, Engine(), begin) == [[], [b"0 of 1"], [b"0 of 2", b"1 of 2"]]


@pytest.mark.parametrize("slow", ["a run", "a spare", "a volume"])
def test_apps_that_stay_are_left_when_all_that_ends_has_ended(place, slow):
    async def end():
        ending, ended = asyncio.Event(), asyncio.Event()

        async def last(*_):
            ending.set()
            await ended.wait()

        engine = Engine()
        foreman = Foreman(engine, place)
        await foreman.open()
        await with_calls(foreman, None)
        shop = foreman.find_deployed("shop")
        if slow == "a run":
            asked = {"spec": AppSpec("run", {}).to_meta()}
            run = (await CALLER["app_create"](Asked(foreman, None, asked, b"code"))).meta["app"]
            foreman.apps[run].endings["queue"] = last
        elif slow == "a spare":
            shop.reserve.kinds.append(SimpleNamespace(close=last, workers=[]))
        else:
            await foreman.volumes.hold({"name": "v", "ephemeral": True})
            engine.remove_volume = last
        closing = asyncio.ensure_future(foreman.close())
        await ending.wait()
        assert not shop.pools["f"].closed
        late = shop.call("f", "", b"input", None)
        ended.set()
        await closing
        assert shop.pools["f"].closed
        return late.id

    call = asyncio.run(end())

    async def look(foreman):
        assert not (await foreman.calls.find(call)).done

    live(place, Engine(), look)


def test_outcomes_are_kept_for_a_week_and_a_gibibyte(place, monkeypatch):
    monkeypatch.setattr(ledger, "DONE_BYTES", 3 * CALL_COST + 300)

    async def use(foreman):
        made = []
        for n in range(8):
            call = Call("app", "f", b"input", foreman.calls.budget, inside=n < 4, trusted=True)
            foreman.ledger.made(call)
            call.settle({"status": "ok"}, b"%d" % n)
            foreman.ledger.done(call)
            made.append(call.id)
        await foreman.ledger.is_written()
        await foreman.store.write(ledger.TABLES, ("UPDATE calls SET done = 1 WHERE id = ?", made[7]))
        foreman.ledger.purge()
        await foreman.ledger.is_written()
        return [await foreman.ledger.find(identity, foreman.calls.budget) for identity in made]

    left = live(place, Engine(), use)
    assert [call and call.outcome[1] for call in left] == [None, b"1", b"2", b"3", b"4", b"5", b"6", None]


def test_outcomes_that_are_written_are_not_held_as_well(place, monkeypatch):
    monkeypatch.setattr(calls, "LASTING_BYTES", 2 * CALL_COST + 300)

    async def use(foreman):
        await with_calls(foreman, None)
        shop = foreman.find_deployed("shop")
        shop.pools["f"].draining = True
        made = [shop.call("f", "", b"input", None) for _ in range(12)]
        for call in made:
            call.began = True
            call.settle({"status": "ok"}, call.id.encode())
        assert [foreman.calls.get(call.id) for call in made] == made
        await foreman.ledger.is_written()
        await asyncio.sleep(0)
        assert [foreman.calls.get(call.id) for call in made] == [None] * 10 + made[10:]
        for call in made:
            assert (await foreman.calls.find(call.id)).outcome == call.outcome
        asked = Asked(foreman, None, {"call": made[0].id, "wait": 0}, b"")
        assert not (await CALLER["call_used"](asked)).meta.get("not_yet")
        asked = Asked(foreman, None, {"calls": [call.id for call in made], "wait": 0}, b"")
        taken = wire.unpack_items((await CALLER["calls_take"](asked)).payload)
        assert taken == [call.id.encode() for call in made[:TAKEN_MAX]]

    live(place, Engine(), use)


@pytest.mark.parametrize("when", ["at its start", "once a day"])
def test_what_is_old_goes_also_when_nothing_comes_after_it(place, monkeypatch, when):
    monkeypatch.setattr(foreman_module, "LOOK_S", 0.01)
    purged, purge = asyncio.Event(), ledger.Ledger.purge

    async def call(foreman):
        made = Call("app", "f", b"input", foreman.calls.budget, inside=False, trusted=True)
        foreman.ledger.made(made)
        made.settle({"status": "ok"})
        foreman.ledger.done(made)
        await foreman.ledger.is_written()
        await foreman.store.write(ledger.TABLES, ("UPDATE calls SET done = 1",))

    def watched(self):
        purge(self)
        purged.set()

    async def look(foreman):
        if when == "once a day":
            await purged.wait()
            await call(foreman)
            purged.clear()
            foreman.ledger._purged -= ledger.PURGE_S
        await purged.wait()
        await foreman.ledger.is_written()
        return await foreman.store.read(ledger.TABLES, "SELECT * FROM calls")

    if when == "at its start":
        monkeypatch.setattr(foreman_module, "LOOK_S", 100.0)
        live(place, Engine(), call)
        monkeypatch.setattr(foreman_module, "LOOK_S", 0.01)
    monkeypatch.setattr(ledger.Ledger, "purge", watched)
    assert live(place, Engine(), look) == []


HOLD = """
import sys
from adit.functions import runner, session
session.CONTAINER_SOCKET = sys.argv[1]
runner._outlive_foreman(float(sys.argv[2]))
sys.stdin.read()
"""


def test_a_container_waits_for_another_foreman_and_ends_when_none_comes(tmp_path):
    path = str(tmp_path / "foreman.sock")

    def listens():
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        return listener

    listener = listens()
    holds = subprocess.Popen([sys.executable, "-c", HOLD, path, "2"], stdin=subprocess.PIPE)
    for _ in range(2):
        hold = listener.accept()[0]
        listener.close()
        os.unlink(path)
        listener = listens()
        hold.close()
    listener.accept()[0].close()
    listener.close()
    assert holds.wait(60) == FOREMAN_GONE


@pytest.mark.parametrize("then", ["stopped", "deployed anew"])
def test_an_app_that_does_not_come_back_can_be(place, monkeypatch, then):
    async def away(*_):
        raise RemoteError("it is away")

    ids = live(place, Engine(), lambda foreman: with_calls(foreman, None))
    monkeypatch.setattr(foreman_module, "RESUMED_S", 0.01)
    prepare = apps.App.prepare
    monkeypatch.setattr(apps.App, "prepare", away)

    async def use(foreman):
        app = foreman.find_deployed("shop")
        monkeypatch.setattr(apps.App, "prepare", prepare)
        waits, had = [await foreman.calls.find(identity) for identity in ids]
        [has] = [w for pool in app._again.values() for w in pool.workers]
        if then == "stopped":
            await foreman.end_app(app)
            assert waits.outcome[0]["error"] == had.outcome[0]["error"] == "CancelledError" and has.task.done()
            return
        asked = {"spec": app.spec.to_meta(), "name": "shop", "app": app.id}
        await CALLER["app_update"](Asked(foreman, None, asked, b"code"))
        assert list(app.pools["f"].waiting) == [waits]
        await asyncio.sleep(0)
        assert has.calls == {0: had} and has.ending and not has.task.done()

    live(place, Engine("w"), use)
