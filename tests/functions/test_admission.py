"""Who may start a container: what the machine has not is refused with what is missing, and nothing of it is begun."""
import contextlib
import os
import re
import signal
import subprocess

import pytest
from conftest import BUILD_S
from kit.process import wait_until

from adit.exception import RemoteError

PROGRAM = """
from adit import App
app = App("admitted")
@app.function()
def one():
    return 1
@app.function()
def two():
    return 2
@app.function(max_inputs=1)
def single(n):
    return n
@app.function()
def many(n):
    return list(single.map(range(n)))
@app.function(memory=10_000_000)
def large():
    return 0
"""


@pytest.fixture
def admitted(configured, program):
    """An app of its own, so that others' containers do not count."""
    from adit.functions import bundle
    module = bundle.load(program("admitted.py", PROGRAM))
    with module.app.run(show_progress=False):
        yield module


@pytest.fixture
def limits(monkeypatch):
    """limits(NAME=value, ...) sets those of the foreman, which is in this process."""
    from adit.functions.foreman import admission

    def set_them(**given):
        for name, value in given.items():
            monkeypatch.setattr(admission, name, value)
    return set_them


def containers_of(engine, function):
    return [c for c in engine.containers() if c["Labels"].get("adit.function") == function]


def test_what_no_machine_of_this_size_can_run_is_refused_at_once(admitted, engine):
    with pytest.raises(RemoteError,
                       match=r"large: memory: it asks for 10000000 MiB, and the machine has \d+, .* \(ask for less"):
        admitted.large.remote()
    assert not containers_of(engine, "large")


def test_when_memory_is_short_calls_wait_for_a_while_and_are_told(admitted, limits, engine):
    limits(PATIENCE_S=0.3, _available=lambda total: 1100 << 20)
    with pytest.raises(RemoteError,
                       match="one: memory: it asks for 128 MiB, and the machine has 1100 MiB left, of which 1024"):
        admitted.one.remote()
    assert not containers_of(engine, "one")
    limits(_available=lambda total: None)
    assert admitted.one.remote() == 1


def test_what_running_containers_asked_for_is_theirs(admitted, limits):
    assert admitted.one.remote() == 1
    limits(PATIENCE_S=0.0, MEMORY_LEFT_MIB=_all_but(192), _available=lambda total: None)
    with pytest.raises(RemoteError,
                       match=r"two: memory: it asks for 128 MiB, and other containers for \d+ of the machine's"):
        admitted.two.remote()


def _all_but(mib):
    with open("/proc/meminfo") as file:
        return (int(file.readline().split()[1]) >> 10) - mib


def test_a_container_that_has_nothing_to_do_makes_room(admitted, limits, engine):
    limits(CONTAINERS_MAX=1)
    assert [admitted.one.remote(), admitted.two.remote(), admitted.one.remote()] == [1, 2, 1]


def test_an_app_has_so_many_containers_and_no_more(admitted, limits):
    limits(CONTAINERS_MAX=1, PATIENCE_S=0.5)
    with pytest.raises(RemoteError, match="single: containers: its app has 1, as many as one may"):
        admitted.many.remote(1)


def test_what_containers_call_for_is_started_so_often_and_no_more(admitted, limits):
    limits(STARTS_MAX=3, PATIENCE_S=0.5)
    assert list(admitted.single.map(range(6))) == list(range(6))
    with pytest.raises(RemoteError, match="single: containers: 3 were started within a minute"):
        admitted.many.remote(6)
    assert admitted.one.remote() == 1


@contextlib.contextmanager
def mounted(folder, mib):
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=1777", "tmpfs", folder], check=True)
    try:
        yield str(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder, left_mib):
    """Until so much is left."""
    found = os.statvfs(folder)
    with open(os.path.join(folder, "filling"), "wb") as file:
        file.write(bytes((found.f_bavail * found.f_frsize) - (left_mib << 20)))


def test_without_room_for_the_foremans_folder_a_run_is_refused(adit, program, box, nothing_stays):
    file = program("one.py", PROGRAM)
    with mounted(box.file("small"), 32) as folder:
        fill(folder, 8)
        run = adit("run", f"{file}::one", env={"TMPDIR": folder})
        assert run.wait(BUILD_S) == 1
        assert re.search(f"one: disk: {folder}.* has [78] MiB left, and 16 are needed", run.err.text()), run.report()
        nothing_stays()
        os.unlink(os.path.join(folder, "filling"))
        assert adit("run", f"{file}::one", env={"TMPDIR": folder}).wait(BUILD_S) == 0


def test_a_visitor_whom_no_container_can_take_is_told_to_come_again(adit, program, box, url_of, visit, engine):
    file = program("web.py", """
from adit import App, web_endpoint
app = App()
@app.function()
@web_endpoint()
def refusing():
    return "here"
""")
    with mounted(box.file("small"), 32) as folder:
        run = adit("serve", file, env={"TMPDIR": folder, "ADIT_SPARE": "0"})
        url = url_of(run, "refusing")
        assert visit(url).status == 200
        fill(folder, 8)
        [container] = containers_of(engine, "refusing")
        engine.ask("DELETE", f"/containers/{container['Id']}?force=1")
        wait_until(lambda: not containers_of(engine, "refusing"), "it does not go", 20)
        answers = []

        def refused():
            with contextlib.suppress(OSError, ValueError):
                answers.append(visit(url))
                return answers[-1].status == 503
        wait_until(refused, "no visitor is refused", 20)
        assert answers[-1].headers["Retry-After"].isdigit() and b"Try again" in answers[-1].body
        run.err.wait(lambda line: "disk: " in line)
        os.unlink(os.path.join(folder, "filling"))
        assert visit(url).status == 200
        run.kill(signal.SIGINT)
        assert run.wait(60) == 130
