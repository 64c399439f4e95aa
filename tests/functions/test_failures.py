"""What happens when something fails: docs/functions.md, "When something fails"."""
import contextlib
import signal
import subprocess

import pytest
from conftest import BUILD_S
from kit.process import wait_until
from kit.roles import Relay
from own_engine import OwnEngine, image_of

from adit.exception import ExecutionError, InvalidError

TALK = """
import sys, time
from adit import App, Queue
app = App()
@app.function()
def hold(q):
    q.put("up")
    time.sleep(3600)
@app.function()
def double(n):
    return 2 * n
def tried(what, *arguments):
    began = time.monotonic()
    try:
        said = what(*arguments)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(said, flush=True)
@app.local_entrypoint()
def main():
    with Queue.ephemeral() as q:
        call = hold.spawn(q)
        q.get()
        print("holds", flush=True)
        tried(call.get)
        for line in sys.stdin:
            tried(double.remote, int(line))
"""


@pytest.fixture(scope="module")
def breakable(engine, calls):
    made = OwnEngine()
    made.start()
    made.take_images(engine, image_of(engine, calls))
    yield made
    made.close()


@pytest.fixture
def own(breakable):
    """An engine that a test may stop."""
    if not breakable.is_up():
        breakable.start()
    return breakable


def say(run, text):
    run.popen.stdin.write(text.encode() + b"\n")
    run.popen.stdin.flush()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_calls_of_an_engine_that_is_gone_fail_with_that_and_new_ones_run_when_it_is_back(adit, program, own, how):
    run = adit("run", "-q", program("talk.py", TALK), env={"DOCKER_HOST": own.host}, stdin=subprocess.PIPE)
    run.out.wait(lambda line: line == "holds", BUILD_S)
    getattr(own, how)()
    said = run.out.wait(lambda line: line.startswith("ExecutionError: hold: its container "), 30)
    assert "engine" in said
    say(run, "1")
    assert "is it running" in run.out.wait(lambda line: line.startswith("RemoteError: engine "), 30)
    own.start()
    say(run, "2")
    run.out.wait(lambda line: line == "4", 60)
    run.kill(signal.SIGINT)
    assert run.wait() == 130
    assert not own.containers()


def test_a_runtime_that_the_engine_has_not_is_told_with_those_that_it_has(adit, program):
    run = adit("run", program("talk.py", TALK), env={"ADIT_RUNTIME": "runsk"})
    assert run.wait(60) == 1
    assert "ADIT_RUNTIME: the engine has no runtime runsk (it has " in run.err.text(), run.report()
    assert "runc" in run.err.text(), run.report()


def test_a_caller_of_another_version_is_refused_with_both_and_what_to_do(calls, monkeypatch):
    from adit import __version__
    from adit.functions import remote
    monkeypatch.setitem(remote._HEADERS, "Adit-Version", "0.0.1")
    with pytest.raises(InvalidError,
                       match=rf"it is of adit {__version__}, and its caller of 0.0.1 .pip install adit=={__version__}"):
        calls.double.remote(1)


def test_a_container_of_another_version_is_ended_with_both(calls):
    with pytest.raises(ExecutionError,
                       match="run_code: container: it is of adit 0.0.1, and its foreman of .* .adit deploy"):
        calls.run_code.remote("from adit.functions import remote, session\n"
                              "remote._HEADERS['Adit-Version'] = '0.0.1'\n"
                              "session.channel().ask('queue_create', {})")


def test_a_child_that_is_killed_for_memory_is_no_failure_of_its_function(calls):
    assert calls.parent_of_eater.remote() != 0


def test_jumps_of_the_clock_change_nothing(calls, monkeypatch):
    import queue
    import time

    from adit import Queue
    real = time.time
    with Queue.ephemeral() as q:
        call = calls.wait_for.spawn(q)
        for jump in (86_400 * 365, -86_400 * 365):
            monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
            assert calls.double.remote(2) == 4
            began = time.monotonic()
            with pytest.raises(queue.Empty):
                q.get(timeout=0.2, partition="none")
            assert time.monotonic() - began < 10
        q.put("at last", partition_ttl=60)
        assert call.get() == "at last"


def test_a_relay_that_was_away_has_the_tunnels_again_and_calls_went_on(adit, box, program, visit, url_of):
    relay = Relay(box)
    run = adit("serve", "web.py", env={"ADIT_TOKEN": relay.token()})
    url = url_of(run, "hello")
    assert visit(url, trust=relay.authority).status == 200
    relay.process.kill()
    relay.process.wait()
    relay.restart()

    def is_back():
        with contextlib.suppress(OSError):
            return visit(url, trust=relay.authority).status == 200
    wait_until(is_back, "the tunnel does not come back", 60)
    assert run.running
