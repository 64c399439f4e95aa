"""Containers and their pools as the foreman has them, with an engine that is none."""

import asyncio
import contextlib
import os
import socket
from types import SimpleNamespace

import pytest

from adit.functions.foreman import endpoint, worker
from adit.functions.foreman.endpoint import Endpoint
from adit.functions.foreman.worker import Worker

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

    made = Endpoint(SimpleNamespace(up=up), None, f"{folder}/endpoint.sock")
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
