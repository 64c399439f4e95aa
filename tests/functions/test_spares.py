"""Spares: containers that wait for what they are to be, so that a call does not wait for a container's start."""
import contextlib
import json
import os
import signal
import sqlite3
import subprocess

import pytest
from conftest import BUILD_S
from kit.process import wait_until
from own_engine import OwnEngine, image_of

PROGRAM = """
import os
from adit import App, Secret, forward
app = App("spared")
SIGN = "4f1d7c" + "0b92aa"
@app.function(max_inputs=1, secrets=[Secret.from_dict({"WORD": "a secret" + " word"})])
def single():
    return os.environ["ADIT_CONTAINER"]
@app.function()
def many(n):
    return os.environ["ADIT_CONTAINER"]
@app.function(max_inputs=1)
def other():
    return os.environ["ADIT_CONTAINER"]
@app.function(memory=(128, 300), env={"MOOD": "good"}, max_inputs=1)
def small():
    return os.environ["ADIT_CONTAINER"], os.environ["MOOD"]
@app.function(max_inputs=1)
def opens():
    with forward(8000) as tunnel:
        assert tunnel.url
    return os.environ["ADIT_CONTAINER"]
@app.function()
def dies():
    os._exit(3)
"""
SPARE = "(spare)"


@pytest.fixture
def loaded(configured, program):
    from adit.functions import bundle
    return bundle.load(program("spared.py", PROGRAM))


@pytest.fixture
def spared(loaded):
    """Its app runs."""
    with loaded.app.run(show_progress=False):
        yield loaded


def id_of(container):
    return container["Names"][0].rpartition("-")[2]


def of_the_foreman():
    """The spares that this process's has."""
    from adit.functions import session
    return [w for app in session._session.foreman._foreman.apps.values() for kind in app.reserve.kinds
            for w in kind.workers]


class Spares:
    """Those of an app, as the engine has them."""

    def __init__(self, engine, app):
        self.engine, self.app = engine, app

    def all(self, function=SPARE):
        return [c for c in self.engine.containers() if c["Labels"].get("adit.app") == self.app
                and c["Labels"]["adit.function"] == function]

    def ids(self):
        return {id_of(c) for c in self.all()}

    def waiting(self, n=1, but=()):
        """Those whose runners wait for their work, once there are so many."""
        def are_there():
            waiting = {w.id for w in of_the_foreman() if w.waits}
            return [c for c in self.all() if id_of(c) in waiting.difference(but)]
        wait_until(lambda: len(are_there()) == n, "there are no spares", 60)
        return are_there()


@pytest.fixture
def spares(spared, engine):
    return Spares(engine, spared.app._id)


def test_a_call_gets_the_container_that_waits_and_another_takes_its_place(spared, spares):
    spared.single.remote()
    for function in (spared.other, spared.single):
        [spare] = spares.waiting()
        assert function.remote() == id_of(spare)
        spares.waiting(but=[id_of(spare)])
    assert len({c["Id"] for c in spares.all()}) == 1


def test_containers_are_started_much_more_rarely_than_functions_are_called(spared, spares):
    used = {spared.many.remote(n) for n in range(50)}
    spares.waiting()
    assert len(used | {spared.other.remote()} | {spared.many.remote(n) for n in range(50)}) == 2


def test_a_container_that_waited_is_called_what_it_is(spared, spares):
    spared.many.remote(0)
    [spare] = spares.waiting()
    spared.other.spawn()
    wait_until(lambda: not any(c["Id"] == spare["Id"] and "spare" in c["Names"][0] for c in spares.engine.containers()),
               "it keeps its name", 20)


def test_each_kind_of_container_has_spares_of_its_own(spared, spares, engine):
    spared.single.remote()
    [plain] = spares.waiting()
    assert spared.small.remote()[0] != id_of(plain)
    found = {}
    for container in spares.waiting(2):
        told = engine.json(f"/containers/{container['Id']}/json")
        found[told["HostConfig"]["Memory"] >> 20] = container, told["Config"]["Env"]
    assert found.keys() == {300, 4096} and "MOOD=good" in found[300][1] and "MOOD=good" not in found[4096][1]
    assert spared.small.remote() == (id_of(found[300][0]), "good")


def memory_of(pid):
    """All that a process can write to."""
    found = b""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            if line.split()[1].startswith("rw") and "[v" not in line:
                memory.seek(begin)
                with contextlib.suppress(OSError):
                    found += memory.read(end - begin)
    return found


def test_nothing_of_the_program_is_in_one_that_waits(spared, spares, engine):
    spared.single.remote()
    [spare] = spares.waiting()
    pids = [int(process[1]) for process in engine.json(f"/containers/{spare['Id']}/top")["Processes"]]
    assert len(pids) == 2
    for pid in pids:
        assert b"spared" not in memory_of(pid).replace(b"spared.py", b"") or b"SIGN = " not in memory_of(pid)
        assert b"a secret word" not in memory_of(pid) and b"WORD" not in open(f"/proc/{pid}/environ", "rb").read()
    files = [name for place in ("home/adit", "tmp", "root")
             for _, _, names in os.walk(f"/proc/{pids[0]}/root/{place}") for name in names]
    assert not [name for name in files if name.endswith(".py")]
    shown = json.dumps(engine.json(f"/containers/{spare['Id']}/json"))
    assert "WORD" not in shown and "adit1_" not in shown


def test_one_that_waits_may_ask_for_its_work_and_for_a_token_and_for_nothing_else(spared, spares, tmp_path):
    from adit.functions import remote, session
    spared.single.remote()
    [spare] = spares.waiting()
    channel = remote.Channel(os.path.join(session._session.foreman._foreman.folder, id_of(spare), "foreman.sock"))
    for verb in ("call", "next", "ready", "result", "queue_create", "leave"):
        with pytest.raises(Exception, match="no such verb here"):
            channel.ask(verb, {"function": "single"})
    assert channel.ask("work")[0]["not_yet"] and spared.single.remote() == id_of(spare)


def test_the_link_is_up_in_one_that_waits_once_its_app_has_opened_a_tunnel(spared, spares):
    from adit.functions import session
    relay = session._session.foreman._foreman.relay
    spared.single.remote()
    spares.waiting()

    def have_links():
        return [w for w in of_the_foreman() if w.waits and w in relay._tokens]
    assert not have_links()
    spared.opens.remote()
    spared.single.remote()      # takes one that may have begun before
    wait_until(have_links, "none has a token", 60)
    [waits] = have_links()
    assert spared.opens.remote() == waits.id
    assert len(relay._ids[waits]) == 1


def test_they_end_with_their_app_and_are_no_other_apps(spared, spares, engine, program):
    from adit.functions import bundle
    spared.single.remote()
    [spare] = spares.waiting()
    other = bundle.load(program("another.py", PROGRAM.replace('"spared"', '"another"')))
    with other.app.run(show_progress=False):
        theirs = Spares(engine, other.app._id)
        assert other.single.remote() != id_of(spare)
        theirs.waiting()
        assert [id_of(c) for c in spares.waiting()] == [id_of(spare)]
    assert not theirs.all() and [id_of(c) for c in spares.all()] == [id_of(spare)]


def test_one_that_is_killed_while_it_waits_is_not_missed(spared, spares, engine):
    spared.single.remote()
    [spare] = spares.waiting()
    engine.ask("POST", f"/containers/{spare['Id']}/kill")
    assert spared.single.remote() != id_of(spare)
    spares.waiting(but=[id_of(spare)])


def test_one_that_dies_as_it_is_taken_fails_no_call(spared, spares, engine):
    spared.single.remote()
    [spare] = spares.waiting()
    engine.ask("POST", f"/containers/{spare['Id']}/pause")       # so that it is taken, and does not hear of it
    call = spared.single.spawn()
    wait_until(lambda: id_of(spare) not in {w.id for w in of_the_foreman()}, "it is not taken", 20)
    engine.ask("POST", f"/containers/{spare['Id']}/kill")
    assert call.get(timeout=60) != id_of(spare)


def test_a_function_that_dies_is_told_of_when_its_container_was_a_spare(spared, spares):
    from adit.exception import ExecutionError
    spared.single.remote()
    spares.waiting()
    with pytest.raises(ExecutionError, match="dies: its container ended with status 3"):
        spared.dies.remote()


def rows_of(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("SELECT * FROM usage ORDER BY began")]


def test_what_waiting_costs_is_the_spares_and_what_starting_costs_is_whoevers_took_it(loaded, engine, tmp_path,
                                                                                      monkeypatch):
    from adit.functions import session
    session.close()
    monkeypatch.setenv("ADIT_STORE", str(tmp_path / "store.db"))
    with loaded.app.run(show_progress=False):
        loaded.single.remote()
        spares = Spares(engine, loaded.app._id)
        [spare] = spares.waiting()
        assert loaded.other.remote() == id_of(spare)
        [waiting] = spares.waiting(but=[id_of(spare)])
        run = session.channel().ask("app_close", {"app": loaded.app._id})[0]["used"]
    session.close()
    rows = [row for row in rows_of(tmp_path / "store.db") if row["kind"] != "build"]
    assert all(row["ended"] and row["how"] == "exact" for row in rows)
    waited, taken = (row for row in rows if row["source"] == spare["Id"])
    assert (waited["app"], waited["function"], waited["kind"]) == ("(spares)", "spared", "spare")
    assert (taken["app"], taken["function"], taken["calls"]) == ("spared", "other", 1)
    assert waited["cpu_ns"] == 0 and waited["memory_byte_s"] > 0 and waited["seconds"] > 0
    [never] = (row for row in rows if row["source"] == waiting["Id"])
    assert never["app"] == "(spares)" and 0 < never["cpu_ns"] < 2 * taken["cpu_ns"]
    assert run["core_hours"] * 3600e9 == pytest.approx(sum(row["cpu_ns"] for row in rows if row["app"] == "spared"))


@pytest.fixture
def limits(monkeypatch):
    from adit.functions.foreman import admission
    return lambda **given: [monkeypatch.setattr(admission, name, value) for name, value in given.items()]


def test_they_make_room_for_what_is_called(spared, spares, limits):
    spared.single.remote()
    [spare] = spares.waiting()
    with open("/proc/meminfo") as file:
        there = int(file.readline().split()[1]) >> 10
    limits(PATIENCE_S=0.0, MEMORY_LEFT_MIB=there - 200, _available=lambda total: None)
    assert spared.small.remote()[1] == "good"
    wait_until(lambda: id_of(spare) not in spares.ids(), "it stays", 20)


def test_none_is_started_where_there_is_no_room(spared, spares, limits):
    limits(CONTAINERS_MAX=1)
    assert {spared.many.remote(n) for n in range(3)} and not spares.all()
    from adit.functions import session
    [app] = session._session.foreman._foreman.apps.values()
    wait_until(lambda: app.reserve.kinds and app.reserve.kinds[0]._again_s > 5.0, "none is tried", 20)
    assert not spares.all()


@pytest.mark.parametrize("count", ["0", "2"])
def test_how_many_there_are_can_be_said(adit, program, engine, count):
    file = program("spared.py", PROGRAM + """
import sys
@app.local_entrypoint()
def main():
    for line in sys.stdin:
        print(single.remote(), app._id, flush=True)
""")
    run = adit("run", "-q", "--spare", count, f"{file}::main", stdin=subprocess.PIPE)

    def say():
        n = len(run.out.lines)
        run.popen.stdin.write(b"\n")
        run.popen.stdin.flush()
        wait_until(lambda: len(run.out.lines) > n, "it does not answer", BUILD_S)
        return run.out.lines[-1].split()
    used, app = say()
    spares = Spares(engine, app)
    if count == "0":
        assert say()[0] != used and not spares.all()
    else:
        wait_until(lambda: len(spares.all()) == 2, "there are not two", 60)
        before = spares.ids()
        assert say()[0] in before and say()[0] in before
    run.kill(signal.SIGINT)
    assert run.wait(60) == 130
    assert not spares.all()


def test_a_number_of_them_that_cannot_be_is_refused(adit, program):
    run = adit("run", "--spare", "many", program("spared.py", PROGRAM))
    assert run.wait(60) == 2 and "--spare: 'many' is no number from 0 to 10" in run.err.text()


WEB = """
import os
from adit import App, web_endpoint
app = App()
@app.function()
@web_endpoint()
def where():
    return os.environ["ADIT_CONTAINER"]
"""


def test_a_visitor_gets_one_when_the_container_of_an_endpoint_dies(adit, program, engine, url_of, visit):
    run = adit("serve", program("where.py", WEB))
    url = url_of(run, "where")
    first = json.loads(visit(url).body)
    [mine] = [c for c in engine.containers() if id_of(c) == first]
    spares = Spares(engine, mine["Labels"]["adit.app"])
    wait_until(spares.all, "there is no spare", 60)
    before = spares.ids()
    engine.ask("POST", f"/containers/{mine['Id']}/kill")
    answers = []

    def answered():
        with contextlib.suppress(OSError, ValueError):
            answers.append(json.loads(visit(url).body))
        return answers and answers[-1] != first
    wait_until(answered, "nobody answers", 60)
    assert answers[-1] in before
    run.kill(signal.SIGINT)
    assert run.wait(60) == 130


def test_they_are_there_again_when_the_engine_is(configured, engine, adit, program):
    from adit.functions import bundle
    calls = bundle.load(program("imaged.py",
                                "from adit import App\napp = App()\n@app.function()\ndef double(x):\n"
                                "    return 2 * x\n"))
    with calls.app.run(show_progress=False):
        image = image_of(engine, calls)
    own = OwnEngine()
    try:
        own.start()
        own.take_images(engine, image)
        file = program("spared.py", PROGRAM + """
import sys
@app.local_entrypoint()
def main():
    for line in sys.stdin:
        try:
            print(single.remote(), flush=True)
        except Exception as error:
            print("failed:", type(error).__name__, flush=True)
""")
        run = adit("run", "-q", f"{file}::main", env={"DOCKER_HOST": own.host}, stdin=subprocess.PIPE)

        def say():
            n = len(run.out.lines)
            run.popen.stdin.write(b"\n")
            run.popen.stdin.flush()
            wait_until(lambda: len(run.out.lines) > n, "it does not answer", BUILD_S)
            return run.out.lines[-1]

        def spare_runs():
            return [c for c in own.containers() if c["Labels"].get("adit.function") == SPARE
                    and c["State"] == "running"]
        say()
        wait_until(spare_runs, "there is no spare", 60)
        own.kill()
        assert say() == "failed: RemoteError"
        own.start()
        wait_until(lambda: not say().startswith("failed"), "no call runs", 60)
        wait_until(spare_runs, "there is no spare again", 60)
        run.kill(signal.SIGINT)
        assert run.wait() == 130
        assert not own.containers()
    finally:
        own.close()
