"""Functions that run by themselves, once they are deployed."""
import json
import os
import signal

import pytest
from conftest import ROOT, START_S
from kit.process import wait_until

TICKS = """
from adit import App, Period
app = App("ticks")
@app.function(schedule=Period(seconds=SECONDS))
def tick(who="nobody"):
    print("tick for", who, flush=True)
@app.function(schedule=Period(seconds=1))
def fail():
    raise ValueError("as ever")
"""


def text_of(seconds):
    return TICKS.replace("SECONDS", str(seconds))


def ticks(service):
    return service.done("app", "logs", "ticks").out.text().count("tick for nobody")


def test_a_deployed_function_runs_when_its_schedule_says_so(service, program):
    file = program("ticks.py", text_of(2))
    deployed = service.done("deploy", file)
    assert [line.split()[:4] for line in deployed.out.lines] == [["tick", "runs", "next", "at"],
                                                                 ["fail", "runs", "next", "at"]]
    wait_until(lambda: ticks(service) >= 2, "it does not run", START_S)
    logs = service.done("app", "logs", "ticks")
    assert "ValueError: as ever" in logs.err.text() and 'raise ValueError("as ever")' in logs.err.text()
    [line] = [line for line in service.done("app", "list").out.lines if line.startswith("ticks: tick ")]
    assert line.startswith("ticks: tick runs next at 20") and line.endswith(", by Period(seconds=2)")
    by_hand = service.done("run", f"{file}::tick", "--who", "me")
    assert "tick for me" in by_hand.out.lines
    service.done("app", "stop", "ticks")
    service.nothing_stays()


def test_what_was_missed_while_there_was_no_foreman_is_made_up_for_once(service, program):
    file = program("ticks.py", text_of(4))
    service.done("deploy", file)
    before = service.apps()["ticks"]["schedules"]["tick"]["next"]
    service.program.kill(signal.SIGKILL)
    service.program.wait(60)
    service.start()
    after = service.apps()["ticks"]["schedules"]["tick"]["next"]
    assert after >= before and (after - before) % 4 == 0, "it is begun anew"
    wait_until(lambda: ticks(service) >= 1, "it does not run", START_S)
    program("ticks.py", text_of(86_400))
    service.done("deploy", file)
    assert service.apps()["ticks"]["schedules"]["tick"]["next"] > after + 80_000


@pytest.mark.parametrize("by_hand", ["run", "deploy"])
def test_the_nightly_job_of_the_examples(service, by_hand):
    file = os.path.join(ROOT, "examples", "functions", "nightly.py")
    if by_hand == "run":
        done = service.done("run", "-q", file)
        assert len(done.out.lines) == 1 and done.out.lines[0].endswith(" lines")
    else:
        [line] = service.done("deploy", file).out.lines
        assert line.startswith("report runs next at ")
        assert line.endswith(", by Cron('0 2 * * *', timezone='Europe/Berlin')")
        assert json.loads(service.done("app", "list", "--json").out.text())[0]["schedules"]["report"]["next"] > 0
