"""As with Docker on podman's service: the commands, a web endpoint, tunnels, and how containers end. Calls are
tested on both (test_calls.py)."""
import signal

import pytest

from conftest import BUILD_S


@pytest.fixture
def on_podman(adit, podman):
    return lambda *words: adit(*words, env={"DOCKER_HOST": podman.host})


PROGRAM = """
import os, sys
from adit import App, Queue, web_endpoint

app = App()

@app.function()
def double(x):
    print("doubling", x, flush=True)
    return 2 * x

@app.function()
def tell(q):
    q.put(os.getuid())

@app.function()
def leave():
    os._exit(3)

@app.function()
@web_endpoint()
def hello():
    return "hello"

@app.local_entrypoint()
def main():
    print("doubled", double.remote(21), list(double.map(range(3))))
    with Queue.ephemeral() as q:
        tell.spawn(q)
        print("user", q.get(timeout=60) >= 20000)
    try:
        leave.remote()
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_calls_queues_and_ends_are_as_with_docker(on_podman, program, podman):
    run = on_podman("run", program("core.py", PROGRAM))
    assert run.wait(BUILD_S) == 0, run.report()
    said = run.out.text().splitlines()
    assert "doubling 21" in said and "doubled 42 [0, 2, 4]" in said and "user True" in said
    assert any(line.startswith("ExecutionError") and "status 3" in line for line in said), said
    assert not podman.containers()


def test_ctrl_c_leaves_nothing(on_podman, podman):
    run = on_podman("run", "ends.py::watch", "--visits", "1")
    run.out.wait(lambda line: line.startswith("https://"), BUILD_S)
    run.kill(signal.SIGINT)
    assert run.wait() == 130
    assert not podman.containers()


def test_a_web_endpoint_is_served(on_podman, program, visit, url_of, podman):
    served = on_podman("serve", program("web.py", PROGRAM))
    answer = visit(url_of(served, "hello"))
    assert (answer.status, answer.body) == (200, b'"hello"')
    served.kill(signal.SIGINT)
    assert served.wait(60) == 130
    assert not podman.containers()
