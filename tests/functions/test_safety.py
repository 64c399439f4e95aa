"""What a function can do to the machine and to others: its code is taken as hostile."""
import json
import os
import re

import pytest
from conftest import BUILD_S

ASK = """
import http.client, json, os, socket
def ask(verb, meta, raw=None):
    connection = http.client.HTTPConnection("x")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/adit/foreman.sock")
    head = json.dumps(meta).encode()
    connection.request("POST", "/" + verb, raw if raw is not None else len(head).to_bytes(4, "big") + head)
    answer = connection.getresponse()
    return answer.status, answer.read().decode("latin-1")
"""


def test_a_function_has_a_user_of_its_own_and_no_rights(calls):
    status = calls.run_code.remote("result = open('/proc/self/status').read()")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["Uid"].split()[0]) >= 20_000
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"


def test_a_function_has_no_network_but_its_loopback(calls):
    assert calls.run_code.remote("import os; result = sorted(os.listdir('/sys/class/net'))") == ["lo"]


def test_a_function_writes_only_to_its_scratch_folders(calls):
    code = """
import os
result = []
for folder, _, _ in os.walk("/"):
    if folder.startswith(("/proc", "/sys")):
        continue
    try:
        open(os.path.join(folder, "x"), "w").close()
        result.append(folder)
    except OSError:
        pass
result = sorted({os.path.join("/", *folder.split("/")[1:3]) for folder in result})
"""
    assert calls.run_code.remote(code) == ["/dev/mqueue", "/dev/shm", "/home/adit", "/tmp"]


def test_a_bomb_of_processes_ends_at_its_limit(calls):
    code = """
import os, signal
made = []
try:
    while len(made) < 2000:
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        made.append(pid)
except OSError:
    pass
for pid in made:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
result = len(made)
"""
    assert 100 < calls.run_code.remote(code) < 512


def test_no_token_is_in_the_environment_or_in_what_the_engine_tells(calls, engine):
    assert not [k for k in calls.run_code.remote("import os; result = dict(os.environ)") if "TOKEN" in k]
    shown = json.dumps([engine.json(f"/containers/{c['Id']}/json") for c in engine.containers()])
    assert "adit1_" not in shown and shown != "[]"


def test_a_secret_is_seen_by_its_function_alone(calls, engine):
    assert calls.secret.remote() == ("its own secret", "C.UTF-8")
    shown = json.dumps([engine.json(f"/containers/{c['Id']}/json") for c in engine.containers()])
    assert "its own secret" not in shown
    _, work = calls.run_code.remote(f"{ASK}\nresult = ask('work', {{}})")
    about = work[4:4 + int.from_bytes(work[:4].encode("latin-1"), "big")]      # behind it is the program's text
    assert '"run_code"' in about and "its own secret" not in about


@pytest.mark.parametrize("verb", ["app_create", "app_close", "app_serve", "app_news", "nothing"])
def test_a_container_has_none_of_its_callers_verbs(calls, verb):
    status, text = calls.run_code.remote(f"{ASK}\nresult = ask({verb!r}, {{'app': 'x', 'spec': {{}}}})")
    assert status == 400 and "no such verb" in text


@pytest.mark.parametrize("meta", [
    {"call": "fc-" + "0" * 32}, {"call": 3}, {}, {"call": None, "wait": "x"},
    {"call": "fc-1", "outcome": {"status": "ok"}},
])
@pytest.mark.parametrize("verb", ["call_get", "call_cancel", "result", "piece", "queue_get", "queue_put"])
def test_what_is_not_its_own_is_refused(calls, verb, meta):
    status, _ = calls.run_code.remote(f"{ASK}\nresult = ask({verb!r}, {meta!r})")
    assert status == 400


def test_random_frames_do_the_foreman_no_harm(calls):
    code = f"""{ASK}
import random
source = random.Random(7)
result = set()
for _ in range(300):
    verb = source.choice(["call", "call_get", "queue_put", "queue_get", "result", "next", "work", "piece", "ready"])
    raw = source.randbytes(source.choice([0, 1, 3, 4, 5, 100]))
    if source.random() < 0.5:
        head = json.dumps(source.choice([[], 1, "x", {{}}, {{"call": []}}, {{"wait": -1}}])).encode()
        raw = len(head).to_bytes(4, "big") + head
    result.add(ask(verb, None, raw)[0])
result = sorted(result)
"""
    assert set(calls.run_code.remote(code)) <= {200, 400}
    assert calls.double.remote(1) == 2


def test_a_body_beyond_the_limit_is_refused(calls):
    code = f"""{ASK}
connection = http.client.HTTPConnection("x")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/adit/foreman.sock")
try:
    connection.putrequest("POST", "/call")
    connection.putheader("Content-Length", str(1 << 34))
    connection.endheaders()
    piece = bytes(1 << 20)
    for _ in range(1 << 14):
        connection.send(piece)
    result = "taken"
except OSError:
    result = "refused"
"""
    assert calls.run_code.remote(code) == "refused"
    assert calls.double.remote(1) == 2


def test_the_foreman_has_nothing_that_could_load_a_pickle():
    import adit.functions.foreman
    folder = os.path.dirname(adit.functions.foreman.__file__)
    for name in os.listdir(folder):
        if name.endswith(".py"):
            with open(os.path.join(folder, name)) as file:
                text = file.read()
            assert not re.search(r"import (cloud)?pickle\n.*loads?\(|pickle\.load|wire\.decode|"
                                 r"from .*wire import.*decode", text)


def test_of_containers_that_are_not_trusted_no_pickle_is_loaded(adit, program):
    file = program("untrusted.py", """
import pickle
from adit import App, FunctionCall, Queue
app = App(trusted=False)
class Trap:
    def __reduce__(self):
        return print, ("sprung",)
class Wrong(Exception):
    pass
@app.function()
def give(kind):
    if kind == "raise":
        raise Wrong("its words")
    if kind == "raise plainly":
        raise ValueError(3)
    return {"plain": (1, {2: b"3"}), "trap": Trap()}[kind]
@app.function()
def count():
    yield b"1"
    yield Trap()
@app.function()
def put(q, value):
    q.put(Trap() if value == "trap" else value)
@app.function()
def call_with_a_trap():
    return give.remote(Trap())
def tried(what):
    try:
        return what()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
@app.local_entrypoint()
def main():
    print(give.remote("plain"))
    for kind in ("trap", "raise", "raise plainly"):
        print(tried(lambda: give.remote(kind)))
    values = count.remote_gen()
    print(next(values), tried(lambda: next(values)))
    with Queue.ephemeral() as q:
        q.put(Wrong("the caller's own"))
        print(repr(q.get()))
        put.remote(q, (1,))
        print(q.get())
        put.remote(q, "trap")
        print(tried(q.get))
    print(tried(call_with_a_trap.remote))
""")
    run = adit("run", "-q", file)
    assert run.wait(BUILD_S) == 0, run.report()
    refused = "it is a pickle, from a container that is not trusted, and was not loaded"
    for line, start in zip(run.out.lines, [
        "(1, {2: b'3'})", f"ExecutionError: give: its result: {refused}", "ExecutionError: give: Wrong: its words",
        "ValueError: 3", f"b'1' ExecutionError: count: a value: {refused}", "Wrong(\"the caller's own\")", "(1,)",
        f"ExecutionError: Queue.get: {refused}",
        f"ExecutionError: give: an argument: {refused}",
    ], strict=True):
        assert line.startswith(start), run.report()
