"""Classes: objects in containers, entered once, called many times; and functions that are sent along."""
import asyncio
import os
import signal

import pytest
from conftest import PROGRAMS

from adit import Queue
from adit.exception import ExecutionError, InvalidError


@pytest.fixture(scope="module")
def classes(configured):
    from adit.functions import bundle
    module = bundle.load(os.path.join(PROGRAMS, "classes.py"))
    with module.app.run(show_progress=False):
        yield module


def test_an_object_is_entered_once_and_called_many_times(classes):
    model = classes.Model(3, name="three")
    assert [model.times.remote(n) for n in (1, 2)] == [3, 6]
    name, log, calls, container = model.about.remote()
    assert (name, log, calls) == ("three", ["base", "loaded", "loaded more"], 2)
    assert classes.Model(3, name="three").about.remote()[3] == container


def test_objects_of_other_arguments_have_other_containers(classes):
    assert len({classes.Model().about.remote()[3], classes.Model(5).about.remote()[3],
                classes.Model(name="x").about.remote()[3]}) == 3
    assert classes.Model(5).times.remote(2) == 10 and classes.Model().times.remote(2) == 4


def test_methods_are_called_like_functions(classes):
    model = classes.Model()
    assert list(model.times.map([1, 2, 3])) == [2, 4, 6]
    assert model.times.spawn(4).get() == 8
    assert list(model.count.remote_gen(3)) == [0, 2, 4]
    assert model.later.remote(1) == 103
    assert model.through_another.remote(2) == (4, 14)
    assert asyncio.run(model.times.remote.aio(n=5)) == 10
    assert classes.use.remote(classes.Model(9), 2) == 18


def test_an_object_may_be_used_here(classes):
    model = classes.Model(4)
    assert model.times.local(2) == 8 and model.plain(1) == 101
    assert asyncio.run(model.later.local(1)) == 105
    assert model.log == ["base", "loaded", "loaded more"] and model.calls == 2


def test_a_class_may_be_the_base_of_another(classes):
    class Other(classes.Model):
        pass
    assert issubclass(Other, classes.Base)


def test_an_object_is_left_when_its_container_ends(configured):
    from adit.functions import bundle
    module = bundle.load(os.path.join(PROGRAMS, "classes.py"))
    with Queue.ephemeral() as q:
        with module.app.run(show_progress=False):
            assert module.Ending(q).hello.remote() == "hello"
        assert q.get(block=False) == "left"


def test_what_goes_wrong_is_told(classes):
    with pytest.raises(ValueError, match="cannot load"):
        classes.Broken().f.remote()
    with pytest.raises(TypeError, match="Model: got an unexpected keyword argument 'size'"):
        classes.Model(size=3)
    with pytest.raises(InvalidError, match=r"Model.times: it is called on an object \(Model\(\).times.remote"):
        classes.Model.times.remote(1)
    with pytest.raises(AttributeError, match="no such method .there are about, count, later"):
        classes.Model().predict.remote()
    with pytest.raises(InvalidError, match="Model.count.remote: it is a generator"):
        classes.Model().count.remote(1)
    with pytest.raises(TypeError, match=r"use Model.times.remote"):
        classes.Model().times(1)


def test_a_method_is_run_from_the_command_line(adit):
    run = adit("run", "-q", "classes.py::Model.times", "--n", "21")
    assert run.wait(100) == 0 and run.out.lines == ["42"], run.report()
    run = adit("run", "-q", "classes.py::Model.nothing")
    assert run.wait(100) == 1 and "Model.times" in run.err.text()


def test_a_serialized_function_brings_what_it_uses(classes):
    assert classes.inner.remote(1) == ("word", 101, 3)
    assert classes.calls_inner.remote(2) == (("word", 102, 6), False)


def test_a_function_of_an_interactive_session_may_be_sent_along(adit, program, settings, box):
    import sys
    text = ("from adit import App\napp = App('here')\nk = 5\n@app.function(serialized=True)\ndef f(n):\n"
            "    return n + k\n\n"
            "with app.run(show_progress=False):\n    print(f.remote(1))\n\n")
    run = box.start([sys.executable, "-i", "-c", text], env=settings)
    run.out.wait(lambda line: line == "6", 100)
    run.kill(signal.SIGKILL)


def test_another_python_is_refused_with_both_versions(classes, monkeypatch):
    import sys

    from adit.functions import wire
    data = bytearray(wire.encode(lambda: 1, "f"))
    assert data[1:3] == bytes(sys.version_info[:2])
    data[2] += 1
    with pytest.raises(ExecutionError, match=rf"3\.{sys.version_info[1]}\b"):
        wire.decode(bytes(data), trusted=True, what="f: the function")
