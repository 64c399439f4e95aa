"""What becomes of calls and visitors when a budget is spent."""
import json
import os
import signal

import pytest
from kit.process import wait_until
from kit.roles import Relay
from own_foreman import BUILD_S, Service

APP = """
from adit import App, web_endpoint
app = App("dear")
def burn(seconds):
    import time
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return "burnt"
@app.function(container_idle_timeout=1)
@web_endpoint()
def page():
    return "page"
@app.function(max_inputs=1)
def spend(seconds=0.1):
    return burn(seconds)
@app.function()
def other():
    return "other"
"""


@pytest.fixture
def priced(box, adit, program):
    """A second of a core costs 1. The image is there, as what is made counts, too."""
    built = adit("run", "-q", program("dear.py", APP) + "::other")
    assert built.wait(BUILD_S) == 0, built.report()
    folder = box.file("configuration")
    os.makedirs(os.path.join(folder, "adit"))
    with open(os.path.join(folder, "adit", "prices.toml"), "w") as file:
        file.write("core_hour = 3600\n")
    return {"XDG_CONFIG_HOME": folder, "ADIT_SPARE": "0"}


def test_a_run_that_has_spent_its_budget_gets_no_container_more(adit, box, program, priced):
    file = program("dear.py", APP + """
@app.local_entrypoint()
def main():
    print(spend.remote(3.0))
    while True:
        spend.remote()
""")
    run = adit("run", "--budget", "2", file, env={**priced, "ADIT_STORE": box.file("x.db")})
    assert run.wait(BUILD_S) == 1
    assert run.out.lines[0] == "burnt"
    assert "spend: budget: $" in run.err.text() and "of $2.00 are spent (--budget gives more)" in run.err.text()
    assert "are spent (--budget gives more): no container is started" in run.err.text()


def test_without_prices_a_budget_is_refused(adit, box, program):
    for words in (("run", "--budget", "2", program("dear.py", APP) + "::spend"), ("foreman", "--budget", "2/day")):
        done = adit(*words, env={"XDG_CONFIG_HOME": box.file("none"), "XDG_RUNTIME_DIR": box.file("run")})
        assert done.wait(60) == 1
        assert "adit: --budget: there are no prices (write them into " in done.err.text()


class Limited(Service):
    def start(self):
        super().start("--budget", "9/month")     # of which each start may cost 1 and more, on a busy machine


@pytest.fixture
def service(adit, box, engine, priced):
    service = Limited(lambda *words, env: adit(*words, env={**priced, **env}), box, Relay(box), engine)
    yield service
    service.done("app", "stop", "dear")
    service.program.stop()
    service.nothing_stays()


def test_visitors_and_callers_are_told_when_the_foremans_budget_is_spent(service, program, visit):
    url = service.deploy(program("dear.py", APP))["page"]
    assert json.loads(visit(url, trust=service.relay.authority).body) == "page"
    spent = service.python("from adit import Function\nprint(Function.from_name('dear', 'spend').remote(9.0))")
    assert spent.wait(120) == 0, spent.report()

    def turned_away():
        # What a container has spent counts a moment after its end, and one that has visitors all the time never ends.
        wait_until(lambda: service.apps()["dear"]["containers"] == 0, "its containers stay", 60)
        return visit(url, trust=service.relay.authority).status == 503

    wait_until(turned_away, "visitors get in", 60)
    refused = visit(url, trust=service.relay.authority)
    assert refused.status == 503 and int(refused.headers["Retry-After"]) > 5
    called = service.python("from adit import Function\nFunction.from_name('dear', 'other').remote()")
    assert called.wait(60) == 1
    said = called.err.text()
    assert "other: budget: $" in said and "of $9.00 a month are spent (try again from " in said
    service.end(signal.SIGKILL)
    service.start()
    assert visit(url, trust=service.relay.authority).status == 503, "a new foreman has not forgotten"
