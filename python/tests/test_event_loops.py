"""The same in every event loop: asyncio's, trio's, and anyio's on either. It goes on while a tunnel opens or
closes, and whoever is cancelled leaves nothing behind."""

import asyncio
import functools
import threading

import anyio
import pytest
import trio
from kit.app import echo, read_exactly
from kit.tls import BROKEN, how_it_ends
from test_endings import in_hand, is_gone

import adit
from adit import forward

WAIT_S = 20
RUN = {
    "asyncio": asyncio.run,
    "trio": trio.run,
    "anyio on asyncio": functools.partial(anyio.run, backend="asyncio"),
    "anyio on trio": functools.partial(anyio.run, backend="trio"),
}
ANYIO = [name for name in RUN if name != "asyncio"]  # whose ways to cancel are anyio's; trio's are its own


@pytest.fixture(params=RUN)
def run(request):
    """run(coroutine function) in each of them."""
    return lambda function: (
        RUN[request.param](function()) if request.param == "asyncio" else RUN[request.param](function)
    )


@pytest.fixture(params=ANYIO)
def run_with_scopes(request):
    """The same where anyio.CancelScope works: plain trio's scopes are the same."""
    return RUN[request.param]


@pytest.fixture
def stuck(token, silent):
    """A client whose tunnels go on opening."""
    with adit.Client(token, relays=[f"127.0.0.1:{silent.port}"]) as client:
        yield client


def no_thread_is_left():
    for thread in threading.enumerate():
        if thread.name == "adit-waits":
            thread.join(WAIT_S)
    return not [t for t in threading.enumerate() if t.name == "adit-waits"]


def test_a_block(run, client, app, visitor, relay):
    async def main():
        async with forward(app(echo).port, client=client) as tunnel:
            visitor(tunnel).close()
            return tunnel

    assert is_gone(relay, visitor, run(main))


def test_without_a_block(run, client, app, visitor, relay):
    async def main():
        f = forward(app(echo).port, client=client)
        tunnel = await f
        visitor(tunnel).close()
        assert not f.closed
        await f.aclose()
        await tunnel.aclose()
        return tunnel

    tunnel = run(main)
    assert tunnel.closed and is_gone(relay, visitor, tunnel)


def test_an_exception_of_opening_is_raised(run, client):
    async def main():
        async with forward(8000, client=client):
            with pytest.raises(adit.exception.InvalidError, match="forwards it already"):
                await forward(8000, client=client)

    run(main)
    assert no_thread_is_left()


def test_waiting_for_the_end(run, client, token, box):
    async def main():
        tunnel = await client.forward(8000, keep=box.file("ticket"))
        other = await adit.Client(token).forward(8001, keep=box.file("ticket"))
        assert await tunnel == "superseded"
        threading.Timer(0.05, other.close).start()
        assert await other == "closed" == await other
        await tunnel.aclose()

    run(main)
    assert no_thread_is_left()


def test_others_run_while_one_opens(run_with_scopes, stuck):
    async def main():
        turns = 0
        with anyio.move_on_after(0.3) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(forward(8000, client=stuck, timeout=100).__aenter__)
                while True:
                    await anyio.sleep(0.001)
                    turns += 1
        assert scope.cancelled_caught and turns > 10

    run_with_scopes(main)
    assert not in_hand(stuck) and no_thread_is_left()


def test_cancelling_while_it_opens(run_with_scopes, stuck):
    """Nothing is left by when the scope has ended."""

    async def main():
        f = forward(8000, client=stuck, timeout=100)
        with anyio.move_on_after(0.1) as scope:
            await f
        assert scope.cancelled_caught
        assert not f._openings and not in_hand(stuck)

    run_with_scopes(main)
    assert no_thread_is_left()


def test_cancelling_a_block_closes_its_tunnel(run_with_scopes, client, app):
    async def main():
        with anyio.CancelScope() as scope:
            async with forward(app(echo).port, client=client) as tunnel:
                scope.cancel()
                await anyio.sleep(WAIT_S)
        assert scope.cancelled_caught and tunnel.closed and not in_hand(client)

    run_with_scopes(main)


def test_cancelling_ends_a_drain(run_with_scopes, client, app, visitor):
    async def main():
        with anyio.CancelScope() as scope:
            async with forward(app(echo).port, client=client, drain=1000) as tunnel:
                v = visitor(tunnel)
                v.sendall(b"x")
                assert read_exactly(v, 1) == b"x"
                scope.cancel()
        assert tunnel.closed and not in_hand(client) and tunnel.stats.visitors_total == 1
        return v

    assert how_it_ends(run_with_scopes(main)) in BROKEN


def test_cancelling_who_waits_for_the_end(run_with_scopes, client):
    async def main():
        async with forward(8000, client=client) as tunnel:
            with anyio.move_on_after(0.05) as scope:
                await tunnel
            assert scope.cancelled_caught and not tunnel.closed and not tunnel._opening._watchers

    run_with_scopes(main)


def test_many_at_once(run_with_scopes, client):
    async def main():
        hosts = set()

        async def one(port):
            async with forward(port, client=client) as tunnel:
                hosts.add(tunnel.host)

        async with anyio.create_task_group() as group:
            for port in range(9000, 9020):
                group.start_soon(one, port)
        assert len(hosts) == 20

    run_with_scopes(main)


def test_an_embedded_relays_warning_names_the_programs_line(run):
    async def main():
        async with forward(8000):
            pass

    with pytest.warns(adit.exception.EmbeddedRelayWarning) as warned:
        run(main)
    assert [w.filename for w in warned if w.category is adit.exception.EmbeddedRelayWarning] == [__file__]


def test_a_task_of_asyncio_in_a_program_that_has_trio_and_anyio(client):
    """Which of them is at work is asked for each time, not what was imported."""

    async def main():
        task = asyncio.ensure_future(forward(8000, client=client).__aenter__())
        tunnel = await task
        await tunnel.aclose()

    asyncio.run(main())


def test_a_loop_that_is_trios_guest(client):
    """Trio's tasks and asyncio's side by side in one thread."""

    async def in_trio():
        async with forward(8000, client=client) as tunnel:
            return tunnel.host

    async def main():
        ended = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            in_trio,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=ended.set_result,
        )
        async with forward(8001, client=client) as tunnel:
            assert (await ended).unwrap() != tunnel.host

    asyncio.run(main())
