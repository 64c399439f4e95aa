"""Functions as part of the package: an extra that costs nothing until it is used. tests/functions runs
them in containers."""

import os
import signal
import subprocess
import sys

import pytest
from kit.process import children

from adit.exception import InvalidError


def python(text, **options):
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, **options)


def test_importing_the_package_imports_nothing_of_its_functions():
    text = (
        "import sys, adit; adit.forward; print([m for m in sys.modules if 'adit.functions' in m or 'cloudpickle' in m])"
    )
    assert python(text).stdout == "[]\n"


def test_the_callers_half_imports_nothing_of_the_foremans():
    text = "import sys; from adit import Stub, Queue, web_endpoint; print([m for m in sys.modules if 'aiohttp' in m])"
    assert python(text).stdout == "[]\n"


def test_without_the_extra_it_says_what_to_install():
    done = python("import sys; sys.modules['cloudpickle'] = None; from adit import Stub")
    assert done.returncode == 1 and "pip install 'adit[functions]'" in done.stderr
    done = python(
        "import sys; sys.modules['cloudpickle'] = None; sys.argv = ['adit', 'run', 'x.py']\n"
        "from adit import _program; _program.main()"
    )
    assert done.returncode == 1 and done.stderr.startswith("adit: run:") and "adit[functions]" in done.stderr


def command(*words):
    return subprocess.run([sys.executable, "-m", "adit", *words], capture_output=True, text=True, timeout=60)


def test_each_command_teaches_with_an_example_and_says_in_a_line_what_is_wrong():
    from adit.functions import cli

    for name in cli.COMMANDS:
        done = command(name, "--help")
        assert done.returncode == 0 and f"\nExamples:\n  adit {name} " in done.stdout, done
        assert command("help", name).stdout == done.stdout
        assert f"  adit {name} " in command("--help").stdout
        done = command(name, "--nonsense")
        assert done.returncode == 2 and done.stderr.startswith("adit: "), done
        assert done.stderr.endswith(" --help)\n") and done.stderr.count("\n") == 1


SLOW = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "adit.functions":
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
sys.argv = ["adit", "foreman"]
from adit import _program
_program.main()
"""


def test_a_foreman_that_is_process_1_ends_when_told_also_while_it_starts(box):
    """A kernel passes a first process no signal that it does not handle."""
    program = [sys.executable, "-c", SLOW]
    space = box.start(["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", *program])
    space.out.wait(lambda line: line == "importing")
    [first] = children(space.pid)
    os.kill(int(first), signal.SIGTERM)
    assert space.wait(20) == 128 + signal.SIGTERM


def test_what_a_command_lacks_is_told_and_nothing_else():
    said = "adit: the following arguments are required: FILE[::FUNCTION] (see adit run --help)\n"
    assert command("run").stderr == said


def test_names_that_are_not_built_yet_say_so_when_used():
    import adit

    with pytest.raises(InvalidError, match="adit has no Sandbox yet"):
        adit.Sandbox.create("x")
    with pytest.raises(InvalidError, match="adit has no CloudBucketMount yet"):
        adit.CloudBucketMount("x")
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = adit.Nonsense
    with pytest.raises(AttributeError, match=r"no attribute 'Quee' .did you mean Queue"):
        _ = adit.Quee


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tiemout": 3}, "did you mean timeout"),
        ({"cpu": 0.001}, "from 0.01"),
        ({"timeout": 0}, "from 1..86400"),
        ({"timeout": 86401}, "from 1..86400"),
        ({"memory": "much"}, "memory"),
        ({"keep_warm": 3, "concurrency_limit": 2}, "more than concurrency_limit"),
        ({"cloud": "aws"}, "not on your own machines"),
        ({"image": "debian"}, "no adit.Image"),
    ],
)
def test_wrong_options_are_refused_when_the_function_is_made(given, said):
    from adit import App

    with pytest.raises(InvalidError, match=said):
        App().function(**given)(test_names_that_are_not_built_yet_say_so_when_used)


@pytest.mark.parametrize("name", ["cloud", "region", "proxy", "enable_memory_snapshot"])
def test_what_is_not_on_ones_own_machines_is_refused(name):
    from adit import App

    with pytest.raises(InvalidError, match=f"^{name}: not on your own machines: remove it$"):
        App().function(**{name: None})


def test_names_of_another_time_mean_the_same():
    from adit import App, Stub, fastapi_endpoint, web_endpoint

    def made(**given):
        return App().function(**given)(test_names_that_are_not_built_yet_say_so_when_used).spec

    today = {"min_containers": 1, "max_containers": 2, "scaledown_window": 3, "single_use_containers": True}
    assert made(**today) == made(keep_warm=1, concurrency_limit=2, container_idle_timeout=3, max_inputs=1)
    assert Stub is App and fastapi_endpoint is web_endpoint


def test_an_image_that_is_to_be_made_anew_is_another_each_time():
    from adit import Image

    def made(**given):
        return Image.debian_slim().pip_install("six", **given)._spec

    assert made() == made() and made(force_build=True) != made(force_build=True)


def test_wrong_uses_of_decorators_show_the_right_one():
    from adit import App, web_endpoint

    app = App()
    with pytest.raises(InvalidError, match="parentheses"):
        app.function(python)
    with pytest.raises(InvalidError, match=r"(?s)stands below @app.function.*@web_endpoint"):
        web_endpoint()(app.function()(python))
    with pytest.raises(InvalidError, match="function of that name"):
        app.function(name="python")(test_names_that_are_not_built_yet_say_so_when_used)
    with pytest.raises(InvalidError, match=r"Queue\.from_name"):
        app.q = 1
    with pytest.raises(InvalidError, match="inside of another function"):

        @app.function()
        def inner():
            pass


PLAIN = (
    None, True, 1, 1.5, 1 << 70, 2j, "a\ud800", b"", b"\0\xff", [1, {"b": None}], (1, (2,)), {1: 2, (3,): b"x"},
    {"$": 1}, {"$bytes": 3}, {1, b"2"}, frozenset(), [b"a", {"k": b"b"}, (b"c",)], {b"k": [b"v"]},
)  # fmt: skip


class Own:
    def __eq__(self, other):
        return type(other) is Own

    __hash__ = None


@pytest.mark.parametrize("value", PLAIN)
def test_plain_values_cross_without_a_pickle_as_they_are(value):
    from adit.functions import wire

    back = wire.decode(wire.encode(value), trusted=False)
    assert back == value and type(back) is type(value)


def test_queues_and_calls_cross_without_a_pickle_too():
    from adit import FunctionCall, Queue
    from adit.functions import wire

    queue, call = wire.decode(wire.encode((Queue._of("q1"), FunctionCall("fc-1", "f"))), trusted=False)
    assert queue.object_id == "q1" and (call.object_id, repr(call)) == ("fc-1", "<adit.FunctionCall fc-1 of f>")


def test_exceptions_that_everybody_has_cross_without_a_pickle():
    from adit import exception
    from adit.functions import wire

    for error in (
        ValueError("x", 1),
        FileNotFoundError(2, "none", "/x"),
        exception.TimeoutError("late"),
        KeyError((1,)),
    ):
        back = wire.decode(wire.encode(error), trusted=False)
        assert (type(back), back.args, str(back)) == (type(error), error.args, str(error))


def test_other_values_cross_as_a_pickle_that_only_the_trusting_load():
    from adit.exception import ExecutionError
    from adit.functions import wire

    endless = []
    endless.append(endless)
    for value in (Own(), endless, 10**5000, type("S", (str,), {})("x")):
        data = wire.encode(value)
        assert value is endless or wire.decode(data, trusted=True) == value
        with pytest.raises(ExecutionError, match=r"not trusted.*App\(trusted=True\)"):
            wire.decode(data, trusted=False)


def test_what_no_encoder_writes_is_refused_and_does_nothing():
    import random

    from adit.exception import ExecutionError
    from adit.functions import wire

    source = random.Random(11)
    texts = [
        b"{}", b"[" * 5000, b'{"$error":["os","system",["true"]]}', b'{"$error":["builtins","eval",["1"]]}',
        b'{"$x":1}', b'{"$set":[[]]}', b'{"$bytes":-1}', b'{"$bytes":true}', b'{"$bytes":9}', b'{"$tuple":1,"b":2}',
        b'{"$queue":[]}', b'{"$error":["builtins","BaseException",[]]}', b'{"$error":["builtins","SystemExit",[]]}',
    ]  # fmt: skip
    whole = [b"J" + len(t).to_bytes(4, "big") + t + more for t in texts for more in (b"", b"behind")]
    for value in PLAIN:
        data = bytearray(wire.encode(value))
        for _ in range(200):
            changed = bytearray(data)
            for _ in range(source.randint(1, 4)):
                changed[source.randrange(len(changed))] = source.randrange(256)
            whole.append(bytes(changed[: source.randint(0, len(changed))] if source.random() < 0.3 else changed))
    refused = 0
    for data in whole:
        try:
            wire.decode(data, trusted=False)
        except ExecutionError:
            refused += 1
    assert refused > len(whole) / 2


def test_code_in_a_pickle_is_refused_by_another_python(monkeypatch):
    from adit.exception import ExecutionError
    from adit.functions import wire

    code, data = wire.encode(lambda: 7), wire.encode(Own())
    assert wire.decode(code, trusted=True)() == 7
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    assert wire.decode(data, trusted=True) == Own()
    ours = code[1:3]
    with pytest.raises(
        ExecutionError, match=rf"Python {ours[0]}\.{ours[1]} made, and this is Python 3\.99 .have the same"
    ):
        wire.decode(code, trusted=True)


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\5{}", b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\2{x"])
def test_a_message_that_is_none_is_refused(data):
    from adit.functions import wire

    with pytest.raises(InvalidError):
        wire.unpack(data)
