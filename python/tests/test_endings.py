"""Every way in which a tunnel, and the program that has it, comes to an end: nothing hangs, nothing is left open, and
nothing that was accepted is lost."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import threading

import pytest
from conftest import ended
from kit.app import echo, read_exactly, read_until_end
from kit.tls import BROKEN, how_it_ends

import adit
from adit import _registry, forward
from adit.exception import ClosedError, InvalidError, RemoteError

BIG = 8 << 20


def descriptors():
    """What this process has open, but for what it opens to look."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def in_hand(client):
    """The tunnels that are open through it, or being opened or closed."""
    return _registry.of_client(client._core)


def is_gone(relay, visitor, tunnel):
    """Whether the relay lets nobody in any more, as soon as it says that the tunnel is closed."""
    relay.process.err.wait(lambda line: f" tunnel_closed label={tunnel.host[:8]}" in line)
    try:
        visitor(tunnel).close()
        return False
    except OSError:
        return True


def test_with(client, relay, visitor, app):
    with forward(app(echo).port, client=client) as tunnel:
        visitor(tunnel).close()
    assert is_gone(relay, visitor, tunnel)


def test_by_hand(client, relay, visitor, app):
    f = forward(app(echo).port, client=client)
    for _ in range(2):
        tunnel = f.__enter__()
        visitor(tunnel).close()
        with pytest.raises(InvalidError, match="open already"):
            f.__enter__()
        f.__exit__(None, None, None)
        f.__exit__(None, None, None)
        assert is_gone(relay, visitor, tunnel)


def test_async_with(client, relay, visitor, app):
    async def run():
        async with forward(app(echo).port, client=client) as tunnel:
            (await asyncio.to_thread(visitor, tunnel)).close()
        return tunnel

    assert is_gone(relay, visitor, asyncio.run(run()))


def test_an_exception_in_the_block(client, relay, visitor, app):
    with pytest.raises(ZeroDivisionError), forward(app(echo).port, client=client) as tunnel:
        _ = 1 // 0
    assert is_gone(relay, visitor, tunnel)


async def ticks(n):
    """How many turns of the event loop go by until it is cancelled: n is told by an event."""
    count = 0
    reached = n.get("reached")
    while True:
        await asyncio.sleep(0.001)
        count += 1
        n["count"] = count
        if count == n["wanted"]:
            reached.set()


@pytest.mark.parametrize("busy_executor", [False, True])
def test_cancelling_while_it_opens(token, silent, busy_executor):
    """The event loop goes on meanwhile, even when all its threads are taken; and nothing stays."""
    release, before = threading.Event(), set(threading.enumerate())

    async def run(client):
        loop = asyncio.get_running_loop()
        if busy_executor:
            jobs = [loop.run_in_executor(None, release.wait) for _ in range(64)]
        n = {"wanted": 50, "reached": asyncio.Event(), "count": 0}
        ticking = asyncio.create_task(ticks(n))
        f = forward(8000, client=client, timeout=100)
        opening = asyncio.create_task(f.__aenter__())
        await n["reached"].wait()
        assert not opening.done()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(opening, 0.05)
        assert not f._openings and not in_hand(client)
        ticking.cancel()
        release.set()
        if busy_executor:
            await asyncio.gather(*jobs)

    with adit.Client(token, relays=[f"127.0.0.1:{silent.port}"]) as client:
        asyncio.run(run(client))
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("adit")]


def test_cancelling_twice_while_it_opens(token, silent):
    async def run(client):
        f = forward(8000, client=client, timeout=100)
        opening = asyncio.create_task(f.__aenter__())
        await asyncio.to_thread(silent.accept)
        opening.cancel()
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    with adit.Client(token, relays=[f"127.0.0.1:{silent.port}"]) as client:
        asyncio.run(run(client))


def test_entering_without_an_event_loop(client):
    f = forward(8000, client=client)
    with pytest.raises(RuntimeError, match="event loop"):
        f.__aenter__().send(None)
    with f:
        pass


def no_thread(*_, **__):
    raise RuntimeError("can't start new thread")


def test_no_thread_to_be_had(client, monkeypatch, relay, visitor, app):
    """Neither to open nor to close: what is open does not stay so."""

    async def run(f):
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(RuntimeError, match="new thread"):
                await f.__aenter__()
        tunnel = await f.__aenter__()
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            await f.__aexit__(None, None, None)
        monkeypatch.undo()
        return tunnel

    assert is_gone(relay, visitor, asyncio.run(run(forward(app(echo).port, client=client, drain=5))))
    assert not in_hand(client)


def test_no_thread_for_the_log(token, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with adit.Client(token) as client, forward(8000, client=client):
        pass


@pytest.mark.parametrize("when", ["while it opens", "when it has opened"])
def test_a_coroutine_that_is_dropped_leaves_nothing_open(token, silent, client, when):
    """With its event loop, say: nobody will ever leave the block."""
    opens = when == "while it opens"
    given = adit.Client(token, relays=[f"127.0.0.1:{silent.port}"]) if opens else client
    f = forward(8000, client=given, timeout=100)
    loop, complaints = asyncio.new_event_loop(), []
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    async def waiter():
        coroutine = f.__aenter__()
        coroutine.send(None)
        threads = [t for t in threading.enumerate() if t.name == "adit-waits"]  # or it has ended by now
        if not opens:
            for thread in threads:
                thread.join(20)
        coroutine.close()
        for thread in threads:
            await asyncio.to_thread(thread.join, 20)
        del coroutine
        return threads

    threads = loop.run_until_complete(waiter())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gc.collect()
    assert not complaints
    assert not any(t.is_alive() for t in threads) and not in_hand(given) and not f._openings
    given.close()


def test_cancelling_an_open_one_closes_it(client, app, relay, visitor):
    async def run():
        opened = asyncio.get_running_loop().create_future()

        async def hold():
            async with forward(app(echo).port, client=client) as tunnel:
                opened.set_result(tunnel)
                await asyncio.Event().wait()

        holding = asyncio.create_task(hold())
        tunnel = await opened
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        return tunnel

    assert is_gone(relay, visitor, asyncio.run(run()))


def test_many_at_once_in_one_event_loop(client, app):
    async def one(port):
        async with forward(port, client=client) as tunnel:
            return tunnel.host

    async def run():
        return await asyncio.gather(*(one(port) for port in range(9000, 9020)))

    assert len(set(asyncio.run(run()))) == 20


def test_what_was_accepted_is_delivered(client, app, visitor):
    """Leaving the block in the middle of a download: what the program had sent arrives."""
    a = app()
    with forward(a.port, client=client) as tunnel:
        v = visitor(tunnel)
        v.sendall(b"go")
        connection = a.accept()
        assert read_exactly(connection, 2) == b"go"
        connection.sendall(b"x" * 100_000)
        assert read_exactly(v, 1) == b"x"
        reading = threading.Thread(target=lambda: got.append(read_exactly(v, 99_999)))
        got = []
        reading.start()
    reading.join(20)
    assert got == [b"x" * 99_999]


def test_drain_lets_a_download_finish_and_nobody_in(client, app, visitor, relay):
    a = app()
    f = forward(a.port, client=client, drain=60)
    tunnel = f.__enter__()
    v = visitor(tunnel)
    v.sendall(b"go")
    connection = a.accept()
    assert read_exactly(connection, 2) == b"go"
    leaving = threading.Thread(target=f.__exit__, args=(None, None, None))
    leaving.start()
    assert is_gone(relay, visitor, tunnel)  # the drain has begun
    sending = threading.Thread(target=lambda: (connection.sendall(b"x" * BIG), connection.close()))
    sending.start()
    assert read_until_end(v) == b"x" * BIG
    v.close()
    sending.join()
    leaving.join(20)
    assert not leaving.is_alive()


def test_a_drain_has_an_end(client, app, visitor):
    a = app(echo)
    with forward(a.port, client=client, drain=0.2) as tunnel:
        v = visitor(tunnel)
        v.sendall(b"x")
        assert read_exactly(v, 1) == b"x"
    assert how_it_ends(v) in BROKEN


def test_closing_the_client_calls_back_whoever_opens(token, silent):
    failures = []

    def open_one(client):
        try:
            forward(8000, client=client, timeout=100).__enter__()
        except ClosedError as e:
            failures.append(e)

    client = adit.Client(token, relays=[f"127.0.0.1:{silent.port}"])
    threads = [threading.Thread(target=open_one, args=(client,)) for _ in range(1)]
    for t in threads:
        t.start()
    silent.accept()
    client.close()
    for t in threads:
        t.join(20)
    assert len(failures) == len(threads)


def test_a_client_that_nobody_holds_is_closed(token):
    before = descriptors()
    client = adit.Client(token)
    with forward(8000, client=client):
        pass
    teller = client._tellers["thread"]
    del client
    teller.join(20)
    assert not teller.is_alive()
    assert descriptors() == before


OPENING = """
import sys
from adit import _registry, forward, Client
client = Client(sys.argv[1], relays=[sys.argv[2]])
try:
    print("now")
    forward(8000, client=client, timeout=100).__enter__()
except KeyboardInterrupt:
    print("interrupted", _registry.openings)
"""


def test_ctrl_c_while_it_opens(script, token, silent):
    program = script(OPENING, token, f"127.0.0.1:{silent.port}")
    silent.accept()
    program.out.wait(lambda line: line == "now")
    program.kill(signal.SIGINT)
    assert ended(program).endswith("interrupted {}")


CLOSED_BY_A_HANDLER = """
import os, signal, sys, threading
from adit import _registry, forward, Client
from adit.exception import ClosedError
client = Client(sys.argv[1], relays=[sys.argv[2]])
opening = forward(8000, client=client, timeout=100)
signal.signal(signal.SIGTERM, lambda *_: WHAT)
def send():
    while not any(o._cores for o in _registry.of_client(client._core)):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=send).start()
try:
    opening.__enter__()
except ClosedError as e:
    print("closed:", e)
client.close()
"""


@pytest.mark.parametrize("what", ["client.close()", "client.close(drain=5)", "opening.__exit__(None, None, None)"])
def test_a_signals_handler_that_closes_it_while_it_opens(script, token, silent, what):
    program = script(CLOSED_BY_A_HANDLER.replace("WHAT", what), token, f"127.0.0.1:{silent.port}")
    assert "closed: " in ended(program)


CLOSED_WHILE_IT_DRAINS = """
import signal, sys
from adit import forward, Client
client = Client()
opening = forward(int(sys.argv[1]), client=client, drain=1000)
signal.signal(signal.SIGTERM, lambda *_: WHAT)
with opening as tunnel:
    print(tunnel.host, tunnel.port)
    sys.stdin.readline()
if not client.closed:
    with opening:  # it has left, so it may be entered again
        pass
print("left")
"""


@pytest.mark.parametrize("what", ["client.close()", "opening.__exit__(None, None, None)"])
def test_a_signals_handler_that_closes_it_while_it_drains(script, token, app, relay, visitor, what):
    program = script(
        CLOSED_WHILE_IT_DRAINS.replace("WHAT", what), str(app(echo).port), token=token, stdin=subprocess.PIPE
    )
    tunnel = started(program)
    v = visitor(tunnel)
    v.sendall(b"x")
    assert read_exactly(v, 1) == b"x"
    program.popen.stdin.close()
    assert is_gone(relay, visitor, tunnel)  # the drain has begun
    program.kill(signal.SIGTERM)
    assert ended(program).endswith("left")


AT_EACH_LINE = """
import os, sys, threading
import adit
from adit import _registry, forward, Client
from adit.exception import Error
folder = os.path.dirname(adit.__file__)

class AtLine:
    # Calls something between two lines of the package, the nth that come by.
    def __init__(self, n, call):
        self.left, self.call = n, call
    def __call__(self, frame, event, arg):
        if os.path.dirname(frame.f_code.co_filename) != folder:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.call()
        return self

def closes(client, f):
    f.__exit__(None, None, None)
    with forward(8001):
        pass
    client.close(drain=0.01)

def forks(client, f):
    def other_thread():
        if (pid := os.fork()) == 0:
            closes(client, f)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()

n, reached = 0, True
while reached:
    n += STEP
    client = Client()
    f = forward(8000, client=client, drain=0.01)
    at = AtLine(n, lambda: WHAT(client, f))
    sys.settrace(at)
    try:
        with f:
            pass
        with forward(8002):
            pass
        client.close()
    except Error:
        pass
    finally:
        sys.settrace(None)
    reached = at.left <= 0
    client.close()
    assert not f._openings and not _registry.of_client(client._core), n
print("lines", n)
"""


@pytest.mark.parametrize(("what", "step"), [("closes", 1), ("forks", 3)])
def test_no_line_of_the_package_is_a_bad_one_for_a_handler_or_a_fork(script, token, what, step):
    program = script(AT_EACH_LINE.replace("WHAT", what).replace("STEP", str(step)), token=token)
    assert int(ended(program).split()[-1]) > 60


def test_a_log_handler_that_waits_for_the_closing_thread(client, records, monkeypatch):
    lock, called = threading.Lock(), threading.Event()

    def emit(record):
        called.set()
        with lock:
            pass

    monkeypatch.setattr(records, "emit", emit)
    with lock:
        with forward(8000, client=client):
            assert called.wait(20)
        closing = threading.Thread(target=client.close)
        closing.start()
        closing.join(20)
        assert not closing.is_alive()


IN_THE_BLOCK = """
import sys, threading
from adit import forward
try:
    with forward(int(sys.argv[1]), drain=float(sys.argv[2])) as tunnel:
        try:
            print(tunnel.host, tunnel.port)
            threading.Event().wait()
        finally:
            print("leaving")
except KeyboardInterrupt:
    print("interrupted")
"""


def started(program):
    import adit as package

    host, port = program.out.wait(lambda line: " " in line).split()
    return package.Tunnel(host, int(port))


def test_ctrl_c_in_the_block(script, token, app, relay, visitor):
    program = script(IN_THE_BLOCK, str(app(echo).port), "0", token=token)
    tunnel = started(program)
    visitor(tunnel).close()
    program.kill(signal.SIGINT)
    assert ended(program).endswith("leaving\ninterrupted")
    assert is_gone(relay, visitor, tunnel)


def test_ctrl_c_while_it_drains(script, token, app, relay, visitor):
    program = script(IN_THE_BLOCK, str(app(echo).port), "1000", token=token)
    tunnel = started(program)
    v = visitor(tunnel)
    v.sendall(b"x")
    assert read_exactly(v, 1) == b"x"
    program.kill(signal.SIGINT)
    program.out.wait(lambda line: line == "leaving")
    assert is_gone(relay, visitor, tunnel)  # the drain has begun
    assert program.running
    program.kill(signal.SIGINT)
    assert ended(program).endswith("leaving\ninterrupted")


ASYNC_BLOCK = """
import asyncio, sys
from adit import forward
async def main():
    async with forward(int(sys.argv[1]), drain=float(sys.argv[2])) as tunnel:
        try:
            print(tunnel.host, tunnel.port)
            await asyncio.Event().wait()
        finally:
            print("leaving")
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_in_an_event_loop(script, token, app):
    program = script(ASYNC_BLOCK, str(app(echo).port), "0", token=token)
    started(program)
    program.kill(signal.SIGINT)
    assert ended(program).endswith("leaving\ninterrupted")


LEFT_OPEN = {
    "the end": "",
    "sys.exit": "sys.exit(0)",
    "an exception": "1 // 0",
    "os._exit": "os._exit(0)",
    "a daemon thread that opens": """
import threading
threading.Thread(target=lambda: forward(3, client=Client(TOKEN, relays=[sys.argv[1]]), timeout=100).__enter__(),
                 daemon=True).start()
sys.stdin.readline()""",
    "a daemon thread that drains": """
import threading
threading.Thread(target=lambda: Client().close(drain=1), daemon=True).start()""",
    "an event loop": """
import asyncio
async def main():
    await forward(4).__aenter__()
asyncio.run(main())""",
    "an atexit handler that opens": """
import atexit
atexit.register(lambda: forward(5).__enter__())""",
}


@pytest.mark.parametrize("how", LEFT_OPEN)
@pytest.mark.parametrize("embedded", [False, True], ids=["relay", "embedded"])
def test_the_interpreter_ends_with_a_tunnel_open(script, token, silent, how, embedded):
    head = "import os, sys\nfrom adit import forward, Client\nTOKEN = os.environ" + (
        ".pop('ADIT_TOKEN')" if embedded else "['ADIT_TOKEN']"
    )
    program = script(
        f"{head}\nf = forward(2)\nt = f.__enter__()\nprint('open', flush=True)\n{LEFT_OPEN[how]}",
        f"127.0.0.1:{silent.port}",
        token=token,
        stdin=subprocess.PIPE,
    )
    program.out.wait(lambda line: line == "open")
    if "daemon thread that opens" in how:
        silent.accept()
    program.popen.stdin.close()
    ended(program, 1 if how == "an exception" else 0)
    assert "Fatal" not in program.err.text()


def test_a_failure_leaves_nothing(token, silent):
    before = descriptors()
    for _ in range(3):
        with adit.Client(token, relays=[f"127.0.0.1:{silent.port}"]) as client:
            with pytest.raises(RemoteError), forward(8000, client=client, timeout=0.05):
                pass
    assert descriptors() == before
