"""`adit image`: the layers that stay in the engine, and how they go."""
import io
import json
import os
import tarfile
import urllib.parse

import pytest
from conftest import BUILD_S
from own_engine import OwnEngine

ONE_STEP = """
from adit import App, Image
app = App(image=Image.debian_slim().run_commands("echo {mark} > /mark"))
@app.function()
def f():
    return open("/mark").read().strip()
@app.function()
def g():
    pass
"""


def layers(adit):
    run = adit("image", "list", "--json")
    assert run.wait(60) == 0, run.report()
    return [json.loads(line) for line in run.out.lines]


def test_layers_are_listed_and_those_old_enough_go(adit, program, engine):
    mark = f"$HOME-{os.urandom(8).hex()}"
    run = adit("run", "-q", program("marked.py", ONE_STEP.format(mark=mark)) + "::f")
    assert run.wait(BUILD_S) == 0, run.report()
    mine = [i for i in layers(adit) if mark in (i["step"] or "")]
    assert [i["step"] for i in mine] == [f"echo {mark} > /mark"]
    shown = adit("image", "list")
    assert shown.wait(60) == 0 and mark in shown.out.text() and " layers, " in shown.out.lines[-1]
    kept = adit("image", "prune", "--older-than", "52w")
    assert kept.wait(60) == 0 and kept.out.lines == ["Removed 0 layers, 0.0 MB"]
    dry = adit("image", "prune", "--dry-run")
    assert dry.wait(60) == 0 and dry.out.lines[0].startswith("Would remove ")
    assert mine[0] in layers(adit)


@pytest.fixture
def own(box):
    engine = OwnEngine()
    box.closers.append(engine.close)
    engine.start()
    return engine


def image(engine, name, key):
    """One with a file in it, and with the label of a layer."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        file = tarfile.TarInfo(key)
        file.size = 1_000_000
        tar.addfile(file, io.BytesIO(os.urandom(file.size)))
    repository, tag = name.split(":")
    label = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": f"LABEL adit.layer={key}"}
    engine.ask("POST", f"/images/create?{urllib.parse.urlencode(label)}", data.getvalue())


def names(engine):
    return sorted(tag for i in engine.json("/images/json") for tag in i["RepoTags"])


def test_what_a_container_uses_stays_and_what_others_made_of_a_layer_does_too(adit, own):
    free, used = "a" * 64, "b" * 64
    image(own, f"adit/layer:{free[:40]}", free)
    image(own, f"adit/layer:{used[:40]}", used)
    image(own, "mine:1", free)
    own.ask("POST", "/containers/create", json.dumps({"Image": f"adit/layer:{used[:40]}", "Cmd": ["true"]}))
    run = adit("image", "prune", env={"DOCKER_HOST": own.host})
    assert run.wait(60) == 0, run.report()
    assert run.out.lines == ["Removed 1 layer, 1.0 MB; in use: 1"]
    assert names(own) == [f"adit/layer:{used[:40]}", "mine:1"]


def test_a_wrong_duration_is_told_in_a_line(adit):
    run = adit("image", "prune", "--older-than", "soon")
    assert run.wait(60) == 2
    assert "'soon' is no duration (such as 12h, 7d or 2w)" in run.err.text() and len(run.err.lines) == 1
