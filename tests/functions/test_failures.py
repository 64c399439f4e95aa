"""What happens when something fails: docs/functions.md, "When something fails"."""
import os
import signal
import subprocess

import pytest
from conftest import BUILD_S
from own_engine import OwnEngine, image_of

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
