"""Containers and their pools as the foreman has them, with an engine that is none."""

import asyncio
import contextlib
import os
import re
import socket
from dataclasses import replace
from types import SimpleNamespace

import pytest
from kit.app import echo

from adit.exception import ImageError, RemoteError
from adit.functions import web_runner
from adit.functions.engine import Ended, Resources
from adit.functions.foreman import admission, endpoint, pool, work_verbs, worker
from adit.functions.foreman.admission import Admission
from adit.functions.foreman.amounts import SPARE, Amounts
from adit.functions.foreman.budget import Budget
from adit.functions.foreman.calls import Call
from adit.functions.foreman.endpoint import Endpoint
from adit.functions.foreman.ledger import Ledger
from adit.functions.foreman.pool import Pool
from adit.functions.foreman.verbs import Asked
from adit.functions.foreman.worker import Worker
from adit.functions.spec import FunctionSpec

WAIT_S = 10


def at_once(test):
    """Runs a test that is a coroutine, for so long at most."""

    async def run():
        return await asyncio.wait_for(test, WAIT_S)

    return asyncio.run(run())


@pytest.fixture
def folder(box):
    """Of a container, whose sockets are in it."""
    path = box.file("sockets")
    os.mkdir(path)
    return path


class Container:
    """As the meter has it, and as the test ends it."""

    bill = SimpleNamespace(gpu="")

    def __init__(self, container):
        self.container, self.end = container, asyncio.Event()
        self.removing, self.removable = asyncio.Event(), asyncio.Event()
        self.removable.set()

    async def output(self):
        return
        yield

    async def ended(self):
        await self.end.wait()
        return Ended(1)

    async def signal(self, name):
        self.end.set()

    async def remove(self):
        self.removing.set()
        await self.removable.wait()

    def call_used(self, call):
        return Amounts()

    async def begin_call(self, call):
        pass

    async def end_call(self, call):
        return Amounts()


class World:
    """A foreman and its one app, of which ``started`` are the containers."""

    id, name, version, kind, stays, returns = "ap-1", "app", 1, "run", False, False
    ledger = Ledger(None, "")

    def __init__(self, folder, **spec):
        self.foreman, self.folder, self.labels = self, folder, {}
        self.images = self.gpus = self.meter = self.relay = self
        self.spec, self.budget = SimpleNamespace(name="app"), Budget("inputs", 1 << 30)
        self.admission, self.started, self.told, self.failing = Admission(self), asyncio.Queue(), [], 0
        self.revoked = []
        self.engine = SimpleNamespace(data_folder=self.data_folder)
        self.pool = Pool(self, FunctionSpec(**{"name": "f", "module": "m", "qualname": "f", **spec}), b"")
        self.successor = lambda pool: pool
        self.version_id = "ap-1/{}".format

    def tell(self, kind, **what):
        self.told.append((kind, what))

    async def resources(self):
        return Resources(2.0, 64 << 30)

    async def data_folder(self):
        return self.folder

    async def ensure(self, image, code, version, anew=False):
        return "image"

    async def take(self, spec):
        return []

    def give(self, gpus):
        pass

    def revoke(self, worker):
        self.revoked.append(worker)

    async def serve(self, path, worker):
        return SimpleNamespace(cleanup=self.resources)

    async def socket(self):
        return None

    async def counted(self, worker, last=False):
        return None

    async def carry(self, worker, reader, writer):
        await reader.read()
        writer.close()

    async def start(self, container, bill):
        if self.failing:
            self.failing -= 1
            raise RemoteError("engine: not now")
        made = Container(container)
        self.started.put_nowait(made)
        return made

    def call(self):
        return Call(self.id, "f", b"input", self.budget, inside=False, trusted=True)

    async def submit(self):
        """A call, and its container, which has begun."""
        call = self.call()
        self.pool.submit(call)
        return call, await self.started.get()

    async def next(self, worker, slot=0, wait=0):
        """What a runner is given for a slot."""
        return await work_verbs.next(Asked(self, worker, {"slot": slot, "wait": wait}, b""))

    async def result(self, worker, call):
        """Its runner has done it."""
        await work_verbs.result(Asked(self, worker, {"call": call.id, "outcome": {"status": "ok"}}, b""))


def test_whatever_ends_a_container_and_however_often_nothing_stays_of_it(folder):
    async def test():
        world = World(folder)
        _, container = await world.submit()
        [there] = world.pool.workers
        assert world.admission._held
        container.removable.clear()
        there.end("ExecutionError", "over")
        await container.removing.wait()
        closing = asyncio.ensure_future(world.pool.close())
        there.task.cancel()
        await asyncio.sleep(0)
        assert not closing.done()
        container.removable.set()
        await closing
        assert not world.admission._held and not world.pool.workers and not os.listdir(folder)
        assert world.revoked == [there.id]

    at_once(test())


def test_what_an_engine_says_while_a_container_is_cleared_is_told_and_the_rest_cleared(folder):
    async def test():
        world = World(folder)
        _, container = await world.submit()

        async def remove():
            raise ValueError("what is this?")

        container.remove = remove
        await world.pool.close()
        assert not world.admission._held and not world.pool.workers and not os.listdir(folder)
        assert "what is this?" in next(what["text"] for kind, what in world.told if kind == "note")

    at_once(test())


def test_a_spare_is_billed_as_what_it_is_and_told_so_whoever_breaks_off(folder):
    async def test():
        world, billed = World(folder), []
        _, container = await world.submit()
        [there] = world.pool.workers
        container.bill = SimpleNamespace(gpu="", kind=SPARE)
        asked, known = asyncio.Event(), asyncio.Event()

        async def become(bill):
            asked.set()
            await known.wait()
            billed.append(bill.kind)

        container.become = become
        first, second = (asyncio.ensure_future(work_verbs.work(Asked(world, there, {}, b""))) for _ in range(2))
        await asked.wait()
        first.cancel()
        third = asyncio.ensure_future(work_verbs.work(Asked(world, there, {}, b"")))
        await asyncio.wait({first})
        assert not second.done() and not third.done()
        known.set()
        await asyncio.gather(second, third)
        assert len(billed) == 1 and billed[0] != SPARE
        await world.pool.close()

    at_once(test())


def test_what_a_container_has_is_its_own_until_the_engine_has_removed_it(folder, monkeypatch):
    monkeypatch.setattr(worker, "REMOVE_AGAIN_S", 0.001)

    async def test():
        world, tries, often, later = World(folder), [], asyncio.Event(), []
        _, container = await world.submit()
        given = []
        world.give = given.append
        world.later = lambda work: later.append(asyncio.ensure_future(work))
        answers = False

        async def remove():
            tries.append(1)
            if len(tries) == 5:
                often.set()
            if not answers:
                raise RemoteError("engine: it does not answer")

        container.remove = remove
        await world.pool.close()
        assert not world.pool.workers and os.listdir(folder) and not given
        await often.wait()
        assert os.listdir(folder) and not given
        answers = True
        assert len(world.revoked) == 1
        await asyncio.gather(*later)
        assert not os.listdir(folder) and given == [[]] and len(world.revoked) == 2

    at_once(test())


def test_a_container_that_is_stopped_before_it_begins_is_gone(folder):
    async def test():
        world = World(folder, keep_warm=2)
        world.pool.scale()
        assert len(world.pool.workers) == 2
        await world.pool.close()
        assert not world.pool.workers

    at_once(test())


def test_a_runner_that_asks_twice_for_a_slot_takes_no_call_from_others(folder):
    async def test():
        world = World(folder, concurrency_limit=1)
        await world.submit()
        [there] = world.pool.workers
        await there.metered()
        first = world.pool.waiting.pop()
        asked = [asyncio.ensure_future(world.next(there, wait=5)) for _ in range(2)]
        await there.ready.wait()
        second = world.call()
        world.pool.submit(first)
        world.pool.submit(second)
        assert [(await answer).meta["call"] for answer in asked] == [first.id] * 2
        await world.result(there, first)
        assert (await world.next(there)).meta["call"] == second.id
        await world.pool.close()

    at_once(test())


def test_a_container_has_so_many_connections_carried_to_a_relay_and_no_more(folder, monkeypatch):
    monkeypatch.setattr(worker, "CARRIED_MAX", 3)

    async def test():
        world = World(folder)
        _, container = await world.submit()
        [place] = container.container.places
        ends = [await asyncio.open_unix_connection(f"{place.source}/relay.sock") for _ in range(5)]
        assert [await ends[n][0].read() for n in (3, 4)] == [b"", b""]
        ends[0][1].close()
        while True:
            reader, writer = await asyncio.open_unix_connection(f"{place.source}/relay.sock")
            with contextlib.suppress(asyncio.TimeoutError):
                if not await asyncio.wait_for(reader.read(), 0.1):
                    continue
            break
        for _, end in (*ends[1:3], (reader, writer)):
            end.close()
        await world.pool.close()

    at_once(test())


@pytest.mark.parametrize("limits", [{"idle_timeout": 0}, {"max_inputs": 2}], ids=["idle", "of so many inputs"])
def test_a_container_ends_when_nothing_is_left_in_it_but_a_thread_that_does_not_end(folder, monkeypatch, limits):
    monkeypatch.setattr(worker, "STOP_S", 0.0)

    async def test():
        world = World(folder, concurrent=2, concurrency_limit=1, **limits)
        stuck, container = await world.submit()
        [there] = world.pool.workers
        await world.next(there, 0)
        other = world.call()
        world.pool.submit(other)
        await world.next(there, 1)
        there._timed_out(stuck)
        for _ in range(3):  # its time to end by itself is over before the other is done
            await asyncio.sleep(0)
        assert not there.task.done()
        await world.result(there, other)
        assert stuck.done and other.outcome[0]["status"] == "ok"
        assert (await world.next(there, 1)).meta == {"end": True}
        await container.removing.wait()
        await world.pool.close()

    at_once(test())


def test_one_that_ends_after_its_call_keeps_no_idle_one_from_making_room(folder, monkeypatch):
    monkeypatch.setattr(admission, "CONTAINERS_MAX", 2)

    async def test():
        world = World(folder)
        single, idle, new = (world.pool.of_objects(name) for name in ("single", "idle", "new"))
        single.spec = replace(single.spec, max_inputs=1)
        for one in (idle, single):
            call = world.call()
            one.submit(call)
            await world.started.get()
            await world.next(one.workers[0])
            if one is idle:
                await world.result(one.workers[0], call)
        new.submit(world.call())
        await world.started.get()
        assert single.workers and single.workers[0].is_busy and not idle.workers
        for one in (single, idle, new):
            await one.close()

    at_once(test())


def test_an_engine_whose_folder_is_not_seen_from_here_may_start_containers(folder):
    async def test():
        world = World(folder)

        async def data_folder():
            return f"{folder}/in-a-virtual-machine"

        world.engine.data_folder = data_folder
        await world.submit()
        await world.pool.close()

    at_once(test())


@pytest.mark.parametrize("name", ["my func", "naïve", "a/../b", "_", "x" * 100])
def test_a_container_of_a_function_of_any_name_has_one_that_engines_take(folder, name):
    async def test():
        world = World(folder, name=name)
        _, container = await world.submit()
        assert re.fullmatch("adit-[A-Za-z0-9-]{1,60}", container.container.name)
        await world.pool.close()

    at_once(test())


def test_containers_that_are_to_be_warm_are_again_after_starts_that_failed(folder, monkeypatch):
    monkeypatch.setattr(pool, "AGAIN_S", 0.001)

    async def test():
        world = World(folder, keep_warm=2)
        world.failing = 5
        world.pool.scale()
        for _ in range(2):
            await world.started.get()
        assert [kind for kind, _ in world.told].count("failed") == 5
        await world.pool.close()

    at_once(test())


def test_an_image_that_is_made_again_takes_no_time_from_the_start(folder):
    async def test():
        world, timers = World(folder), []
        start = world.start

        async def not_found(container, bill):
            world.start = start
            raise ImageError("image: it is gone")

        async def ensure(image, code, version, anew=False):
            timers.extend(w._start_timer for w in world.pool.workers)
            return "image"

        world.start, world.ensure = not_found, ensure
        await world.submit()
        assert timers == [None, None] and world.pool.workers[0]._start_timer is not None
        await world.pool.close()

    at_once(test())


def test_a_call_is_tried_again_however_large_the_delay_would_be(folder):
    async def test():
        world = World(folder, retries={"max_retries": 9, "initial_delay": 1.0, "backoff_coefficient": 2.0**1000})
        call = world.call()
        call.tries = 5
        assert world.pool.retry(call)
        await world.pool.close()

    at_once(test())


def test_a_foreman_that_leaves_its_containers_gives_up_no_call(folder):
    async def test():
        world = World(folder, retries={"max_retries": 1, "initial_delay": 0.0, "backoff_coefficient": 1.0})
        begun, _ = await world.submit()
        [there] = world.pool.workers
        await world.next(there)
        world.pool.end(there)
        await world.pool.leave()
        late = world.call()
        world.pool.submit(late)
        await work_verbs.result(Asked(world, there, {"call": begun.id, "outcome": {"status": "raised"}}, b""))
        await asyncio.sleep(0.01)  # its delay until it is tried again
        assert not begun.done and not late.done and begun.tries == 1

    at_once(test())


@contextlib.contextmanager
def listening(folder, backlog):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/{worker.VISITORS}")
        listener.listen(backlog)
        yield listener


class Serving:
    """A container with a web side; ``up`` is that of its pool."""

    def __init__(self, folder):
        self._folder, self.ending = folder, False
        self.task = asyncio.get_running_loop().create_future()

    def connect_web(self):
        return Worker.connect_web(self)

    def visit(self):
        return contextlib.nullcontext()

    def end(self):
        self.ending = True
        self.task.set_result(None)


@contextlib.asynccontextmanager
async def visited(folder, containers):
    """Where visitors come to an endpoint whose pool has these containers, one after the other."""

    async def up(_):
        return next((c for c in containers if not c.ending), None), ""

    foreman = SimpleNamespace(admission=Admission(None))
    pool = SimpleNamespace(up=up, app=SimpleNamespace(foreman=foreman))
    made = Endpoint(pool, None, f"{folder}/endpoint.sock")
    server = await asyncio.start_unix_server(made._visit, f"{folder}/endpoint.sock")
    yield made, lambda: asyncio.open_unix_connection(f"{folder}/endpoint.sock")
    server.close()


def test_visitors_beyond_what_a_container_listens_for_are_refused_and_hold_nobody_up(folder):
    async def test():
        async with visited(folder, [Serving(folder)]) as (_, visit):
            with listening(folder, 0):
                answers = []
                for _ in range(3):
                    reader, writer = await visit()
                    writer.write(b"GET / HTTP/1.1\r\n\r\n")
                    writer.write_eof()
                    answers.append(reader.read())
                await asyncio.wait({first := asyncio.ensure_future(answers[-1])})
                assert b"503 Service Unavailable" in first.result()
                for waiting in answers[:-1]:
                    waiting.close()

    at_once(test())


def test_a_visitor_whose_container_has_just_ended_gets_another(folder, box):
    async def test():
        gone, there = Serving(box.file("gone")), Serving(folder)
        async with visited(folder, [gone, there]) as (_, visit):
            with listening(folder, 8) as listener:
                reader, _ = await visit()
                asyncio.get_running_loop().call_soon(gone.end)
                end, _ = await asyncio.to_thread(listener.accept)
                end.sendall(b"here")
                assert await reader.readexactly(4) == b"here"
                end.close()

    at_once(test())


def test_one_that_does_not_listen_and_does_not_end_is_told_as_busy(folder, monkeypatch):
    monkeypatch.setattr(endpoint, "END_S", 0.01)

    async def test():
        async with visited(folder, [Serving(folder)]) as (_, visit):
            reader, writer = await visit()
            writer.write_eof()
            assert b"503 Service Unavailable" in await reader.read()

    at_once(test())


def test_a_visitor_who_waits_is_let_go_when_the_endpoint_closes(folder):
    async def test():
        never, waiting = asyncio.Event(), asyncio.Event()

        async def up(_):
            waiting.set()
            await never.wait()

        async with visited(folder, []) as (made, visit):
            made.pool.up = up
            reader, _ = await visit()
            await waiting.wait()
            await made.close()
            assert await reader.read() == b""

    at_once(test())


def test_a_server_that_refuses_one_visitor_has_the_next(app):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        refusing = silent.getsockname()[1]
    for port, heard in ((refusing, b""), (app(echo).port, b"hello")):
        visitor, end = socket.socketpair()
        with visitor:
            web_runner._pass_on(end, port)
            visitor.settimeout(WAIT_S)
            with contextlib.suppress(BrokenPipeError):
                visitor.sendall(b"hello")
            assert visitor.recv(100) == heard


def test_a_container_is_idle_from_when_it_is_ready_however_long_it_took_to_start(folder):
    async def test():
        world = World(folder, idle_timeout=1)
        await world.submit()
        [there] = world.pool.workers
        there.idle_since -= 5
        world.pool.waiting.clear()
        there.is_ready()
        assert not world.pool.may_end(there)
        await world.pool.close()

    at_once(test())
