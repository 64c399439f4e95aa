"""A foreman that ends and comes back, whatever ended it: containers, calls, queues and dicts go on."""
import signal

import pytest

APP = """
import os, time
from adit import App, Queue
app = App("shop")
@app.function()
def hold(n):
    print("holding", n, flush=True)
    return n, os.environ["ADIT_CONTAINER"], Queue.from_name("go", create_if_missing=True).get()
@app.function()
def nap(path, seconds):
    print("napping", flush=True)
    time.sleep(seconds)
    return os.environ["ADIT_CONTAINER"]
"""


def spawned(service, function, *args):
    """The id of a call."""
    done = service.python(f"from adit import Function\nprint(Function.lookup('shop', {function!r}).spawn(*{args!r}).object_id)")
    assert done.wait(60) == 0, done.report()
    return done.out.text()


def result(service, call):
    done = service.python(f"from adit import FunctionCall\nprint(FunctionCall.from_id({call!r}).get())")
    assert done.wait(60) == 0, done.report()
    return done.out.text()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_call_goes_on_in_its_container_and_its_result_is_fetched(service, program, end):
    service.deploy(program("shop.py", APP))
    call = spawned(service, "nap", "", 5)
    service.adit("app", "logs", "-f", "shop").out.wait(lambda line: "napping" in line, 60)
    before = service.container("nap")
    service.end(end)
    service.start()
    said = result(service, call)
    assert before == service.container("nap")
    service.end(end)
    service.start()
    assert result(service, call) == said
