"""Functions as part of the package: an extra that costs nothing until it is used. tests/functions runs
them in containers."""

import subprocess
import sys

import pytest

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


def test_names_that_are_not_built_yet_say_so_when_used():
    import adit

    with pytest.raises(InvalidError, match="adit has no Volume yet"):
        adit.Volume.from_name("x")
    with pytest.raises(InvalidError, match="adit has no Dict yet"):
        adit.Dict()
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = adit.Nonsense


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
        ({"gpu": "H100"}, "adit has no gpu= for functions yet"),
        ({"image": "debian"}, "no adit.Image"),
    ],
)
def test_wrong_options_are_refused_when_the_function_is_made(given, said):
    from adit import App

    with pytest.raises(InvalidError, match=said):
        App().function(**given)(test_names_that_are_not_built_yet_say_so_when_used)


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


def test_values_cross_as_json_or_as_a_pickle_that_only_the_trusting_load():
    from adit.exception import ExecutionError
    from adit.functions import wire

    for value in (None, True, 1, 1.5, "a\ud800", [1, {"b": None}]):
        assert wire.decode(wire.encode(value), trusted=False) == value
    for value in ((1, 2), {1: 2}, b"x", {1}):
        data = wire.encode(value)
        assert wire.decode(data, trusted=True) == value
        with pytest.raises(ExecutionError, match="not trusted"):
            wire.decode(data, trusted=False)


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\5{}", b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\2{x"])
def test_a_message_that_is_none_is_refused(data):
    from adit.functions import wire

    with pytest.raises(InvalidError):
        wire.unpack(data)
