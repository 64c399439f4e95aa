"""What containers use is known to the digit, also of those that are short or die, and also when the foreman dies."""
import contextlib
import json
import os
import signal
import socket
import sqlite3
import sys

import pytest
from conftest import BUILD_S, PROGRAMS
from kit.process import wait_until

OWN_START = 0.4         # what a container's start and end may use besides its Python
ANSWER = 0.1            # what handing over a call and its result may
SPEND = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done"     # of a shell, some 0.4 s
IDLE, BUSY = 14.75, 0.25        # an hour with a minute of work in it, at 1:240


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return str(tmp_path_factory.mktemp("store") / "functions.db")


@pytest.fixture(scope="module")
def metered(configured, store):
    """The module programs/metered.py, its app running, with a store of its own; and the call that takes longest, under
    way."""
    from adit.functions import bundle, session
    session.close()
    os.environ["ADIT_STORE"] = store
    module = bundle.load(os.path.join(PROGRAMS, "metered.py"))
    with module.app.run(show_progress=False):
        module.hour_under_way = module.hour.spawn(IDLE, BUSY)
        yield module
    session.close()
    del os.environ["ADIT_STORE"]


def rows_of(path, **columns):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        where = " AND ".join(f"{name} = ?" for name in columns) or "1"
        return [dict(row) for row in database.execute(f"SELECT * FROM usage WHERE {where} ORDER BY began",
                                                      [*columns.values()])]


def rows_once(condition, path, **columns):
    """The rows, when the condition holds of them."""
    wait_until(lambda: condition(rows_of(path, **columns)), f"the rows are {rows_of(path, **columns)}", 30)
    return rows_of(path, **columns)


def ended(path, n=1, **columns):
    """The n-th row that is closed."""
    return rows_once(lambda rows: len(rows) >= n, path, ended=1, **columns)[n - 1]


def test_a_call_of_a_hundred_milliseconds_and_its_container_are_billed_exactly(metered, store):
    for n in (1, 2):
        call = metered.short.spawn(0.1)
        for_call, in_all = call.get()
        assert for_call <= call.usage.core_hours * 3600 <= for_call + ANSWER
        row = ended(store, n, function="short")
        assert row["how"] == "exact" and row["calls"] == 1
        assert in_all <= row["cpu_ns"] / 1e9 <= in_all + OWN_START


@pytest.mark.parametrize("how", ["exit", "memory", "kill"])
def test_a_container_that_dies_is_billed_to_its_end(metered, store, engine, how, capfd):
    from adit.exception import ExecutionError
    call = metered.die.spawn(how, 0.3)
    before = len(rows_of(store, function="die", ended=1))
    if how == "kill":
        (row,) = rows_once(lambda rows: rows and rows[0]["cpu_ns"] > 0.3e9, store, function="die", ended=0)
        engine.ask("POST", f"/containers/{row['source']}/kill")
    with pytest.raises(ExecutionError):
        call.get(timeout=60)
    row = ended(store, before + 1, function="die")
    assert row["how"] == "exact" and row["cpu_ns"] > 0.3e9
    assert call.usage.core_hours * 3600 > 0.3 and call.usage.price is None


WITHOUT_GROUPS = """
import sys
from adit.exception import ExecutionError
from adit.functions import bundle
from adit.functions.engine.docker import Docker
async def no(self):
    return False
Docker.shares_groups = no
metered = bundle.load(sys.argv[1])
with metered.app.run(show_progress=False):
    print(*metered.short.remote(0.1))
    try:
        metered.die.remote("exit", 1.5)
    except ExecutionError as error:
        print(error)
"""


def test_where_no_groups_may_be_made_what_ends_is_exact_and_of_what_dies_the_last_sample_stands(adit, box, settings,
                                                                                                tmp_path):
    here = {"ADIT_STORE": str(tmp_path / "x.db")}
    program = box.start([sys.executable, "-c", WITHOUT_GROUPS, os.path.join(PROGRAMS, "metered.py")],
                        env={**settings, **here})
    assert program.wait(BUILD_S) == 0, program.report()
    spent = float(program.out.lines[0].split()[1])
    assert "status 3" in program.out.lines[-1]
    (short,), (died,) = (rows_of(here["ADIT_STORE"], function=name) for name in ("short", "die"))
    assert short["how"] == "exact" and short["control_group"] == ""
    assert spent <= short["cpu_ns"] / 1e9 <= spent + OWN_START
    assert died["how"] == "sampled" and died["ended"] == 1 and 0.2e9 < died["cpu_ns"] < 2e9
    usage = adit("usage", env=here)
    assert usage.wait(60) == 0
    assert usage.out.lines[-1].startswith("(1 of them up to the last sample: ")


def test_the_engines_word_is_the_control_groups(configured, engine):
    """Where the groups are not to be read, the engine is asked."""
    import asyncio

    from adit.functions.engine import Container
    from adit.functions.engine.docker import Docker

    async def work():
        docker = await Docker.connect(engine.host)
        idle = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo up; exec cat"
        running = await docker.start(Container("adit-base:test", ["sh", "-c", idle],
                                               f"adit-test-{os.urandom(4).hex()}", {}))
        try:
            async for _, data in running.output():
                if b"up" in data:
                    break
            known = await running.usage()
            running._group = None
            told = await running.usage()
            await running.signal("SIGKILL")
            await running.ended()
            return known, told, await running.usage()
        finally:
            await running.remove()
            await docker.close()

    known, told, after = asyncio.run(work())
    assert known.cpu_ns > 1e7 and 0 <= told.cpu_ns - known.cpu_ns < 5e6
    assert known.memory_bytes > 0 and abs(told.memory_bytes - known.memory_bytes) <= 1 << 20
    assert after is None


def test_what_a_dockerfile_runs_is_metered(configured, engine, tmp_path):
    import asyncio
    import io
    import tarfile

    from adit.functions.engine import Build
    from adit.functions.engine.docker import Docker
    from adit.functions.foreman.amounts import TABLES, Bill
    from adit.functions.foreman.meter import Meter
    from adit.functions.foreman.store import Store
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        text = f"FROM adit-base:test\nRUN {SPEND} # {os.urandom(4).hex()}\n".encode()
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    context.seek(0)
    name = f"adit-test-{os.urandom(4).hex()}"

    async def work():
        docker, store = await Docker.connect(engine.host), Store(str(tmp_path / "x.db"))
        meter = Meter(docker, store, name, lambda *_, **__: None)
        await meter.open()
        try:
            await meter.build(Build(context, "Dockerfile", f"{name}:1", {}, {}), lambda line: None,
                              Bill("(images)", "x"))
        finally:
            await meter.close()
            await docker.close()
            rows = await store.read(TABLES, "SELECT * FROM usage")
            await store.close()
        return rows

    try:
        (row,) = asyncio.run(work())
        assert row["how"] == "exact" and row["ended"] == 1 and row["cpu_ns"] > 0.1e9
    finally:
        engine.ask("DELETE", f"/images/{name}:1")


def test_of_a_foreman_that_is_killed_the_next_one_bills_what_its_containers_used(adit, nothing_stays, tmp_path):
    from adit.functions.engine.groups import Hierarchies
    here = {"ADIT_STORE": str(tmp_path / "x.db"), "TMPDIR": str(tmp_path)}
    run = adit("run", "-q", "metered.py::wait", env=here)
    spent = float(run.out.wait(lambda line: line.startswith("spent "), BUILD_S).split()[1])
    run.kill(signal.SIGKILL)
    nothing_stays()
    assert rows_of(here["ADIT_STORE"], function="wait")[0]["ended"] == 0
    again = adit("run", "-q", "metered.py::short", "--seconds", "0", env=here)
    assert again.wait(BUILD_S) in (0, 1), again.report()
    (row,) = rows_of(here["ADIT_STORE"], function="wait")
    assert row["ended"] == 1 and row["how"] == "exact" and spent <= row["cpu_ns"] / 1e9 <= spent + OWN_START
    nothing_stays()
    for root in Hierarchies.here().roots:
        assert not os.path.exists(root + os.path.dirname(row["control_group"]))


def test_the_end_of_a_run_says_what_it_used_and_the_report_has_it_by_app_function_and_day(adit, program, tmp_path):
    (tmp_path / "adit").mkdir()
    (tmp_path / "adit" / "prices.toml").write_text('currency = "EUR"\ncore_hour = 3600\ngib_hour = 0\n')
    here = {"ADIT_STORE": str(tmp_path / "x.db"), "XDG_CONFIG_HOME": str(tmp_path)}
    file = program("spender.py", f"""
import time
from adit import App, Image
app = App("spends", image=Image.debian_slim().run_commands('{SPEND} # {os.urandom(4).hex()}'))
@app.function()
def spend():
    while time.process_time() < 1: pass
""")
    run = adit("run", file, env=here)
    assert run.wait(BUILD_S) == 0, run.report()
    last = run.err.lines[-1]
    assert last.startswith("\u2713 Done in ") and last.endswith(" EUR")
    assert "core-hours" in last and "GiB-hours, tunnels: free. 1." in last
    told = {}
    for by in ("app", "function", "day"):
        usage = adit("usage", "--by", by, "--since", "1h", "--json", env=here)
        assert usage.wait(60) == 0, usage.report()
        told[by] = json.loads(usage.out.text())
        assert 1 <= told[by]["total"]["price"] < 60 and told[by]["tunnel"]["price"] == 0
    assert 1 <= [row for row in told["app"]["rows"] if row["app"] == "spends"][0]["price"] < 1.5
    assert [row["containers"] for row in told["function"]["rows"] if row["function"] == "spend"] == [1]
    (step,) = rows_of(here["ADIT_STORE"], kind="build",
                      function=[r["function"] for r in told["function"]["rows"] if SPEND in r["function"]][0])
    assert step["how"] == "exact" and step["cpu_ns"] > 0.1e9
    table = adit("usage", env=here)
    assert table.wait(60) == 0
    assert any(line.startswith("tunnel ") and line.endswith(" 0.00") for line in table.out.lines)
    sheet = adit("usage", "--csv", env=here)
    assert sheet.wait(60) == 0
    assert sheet.out.lines[0].startswith("app,containers,") and sheet.out.lines[-1].startswith("tunnel,")
    later = adit("usage", "--json", "--since", "2100-01-01", env=here)
    assert later.wait(60) == 0 and json.loads(later.out.text())["rows"] == []


def test_prices_that_are_wrong_are_told_before_anything_starts(adit, tmp_path):
    (tmp_path / "adit").mkdir()
    (tmp_path / "adit" / "prices.toml").write_text("core_hours = 1\n")
    run = adit("run", "start_app.py", env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert run.wait(60) == 1
    assert "prices.toml: core_hours: there is no such setting" in run.err.text() and "Traceback" not in run.err.text()


def test_what_passes_through_a_containers_tunnels_is_counted_and_costs_nothing(adit, visit, tmp_path):
    here = {"ADIT_STORE": str(tmp_path / "x.db")}
    run = adit("run", "metered.py::behind", "--requests", "2", env=here)
    url = run.out.wait(lambda line: line.startswith("https://"), BUILD_S)
    for _ in range(2):
        assert visit(url).status == 200
    assert run.wait(60) == 0, run.report()
    (row,) = rows_of(here["ADIT_STORE"], function="behind")
    assert row["streams"] == 2 and row["bytes"] > 200
    usage = adit("usage", "--json", env=here)
    assert usage.wait(60) == 0
    assert json.loads(usage.out.text())["tunnel"] == {"streams": 2, "bytes": row["bytes"], "bytes_said": 0,
                                                      "price": 0.0}


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_container_that_lies_about_its_tunnels_is_believed_only_where_the_relay_cannot_be_asked(adit, tmp_path,
                                                                                                  at_hand):
    here = {"ADIT_STORE": str(tmp_path / "x.db"), **({} if at_hand else {"ADIT_RELAY_ADMIN": "127.0.0.1:1"})}
    run = adit("run", "metered.py::boast", env=here)
    _, host, port = run.out.wait(lambda line: line.startswith("at "), BUILD_S).split()
    with socket.create_connection((host, int(port)), 30) as visitor:
        visitor.sendall(b"x" * 100_000)
        visitor.shutdown(socket.SHUT_WR)
        assert sum(map(len, iter(lambda: visitor.recv(1 << 16), b""))) == 100_000
    assert run.wait(60) == 0, run.report()
    (row,) = rows_of(here["ADIT_STORE"], function="boast")
    usage = adit("usage", env=here)
    assert usage.wait(60) == 0
    tunnel = next(line for line in usage.out.lines if line.startswith("tunnel"))
    if at_hand:
        assert (row["streams"], row["bytes"], row["bytes_said"]) == (1, 200_000, 0) and "word" not in tunnel
    else:
        assert row["bytes"] == row["bytes_said"] == 1 << 50 and "of it by containers' own word" in tunnel


def test_what_passes_through_a_web_endpoints_tunnel_is_counted_and_costs_nothing(adit, visit, url_of, tmp_path):
    here = {"ADIT_STORE": str(tmp_path / "x.db")}
    serve = adit("serve", "web.py", env=here)
    url = url_of(serve, "pages")
    for _ in range(3):
        assert visit(f"{url}/deep/page").status == 200
    serve.kill(signal.SIGINT)
    assert serve.wait(60) == 130
    row = rows_of(here["ADIT_STORE"], kind="tunnel", function="pages")[0]
    assert row["streams"] == 3 and row["bytes"] > 300 and row["cpu_ns"] == 0
    assert "tunnels: free." in serve.err.lines[-1]


def test_an_hour_of_little_and_a_minute_of_much_is_billed_as_its_control_group_has_it(metered, store):
    """At 1:240, since the hour began with these tests; and all containers together are what is above them."""
    from adit.functions.engine.groups import Hierarchies
    own = metered.hour_under_way.get(timeout=120)
    row = ended(store, function="hour")
    assert row["how"] == "exact" and row["seconds"] > IDLE
    assert own * 0.98 <= row["cpu_ns"] / 1e9 <= own * 1.02 + OWN_START
    rows_once(lambda rows: all(row["kind"] == "spare" for row in rows), store, ended=0)
    group = os.path.dirname(row["control_group"])
    all_of_it = Hierarchies.here().usage(group).cpu_ns
    assert sum(r["cpu_ns"] for r in rows_of(store)) == pytest.approx(all_of_it, rel=0.02)
