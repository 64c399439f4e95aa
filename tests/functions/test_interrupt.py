"""Ctrl-C at a terminal: once, and twice."""
import json
import re

import pytest
from conftest import BUILD_S
from test_shell import ends_with

CLEANS = """
import time
from adit import App
app = App("cleans")
@app.function()
def f():
    try:
        print("up", flush=True)
        time.sleep(600)
    finally:
        time.sleep(1)
        print("cleaned", flush=True)
"""
STUBBORN = """
import signal, threading, time
from adit import App
app = App("stubborn")
@app.function()
def f():
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(time.monotonic()))
    print("up", flush=True)
    while True:
        time.sleep(0.1)
        if heard:
            print(f"no {time.monotonic() - heard[0]:.1f}", flush=True)
"""


def test_at_the_first_a_function_may_clean_up_and_all_is_told_removed_and_metered(terminal, adit, program, box,
                                                                                  nothing_stays):
    store = box.file("x.db")
    run = terminal("run", program("cleans.py", CLEANS), env={"ADIT_STORE": store})
    run.expect("up\r\n", BUILD_S)
    run.sendintr()
    run.expect("Stopping\\.\\.\\.")
    run.expect("cleaned\r\n")
    run.expect(r"Ended after \S+ \S+ .* core-hours")
    assert ends_with(run, 130)
    nothing_stays(0.1)
    usage = adit("usage", "--by", "function", "--json", env={"ADIT_STORE": store})
    assert usage.wait(60) == 0
    [row] = [row for row in json.loads(usage.out.text())["rows"] if row["function"] == "f"]
    assert row["sampled"] == 0 and row["seconds"] > 1


def test_at_the_second_what_does_not_end_is_ended_at_once(terminal, program, nothing_stays):
    run = terminal("run", program("stubborn.py", STUBBORN), env={"ADIT_SPARE": "0"})
    run.expect("up\r\n", BUILD_S)
    run.sendintr()
    run.expect("no 0")
    run.sendintr()
    run.expect(r"Ended after \S+ \S+ .* core-hours")
    assert max(map(float, re.findall(r"no (\d+\.\d)", run.before)), default=0.0) < 4.5, "it has had its five seconds"
    assert ends_with(run, 130)
    nothing_stays(0.1)


def test_a_function_that_does_not_end_has_five_seconds(terminal, program, nothing_stays):
    run = terminal("run", program("stubborn.py", STUBBORN), env={"ADIT_SPARE": "0"})
    run.expect("up\r\n", BUILD_S)
    run.sendintr()
    run.expect(r"no 4\.[5-9]")
    run.expect("Ended after")
    assert ends_with(run, 130)
    nothing_stays(0.1)


def test_what_is_served_is_told_likewise(terminal, program, nothing_stays):
    serve = terminal("serve", program("page.py",
                                      "from adit import App, web_endpoint\napp = App()\n@app.function()\n"
                                      "@web_endpoint()\n"
                                      "def page():\n    return 1\n"))
    serve.expect("page => GET https://", BUILD_S)
    serve.sendintr()
    serve.expect("Stopping\\.\\.\\.")
    serve.expect("Done in")
    assert ends_with(serve, 130)
    nothing_stays(0.1)


@pytest.mark.parametrize("words", [(), ("-q",)])
def test_without_a_terminal_it_is_a_line_unless_all_is_to_be_quiet(adit, program, words):
    run = adit("run", *words, program("cleans.py", CLEANS))
    run.out.wait(lambda line: line == "up", BUILD_S)
    run.kill(2)
    assert run.wait(60) == 130
    assert ("Stopping..." in run.err.lines) == (not words)
