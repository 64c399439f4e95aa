"""A foreman that ends and comes back, whatever ended it: containers, calls, queues and dicts go on."""
import json
import signal

import pytest
from kit.process import wait_until

ENDS = pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])

APP = """
import os, time
from adit import App, Dict, Queue, Retries, web_endpoint
app = App("shop")
me = os.environ.get("ADIT_CONTAINER")
def go():
    return Queue.from_name("go", create_if_missing=True)
@app.function(container_idle_timeout=300)
def hold(n):
    print("holding", n, flush=True)
    return n, me, go().get()
@app.function(concurrency_limit=1, timeout=TIMEOUT)
def one(n):
    print("holding", n, flush=True)
    return n, me, go().get()
@app.function(retries=1)
def again(n):
    print("holding", n, flush=True)
    return n, me, go().get()
@app.function()
def count(n):
    for i in range(n):
        yield i
        if i == 1:
            print("half", flush=True)
            yield go().get()
@app.function()
@web_endpoint()
def page():
    return {"container": me}
@app.function()
def double(x):
    if x == 5:
        print("half", flush=True)
        go().get()
    return 2 * x
@app.function()
def nap(n):
    print("napping", n, flush=True)
    time.sleep(6)
    print("woke", n, flush=True)
    return n
@app.function()
def outer(n):
    return hold.remote(n), double.remote(n)
@app.function()
def burn():
    print("burning", flush=True)
    began, end = time.process_time(), time.monotonic() + 4
    while time.monotonic() < end:
        pass
    print("burnt", flush=True)
    return time.process_time() - began
"""
USES = """
from adit import Dict, Function, FunctionCall, Queue
go = Queue.from_name("go", create_if_missing=True)
def f(name): return Function.lookup("shop", name)
"""


class Restarts:
    """A service with the app above, and what is done with it."""

    def __init__(self, service, program):
        self.service = service
        self.urls = service.deploy(program("shop.py", APP.replace("TIMEOUT", "300")))
        self.logs = service.adit("app", "logs", "-f", "shop")

    def said(self, line):
        self.logs.out.wait(lambda there: line in there, 60)

    def begin(self, text):
        """A program of somebody's that goes on."""
        return self.service.python(USES + text)

    def do(self, text):
        """What one prints."""
        done = self.begin(text)
        assert done.wait(60) == 0, done.report()
        return done.out.text()

    def spawn(self, function, *args):
        return self.do(f"print(f({function!r}).spawn(*{args!r}).object_id)")

    def result(self, call):
        return self.do(f"print(FunctionCall.from_id({call!r}).get())")

    def restart(self, end=signal.SIGKILL, meanwhile=lambda: None):
        self.service.end(end)
        meanwhile()
        self.service.start()


@pytest.fixture
def shop(service, program):
    return Restarts(service, program)


@ENDS
def test_a_call_goes_on_in_its_container_and_its_result_is_fetched(shop, end):
    call = shop.spawn("hold", 1)
    shop.said("holding 1")
    before = shop.service.container("hold")
    shop.restart(end)
    assert shop.service.apps()["shop"]["calls"] == 1
    shop.do("go.put('x')")
    said = shop.result(call)
    assert said.startswith("(1, ") and shop.service.container("hold") == before
    shop.restart(end)
    assert shop.result(call) == said
    assert float(shop.do(f"print(FunctionCall.from_id({call!r}).usage.seconds)")) > 0
    shop.do("go.put('y')")
    assert shop.do("print(f('hold').remote(2)[1])") in said, "the container does not have the next call"


@ENDS
def test_logs_are_followed_from_one_foreman_to_the_next_until_the_app_is_stopped(shop, end):
    for n in (1, 2):
        call = shop.spawn("hold", n)
        shop.said(f"holding {n}")
        shop.restart(end)
        shop.do("go.put('x')")
        shop.result(call)
    shop.service.done("app", "stop", "shop")
    assert shop.logs.wait(60) == 0, shop.logs.report()
    assert shop.logs.out.lines == ["holding 1", "holding 2"]


def test_who_follows_logs_and_who_deploys_hear_when_no_foreman_comes_back(shop, program):
    slow = "from adit import is_local\nif not is_local():\n    print('slow', flush=True)\n    time.sleep(60)\n"
    deploying = shop.service.adit("deploy", program("shop.py", APP.replace("TIMEOUT", "300") + slow))
    shop.said("slow")
    shop.service.end()
    assert deploying.wait(60) == shop.logs.wait(60) == 1
    assert "adit: deploy shop: foreman: it has ended" in deploying.err.lines[-1]
    assert "Traceback" not in deploying.err.text()
    assert shop.logs.err.text().startswith("adit: foreman: it has ended") and len(shop.logs.err.lines) == 1
    shop.service.start()


def test_what_a_foreman_serves_ends_with_it_and_that_is_said(service, program, url_of):
    file = program("served.py", APP.replace("TIMEOUT", "300"))
    serving = service._adit("serve", file, env={**service.env, "ADIT_FOREMAN": service.socket})
    url_of(serving, "page")
    service.end()
    assert serving.wait(60) == 1
    assert "the foreman that served it has ended" in serving.err.lines[-1] and "Traceback" not in serving.err.text()
    service.start()


def test_whoever_waits_hears_of_it_from_the_next_foreman(shop):
    waiting = shop.begin("print(f('hold').remote(1)[::2])")
    inside = shop.begin("print(f('outer').remote(3))")
    shop.said("holding 1")
    shop.said("holding 3")
    shop.restart()
    shop.do("go.put_many(['x', 'x'])")
    assert waiting.wait(60) == 0, waiting.report()
    assert waiting.out.text() == "(1, 'x')"
    assert inside.wait(60) == 0, inside.report()
    assert inside.out.text().endswith("'x'), 6)")


def test_what_ends_while_there_is_no_foreman_counts_once_and_is_metered(shop):
    call = shop.spawn("burn")
    shop.said("burning")
    shop.service.end()
    container = shop.service.container("burn")
    logs = f"/containers/{container}/logs?stdout=1&stderr=1"
    wait_until(lambda: b"burnt" in shop.service.engine.ask("GET", logs), "it does not end", 60)
    shop.service.start()
    burnt = float(shop.result(call))
    used = float(shop.do(f"print(FunctionCall.from_id({call!r}).usage.core_hours * 3600)"))
    assert 0 < burnt <= used < burnt + 1
    lines = shop.service.done("app", "logs", "shop").out.lines
    assert (lines.count("burning"), lines.count("burnt")) == (1, 1)


def test_all_that_end_while_there_is_no_foreman_count_once_however_many_wait(shop):
    text = "print(*[f('nap').spawn(n).object_id for n in range(4)])"
    calls = shop.do(f"for n in range(300):\n    f('one').spawn(n)\n{text}").split()
    for n in range(4):
        shop.said(f"napping {n}")
    shop.service.end()
    logs = [f"/containers/{c['Id']}/logs?stdout=1&stderr=1" for c in shop.service.containers()
            if "/adit-nap-" in c["Names"][0]]
    wait_until(lambda: all(b"woke" in shop.service.engine.ask("GET", log) for log in logs), "they do not end", 60)
    shop.service.start()
    assert [shop.result(call) for call in calls] == ["0", "1", "2", "3"]
    lines = shop.service.done("app", "logs", "shop").out.lines
    assert [sum(line.endswith(f"napping {n}") for line in lines) for n in range(4)] == [1] * 4


def test_calls_that_wait_are_begun_later_each_once(shop):
    calls = [shop.spawn("one", n) for n in range(3)]
    shop.said("holding 0")
    shop.restart()
    shop.do("go.put_many([1, 2, 3])")
    assert [shop.result(call).split(",")[0] for call in calls] == ["(0", "(1", "(2"]
    logs = shop.service.done("app", "logs", "shop").out.lines
    assert [logs.count(f"holding {n}") for n in range(3)] == [1, 1, 1]


def test_a_call_whose_container_is_gone_meanwhile_fails_or_is_tried_again(shop):
    lost, kept = shop.spawn("hold", 1), shop.spawn("again", 2)
    shop.said("holding 1")
    shop.said("holding 2")

    def remove():
        for container in map(shop.service.container, ("hold", "again")):
            shop.service.engine.ask("POST", f"/containers/{container}/kill")

    shop.restart(meanwhile=remove)
    failed = shop.begin(f"FunctionCall.from_id({lost!r}).get()")
    assert failed.wait(60) == 1
    assert "ExecutionError: hold: its container is gone since the foreman was restarted" in failed.err.text()
    shop.do("go.put('x')")
    assert shop.result(kept).startswith("(2, ")
    assert shop.service.done("app", "logs", "shop").out.lines.count("holding 1") == 1


def test_items_and_entries_stay_and_are_neither_lost_nor_doubled(shop):
    shop.do("""
go.put_many([1, 2, 3]); go.put(4, partition="p"); assert go.get() == 1
d = Dict.from_name("d", create_if_missing=True); d["a"], d["b"] = 1, 2; d.pop("a")
""")
    taking = shop.begin("""
q = Queue.from_name("steps", create_if_missing=True)
with Queue.ephemeral() as mine:
    for n in range(300):
        q.put(n); mine.put(n); print(n, flush=True)
        assert (q.get(), mine.get()) == (n, n)
    assert q.len() == mine.len() == 0
""")
    for n, end in ((50, signal.SIGTERM), (100, signal.SIGKILL), (150, signal.SIGKILL)):
        taking.out.wait(lambda line, n=n: int(line) >= n, 60)
        shop.restart(end)
    assert taking.wait(100) == 0, taking.report()
    assert shop.do("print(go.get_many(9), go.get(partition='p'), go.len(total=True))") == "[2, 3] 4 0"
    assert shop.do("print(dict(Dict.from_name('d').items()))") == "{'b': 2}"


def test_a_map_and_a_generator_go_on(shop):
    mapping = shop.begin("print(list(f('double').map(range(12))))")
    counting = shop.begin("print(list(f('count').remote_gen(4)))")
    shop.logs.out.wait_until(lambda lines: sum("half" in line for line in lines) == 2, "they do not get there", 60)
    shop.restart()
    shop.do("go.put_many(['x', 'x'])")
    assert mapping.wait(60) == 0, mapping.report()
    assert json.loads(mapping.out.text()) == [2 * n for n in range(12)]
    assert counting.wait(60) == 0, counting.report()
    assert counting.out.text() == "[0, 1, 'x', 2, 3]"


def test_the_containers_of_an_endpoint_stay_warm_at_its_url(shop, page):
    before = page(shop.service, shop.urls["page"])
    shop.restart()
    assert page(shop.service, shop.urls["page"]) == before


def test_a_detached_run_goes_on(service, program):
    shop = Restarts(service, program)
    done = service.done("run", "--detach", f"{program('shop.py', APP.replace('TIMEOUT', '300'))}::hold", "--n", "7")
    identity = next(line for line in done.err.lines if "It goes on as" in line).split()[5]
    service.adit("app", "logs", "-f", identity).out.wait(lambda line: "holding 7" in line, 60)
    shop.restart()
    logs = service.adit("app", "logs", "-f", identity)
    shop.do("go.put('x')")
    assert logs.wait(60) == 0
    assert logs.out.lines == ["holding 7"]


def test_a_timeout_counts_on(service, program):
    shop = Restarts(service, program)
    service.deploy(program("shop.py", APP.replace("TIMEOUT", "8")))
    call = shop.spawn("one", 1)
    shop.said("holding 1")
    shop.restart()
    failed = shop.begin(f"FunctionCall.from_id({call!r}).get()")
    assert failed.wait(60) == 1
    assert "FunctionTimeoutError: one: it took longer than 8 s" in failed.err.text()
