"""What a container that waits for its work is, and what it loads meanwhile."""

import io
import sys
import tarfile
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest

from adit.functions import runner
from adit.functions.spec import FunctionSpec, ImageSpec, WebSpec

OTHER = {
    "image": ImageSpec("another"),
    "cpu": (2.0, None),
    "memory": (512, 600),
    "gpus": [("any", 1)],
    "env": {"A": "b"},
    "volumes": {"/data": {"name": "data", "create": True}},
    "network": True,
}
SAME = {
    "name": "g",
    "secrets": {"WORD": "secret"},
    "web": WebSpec("endpoint"),
    "timeout": 900,
    "pickled": "code",
    "concurrent": 3,
}


@pytest.mark.parametrize("name", OTHER)
def test_what_a_container_is_made_with_makes_its_kind(name):
    spec = FunctionSpec("f", "m", "f")
    assert replace(spec, **{name: OTHER[name]}).kind() != spec.kind()


def test_what_a_container_is_told_later_makes_no_kind_and_is_not_in_it():
    spec = FunctionSpec("f", "m", "f")
    kind = replace(spec, **SAME).kind()
    assert kind == spec.kind() and not kind.secrets and not kind.name and kind.pickled is None
    assert {f.name for f in fields(FunctionSpec)} >= {*OTHER, *SAME}


def bundle_of(**modules):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in modules.items():
            info = tarfile.TarInfo(f"{name}.py")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture(params=[False, True], ids=["no tunnels", "tunnels"])
def loaded_ahead(request, tmp_path, monkeypatch):
    """What a spare has loaded when it knows its program, which has a module of the name of one of them."""
    monkeypatch.setattr(runner, "CODE", str(tmp_path / "code"))
    monkeypatch.setattr(runner, "COPIED", str(tmp_path / "copied"))
    (tmp_path / "code").mkdir()
    there = tmp_path / "there"
    there.mkdir()
    for name in ("likely_one", "likely_two"):
        (there / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(str(there))
    before, prepared, tunnels = set(sys.modules), [], request.param

    class Channel:
        def ask(self, verb):
            assert not prepared
            likely = ["likely_one", "likely_two", "not_there"]
            return {"not_yet": True, "likely": likely, "tunnels": tunnels}, b""

        def poll(self, verb, meta):
            assert {"likely_one", "likely_two"} <= set(sys.modules) and len(prepared) == tunnels
            return {"app_id": "ap-1"}, bundle_of(likely_one="", program="")

    way = SimpleNamespace(prepare=lambda: prepared.append(True))
    assert runner._find_work(Channel(), way) == {"app_id": "ap-1"}
    yield set(sys.modules) - before
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_what_the_program_has_itself_comes_before_what_was_loaded_ahead(loaded_ahead):
    assert "likely_two" in loaded_ahead and "likely_one" not in loaded_ahead
