"""What test_calls.py and its like call."""
import asyncio
import os
import sys
import threading
import time

from adit import App, Dict, Queue, Retries, Secret, current_function_call_id, is_local

app = App("calls")


class Wrong(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = code

    def __reduce__(self):
        return Wrong, (self.code,)


@app.function()
def double(n, plus=0):
    return n * 2 + plus


@app.function()
def echo(value):
    return value


@app.function(concurrency_limit=3)
def square(n):
    return n * n


@app.function()
def add(a, b):
    return a + b


@app.function()
def fail(code):
    raise Wrong(code)


@app.function()
def unsendable():
    return threading.Lock()


@app.function()
def leave(status):
    os._exit(status)


@app.function(memory=(64, 96))
def eat():
    return len(b"x" * (1 << 30))


@app.function(memory=(64, 128))
def parent_of_eater():
    import subprocess
    return subprocess.run([sys.executable, "-c", "x = b'x' * (1 << 30)"], check=False).returncode


@app.function(timeout=1)
def sleep(seconds):
    time.sleep(seconds)
    return "awake"


@app.function()
def wait_for(q):
    return q.get()


barrier = threading.Barrier(3)


@app.function(allow_concurrent_inputs=3, concurrency_limit=1)
def together(n):
    barrier.wait()
    return os.environ["ADIT_CONTAINER"], current_function_call_id(), n


@app.function(allow_concurrent_inputs=3, concurrency_limit=1, timeout=60)
async def together_in_a_loop(q, first, wait):
    q.put("here")
    if wait:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            q.put("cancelled")
            raise
    return os.environ["ADIT_CONTAINER"], id(asyncio.get_running_loop()), current_function_call_id()


@app.function(allow_concurrent_inputs=2, concurrency_limit=1, timeout=1)
def slow_beside(q, go):
    q.put(os.environ["ADIT_CONTAINER"])
    return go.get() if go is not None else "quick"


@app.function(retries=Retries(max_retries=1, initial_delay=0.0))
def leave_once(q):
    q.put("try")
    if q.len() == 1:
        os._exit(1)
    return "second try"


@app.function(allow_concurrent_inputs=2)
def leave_beside(status):
    sys.exit(status)


@app.function(allow_concurrent_inputs=2)
async def count_in_a_loop(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


@app.function(max_inputs=1, concurrency_limit=3)
def once(n):
    return os.environ["ADIT_CONTAINER"]


@app.function(max_inputs=2, allow_concurrent_inputs=2, concurrency_limit=2)
def twice(n):
    return os.environ["ADIT_CONTAINER"]


@app.function(concurrency_limit=3)
def large(n):
    return "x" * 100_000


@app.function(concurrency_limit=3)
def wait_if_odd(n, q):
    return n % 2 and q.get()


@app.function()
def use_dict(d, key):
    d[key] = d[key] + 1
    return sorted(d.keys()), d.pop("gone", None)


@app.function()
def make_dict():
    with Dict.ephemeral({"a": 1}) as d:
        return dict(d.items()), d.object_id


@app.function()
def meet(own, other):
    own.put(os.environ["ADIT_CONTAINER"])
    return other.get()


@app.function()
def count(n):
    for i in range(n):
        yield i


@app.function()
def flood(size):
    while True:
        yield bytes(size)


@app.function()
async def later(n):
    return n + 1


@app.function(retries=Retries(max_retries=2, initial_delay=0.0))
def third_time(q):
    q.put("try")
    if q.len() < 3:
        raise Wrong(q.len())
    return q.len()


@app.function()
def nested(n):
    return double.remote(n) + 1


@app.function()
def with_queue():
    with Queue.ephemeral() as q:
        call = wait_for.spawn(q)
        q.put("through")
        return call.get()


@app.function()
def where():
    return is_local(), current_function_call_id()


@app.function()
def run_code(text):
    names = {}
    exec(text, names)
    return names.get("result")


@app.function(secrets=[Secret.from_dict({"OWN": "its own secret"}), Secret.from_local_environ(["LANG"])])
def secret():
    return os.environ["OWN"], os.environ["LANG"]


if __name__ == "__main__":
    sys.exit("run me with adit")
