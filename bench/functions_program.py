"""What bench/functions.py calls: functions that do nothing, so that what is left is ours, and a hub."""

import time

BEGAN = time.monotonic_ns()  # by the clock that all processes of a machine have

import subprocess  # noqa: E402
import sys  # noqa: E402

from fastapi import Response  # noqa: E402

from adit import App, Queue, forward, web_endpoint  # noqa: E402

IMPORTED = time.monotonic_ns()
app = App("bench")
LOADED = "import fastapi, adit.functions.runner, adit.functions.web, adit._forward"
FRESH = """
import time
began = time.monotonic_ns()
import functions_program as program
from adit.functions import remote, runner, session
runner.Way(remote.Channel(session.CONTAINER_SOCKET))
program.notebook_url()
print(time.monotonic_ns() - began)
"""


@app.function()
def warm(x):
    return x


@app.function(max_inputs=1)
def single(x):
    return x


@app.function(concurrency_limit=50, allow_concurrent_inputs=4, memory=32)
def wide(x, there, go):
    there.put(x)
    return go.get()


def notebook_url():
    """The notebook's part of the hub, but for the notebook."""
    with forward(8888) as tunnel:
        return tunnel.url


@app.function(max_inputs=1)
def notebook(q):
    entered = time.monotonic_ns()
    url = notebook_url()
    q.put((url, [BEGAN, IMPORTED, entered, time.monotonic_ns()]))


@app.function()
@web_endpoint(method="POST")
def hub():
    reached = [time.monotonic_ns()]
    with Queue.ephemeral() as q:
        reached.append(time.monotonic_ns())
        notebook.spawn(q)
        reached.append(time.monotonic_ns())
        url, there = q.get()
        reached += [*there, time.monotonic_ns()]
        return Response(status_code=303, headers={"Location": url, "X-Reached-Ns": ",".join(map(str, reached))})


@app.function()
def by_hand(before=""):
    """How many nanoseconds a Python in this image needs to import the program and get a URL: a fresh one, or one that
    has done something ``before``."""
    ran = subprocess.run(
        [sys.executable, "-c", f"{before}\n{FRESH}"],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": "/home/adit/code"},
    )
    return int(ran.stdout)
