"""Calls of functions in Pods."""

import pytest

from conftest import BUILD_S
from adit import Queue
from adit.exception import ExecutionError, FunctionTimeoutError

SUMS = """
from adit import App
app = App()
@app.function()
def add(a: int, b: int):
    print("adding")
    return a + b
"""


def test_a_call_runs_in_a_pod_and_leaves_nothing_behind(adit, program, nothing_stays):
    run = adit("run", "-q", f"{program('sums.py', SUMS)}::add", "--a", "2", "--b", "3")
    assert run.wait(BUILD_S) == 0, run.report()
    assert sorted(run.out.lines) == ["5", "adding"]
    nothing_stays()


def test_arguments_results_and_exceptions_cross_as_with_containers(calls):
    assert calls.double.remote(4, plus=1) == 9
    assert list(calls.square.map(range(8))) == [n * n for n in range(8)]
    assert list(calls.count.remote_gen(3)) == [0, 1, 2]
    with pytest.raises(calls.Wrong, match="code 7"):
        calls.fail.remote(7)


def test_calls_of_calls_and_queues_go_through_the_gate(calls):
    assert calls.nested.remote(3) == 7
    with Queue.ephemeral() as q:
        call = calls.wait_for.spawn(q)
        q.put("through")
        assert call.get(timeout=60) == "through"


def test_large_values_cross(calls):
    value = bytes(8 << 20)
    assert calls.echo.remote(value) == value


def test_a_pod_that_dies_is_told_with_its_reason(calls):
    with pytest.raises(ExecutionError, match=r"eat: out of memory \(limit 96 MiB\)"):
        calls.eat.remote()
    with pytest.raises(ExecutionError, match="leave: its container ended with status 3"):
        calls.leave.remote(3)


def test_a_call_that_takes_too_long_is_killed(calls):
    with pytest.raises(FunctionTimeoutError, match="sleep: it took longer than 1 s"):
        calls.sleep.remote(100)
