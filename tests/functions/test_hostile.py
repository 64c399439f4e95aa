"""A container that keeps to no rule: what it does to its socket costs the foreman little, and others
go on meanwhile."""
import os

import pytest
from conftest import PROGRAMS

TALK = """
import http.client, json, os, socket, threading
def connect():
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(30)
    end.connect("/run/adit/foreman.sock")
    return end
def ask(verb, meta, payload=b"", head=None):
    connection = http.client.HTTPConnection("x")
    connection.sock = connect()
    head = json.dumps(meta).encode() if head is None else head
    connection.request("POST", "/" + verb, len(head).to_bytes(4, "big") + head + payload)
    answer = connection.getresponse()
    raw = answer.read()
    return answer.status, raw[4:4 + int.from_bytes(raw[:4], "big")].decode(), raw
"""


def resident():
    """The megabytes of this process, which has the foreman in it."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


@pytest.fixture
def hostile(calls):
    """hostile(code) runs it in a container; others can be called meanwhile and after it, and the foreman is as
    large as before."""
    assert calls.double.remote(1) == 2
    before, under_way = resident(), []

    def run(code):
        under_way.append(calls.run_code.spawn(TALK + code))
        for n in range(5):
            assert calls.double.remote(n) == 2 * n
        return under_way[-1].get(timeout=120)
    yield run
    assert calls.double.remote(1) == 2
    assert resident() - before < 300


def test_bodies_without_end_are_cut_off(hostile):
    assert hostile("""
result = []
for head in (b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"):
    end, sent = connect(), 0
    piece = bytes(1 << 20)
    if b"chunked" in head:
        piece = b"100000\\r\\n" + piece + b"\\r\\n"
    try:
        end.sendall(b"POST /call HTTP/1.1\\r\\nHost: x\\r\\n" + head + b"\\r\\n\\r\\n")
        while sent < 1 << 30:
            end.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    result.append(sent < 200 << 20)
""") == [True, True]


def test_thousands_of_connections_with_half_a_request_each_hold_nobody_up(hostile, caplog):
    opened, last = hostile("""
import resource
ends = []
if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 4096:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
try:
    while len(ends) < 2000:
        ends.append(connect())
        ends[-1].send(b"POST /call HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 100\\r\\n\\r\\nslow")
except OSError:
    pass
import time
def is_open(end):
    end.settimeout(0)
    try:
        return end.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
for _ in range(600):                   # until the last of them was looked at
    opened = sum(map(is_open, ends))
    if opened <= 256:
        break
    time.sleep(0.05)
for end in ends:
    end.close()
del ends
for _ in range(100):
    try:
        last = ask("queue_create", {})[0]
        break
    except OSError:
        time.sleep(0.05)
result = opened, last
""")
    assert 0 < opened <= 256
    assert last == 200
    assert not [r for r in caplog.records if r.name.startswith("aiohttp")], "the caller is told of none of it"


def test_what_it_has_the_foreman_keep_is_bounded_and_takes_nothing_from_others(hostile, calls):
    status, said, kept = hostile("""
payload, made = bytes(32 << 20), []
while len(made) < 100:
    status, said, _ = ask("call", {"function": "wait_for"}, payload)
    if status != 200:
        break
    made.append(json.loads(said)["call"])
for call in made:
    ask("call_cancel", {"call": call})
result = status, said, len(made)
""")
    assert status == 400 and "inputs that one container has made: there are" in said and 3 <= kept < 100
    assert len(calls.echo.remote(bytes(8 << 20))) == 8 << 20


def test_queues_that_nobody_put_anything_into_cost_nothing():
    import asyncio

    from adit.exception import RemoteError
    from adit.functions.foreman.budget import Budget
    from adit.functions.foreman.queues import Queue

    async def use():
        budget = Budget("queues", 1 << 20)
        queue = Queue(0, budget)
        for n in range(10_000):
            assert await queue.get(1, str(n), 0) == [] and queue.peek(str(n)) == []
        assert budget._taken == 0
        with pytest.raises(RemoteError, match="try again later"):
            for n in range(10_000):
                await queue.put([b""], str(n), 60, 0, some=False)
        await queue.end()
        assert budget._taken == 0
    asyncio.run(use())


def test_it_can_make_so_many_queues_and_no_more(hostile, monkeypatch):
    monkeypatch.setattr("adit.functions.foreman.apps.MADE_MAX", 100)
    made, said = hostile("""
made, connection = [], http.client.HTTPConnection("x")
connection.sock = connect()
while len(made) < 1000:
    connection.request("POST", "/queue_create", b"\\0\\0\\0\\2{}")
    answer = connection.getresponse()
    raw = answer.read()
    if answer.status != 200:
        break
    made.append(json.loads(raw[4:])["queue"])
result = len(made), raw[4:].decode()
for queue in made:
    head = json.dumps({"queue": queue}).encode()
    connection.request("POST", "/queue_end", len(head).to_bytes(4, "big") + head)
    connection.getresponse().read()
""")
    assert 50 < made <= 100 and "its containers have 100 queues and dicts" in said


def test_a_generator_that_nobody_reads_is_told_to_stop(hostile, calls):
    from adit import FunctionCall
    from adit.exception import RemoteError
    call = calls.flood.spawn(16 << 20)
    with pytest.raises(RemoteError, match="inputs that one container has made"):
        FunctionCall.from_id(call.object_id).get()


@pytest.mark.parametrize("head", [
    b'{"queue": "%s", "partition": "", "n": 1, "wait": NaN}',
    b'{"queue": "%s", "partition": "", "n": 1e999, "wait": 0}',
    b'{"queue": "%s", "partition": "", "n": -1, "wait": -1e999}', b'{"queue": ["%s"], "partition": {}, "n": 1}',
    b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
])
def test_times_and_numbers_that_are_none_are_refused(hostile, head):
    status, said = hostile(f"""
import time
queue = json.loads(ask("queue_create", {{}})[1])["queue"]
result = ask("queue_get", {{}}, head={head!r}.replace(b"%s", queue.encode()))[:2]
""")
    assert status == 400 or "not_yet" in said


def test_ids_of_another_app_are_unknown(hostile, calls):
    from adit.functions import bundle
    other = bundle.load(os.path.join(PROGRAMS, "start_app.py"))
    with other.stub.run(show_progress=False):
        call = other.start_app.spawn()
        for verb in ("call_get", "call_cancel", "call_pieces", "result", "piece"):
            meta = {"call": call.object_id, "have": 0, "outcome": {"status": "ok"}}
            assert hostile(f"result = ask({verb!r}, {meta!r})[0]") == 400
        assert hostile("result = ask('call', {'function': 'start_app'})[0]") == 400
        call.get()


def test_signals_reach_its_own_processes_only(hostile):
    from adit.exception import ExecutionError
    with pytest.raises(ExecutionError, match="container"):
        hostile("""
import signal, time
try:
    os.kill(-1, signal.SIGKILL)
finally:
    os.kill(os.getpid(), signal.SIGKILL)
""")


def test_what_fills_its_folders_ends_with_them(hostile):
    assert hostile("""
result = []
for folder in ("/tmp", "/dev/shm"):
    path = os.path.join(folder, "full")
    try:
        with open(path, "wb") as file:
            while True:
                file.write(bytes(1 << 20))
    except OSError as error:
        result.append(error.errno)
    os.unlink(path)
""") == [28, 28]
