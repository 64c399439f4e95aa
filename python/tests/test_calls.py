"""Calls and what came of them, without a container."""

import json
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from adit import App, Retries, method
from adit.exception import ExecutionError, FunctionTimeoutError, InvalidError
from adit.functions import cli, deploying, runner, session, wire
from adit.functions.foreman.budget import Budget
from adit.functions.foreman.calls import CALL_COST, Call


class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def values():
    yield 1


class Model:
    @method()
    def values(self):
        yield 1


def test_text_is_cut_to_what_it_takes_in_a_head():
    for text in ("x" * 10_000, "😀" * 10_000, "\n\0" * 5_000, "x" * 5_000 + "😀" * 5_000):
        for last in (False, True):
            cut = wire.clip(text, 1000, last=last)
            assert 100 < len(json.dumps(cut)) <= 1000 and (text.endswith if last else text.startswith)(cut)
    assert wire.clip("short", 1000) == "short" and wire.clip("x", 0) == ""


@pytest.mark.parametrize("error", [ValueError("😀" * 200_000), Odd()])
def test_eight_outcomes_fit_into_a_head_whatever_is_raised(error):
    outcome, _ = runner._raised(error)
    assert outcome["status"] == "raised" and outcome["message"]
    wire.unpack(wire.pack({"outcomes": [["fc-", outcome]] * 8}))
    said = wire.clip_outcome({**outcome, "message": "\0" * 500_000, "more": "x" * 500_000})
    wire.unpack(wire.pack({"outcomes": [["fc-", said]] * 8}))


def test_values_that_were_read_are_given_back():
    budget = Budget("inputs", 1 << 20)
    call = Call("app", "f", b"", budget, inside=False, trusted=True)
    for n in range(2000):  # more than fit at once
        call.give(b"%d" % n, budget)
        assert call.pieces_beyond(n) == [b"%d" % n]
    assert call.pieces_beyond(2000) == [] and budget._taken == CALL_COST
    with pytest.raises(InvalidError, match="2000 values have been read"):
        call.pieces_beyond(0)
    call.give(b"last", budget)
    call.settle({"status": "ok"})
    assert budget._taken == 0 and call.pieces_beyond(2000) == [b"last"] and call.pieces_beyond(2001) == []
    assert budget._taken == 0


def test_a_functions_timeout_is_a_timeout():
    assert issubclass(FunctionTimeoutError, TimeoutError) and issubclass(FunctionTimeoutError, ExecutionError)
    assert str(FunctionTimeoutError("f: late")) == "f: late"
    assert wire.kind_of(FunctionTimeoutError("f: late")) == "FunctionTimeoutError"


def test_a_generator_with_retries_is_refused():
    for retries in (1, Retries(max_retries=1)):
        with pytest.raises(InvalidError, match="values: retries: it is a generator"):
            App().function(retries=retries)(values)
        with pytest.raises(InvalidError, match=r"Model\.values: retries: it is a generator"):
            App().cls(retries=retries)(Model)
    for retries in (0, None, Retries(max_retries=0)):
        App().function(retries=retries)(values)
        App().cls(retries=retries)(Model)


def test_a_map_asks_the_foreman_that_its_function_is_at(monkeypatch):
    def elsewhere():
        raise AssertionError("another foreman was asked")

    asked = []

    class Service:
        def once(self):
            return {}

        def ask(self, verb, meta=None, payload=b""):
            asked.append(verb)
            return ({"is_web": False, "is_generator": False} if verb == "function_find" else {"call": "fc-1"}), b""

        def poll(self, verb, meta, payload=b"", timeout=None):
            asked.append(verb)
            if verb == "call_used":
                names = ("seconds", "core_hours", "gib_hours", "gpu_hours", "price", "currency")
                return dict.fromkeys(names, 0.0), b""
            return {"outcomes": [["fc-1", {"status": "ok"}]]}, wire.pack_items([wire.encode(7)])

    monkeypatch.setattr(session, "channel", elsewhere)
    monkeypatch.setattr(session, "service", Service)
    found = deploying.DeployedFunction("shop", "price")
    assert list(found.map([1])) == [7]
    values = found.map([1, 2])
    next(values)
    values.close()
    assert found.spawn().usage.seconds == 0.0
    assert {"call", "calls_take", "call_used"} <= set(asked)


@pytest.fixture
def signals():
    """Are given back as they were."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("given", "status"), [(signal.SIG_DFL, 130), (signal.SIG_IGN, 0)])
def test_what_was_ignored_at_the_start_ends_no_command(monkeypatch, signals, number, given, status):
    """As nohup has it of a hang-up, and a shell of what it starts in the background."""
    signal.signal(number, given)
    monkeypatch.setattr(cli, "find_command", lambda name: lambda words: os.kill(os.getpid(), number) or 0)
    monkeypatch.setattr(session, "close", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run"])
    assert ended.value.code == status


@pytest.mark.parametrize("when", ["start", "join"])
def test_a_second_ctrl_c_at_the_end_is_no_traceback(monkeypatch, signals, when):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "threading", SimpleNamespace(Thread=type("T", (threading.Thread,), {when: interrupt})))
    monkeypatch.setattr(cli, "find_command", lambda name: lambda words: 0)
    monkeypatch.setattr(session, "close", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run"])
    assert ended.value.code == 130
