"""Volumes and mounts: files that containers share, and that others do not see."""
import os
import secrets

import pytest
from conftest import PROGRAMS

from adit import App, Queue, Volume
from adit.exception import Error, NotFoundError


@pytest.fixture(scope="module")
def name():
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def files(configured, engine, name):
    """The module programs/volumes.py, its app running, and its volume gone afterwards."""
    from adit.functions import bundle
    os.environ["TEST_VOLUME"] = name
    module = bundle.load(os.path.join(PROGRAMS, "volumes.py"))
    with module.app.run(show_progress=False):
        yield module
    assert not [v for v in volumes(engine) if v["Name"] == f"adit-ephemeral-{module.short.spec['name']}"]
    engine.ask("DELETE", f"/volumes/adit-{os.getuid()}-{name}")


def volumes(engine):
    return engine.json("/volumes")["Volumes"] or []


def test_what_one_container_writes_the_next_reads_and_changes(files):
    first, second = files.write.remote("a", "one "), files.write.remote("a", "two")
    assert first != second
    assert files.read.remote("a") == ("one two", 2)


def test_a_change_is_seen_at_once_by_a_container_that_runs(files):
    with Queue.ephemeral() as go:
        call = files.wait_for.spawn("/data/deep/folder/live", go)
        files.write.remote("live", "now")
        go.put("go")
        assert call.get() == ("go", "now")


def test_an_ephemeral_volume_is_shared_while_the_app_runs(files):
    assert files.note.remote("x") == [] and files.note.remote("y") == ["x"]


def test_a_function_without_it_sees_nothing_of_a_volume(files):
    exists, mounts, user = files.look.remote()
    assert (exists, mounts) == (False, []) and user != 19_999


def test_a_place_where_the_image_has_files_is_refused(files):
    with pytest.raises(Error, match="volumes: /full: the image has files there"):
        files.full.remote()


def test_a_name_that_is_not_there_is_told_when_the_app_starts(configured, engine):
    app, missing = App("x"), f"missing-{secrets.token_hex(6)}"
    app.function(volumes={"/data": Volume.from_name(missing)})(volumes)
    with pytest.raises(NotFoundError,
                       match=f"volume {missing}: there is none of that name .use create_if_missing=True"), \
            app.run(show_progress=False):
        pass
    assert not [v for v in volumes(engine) if missing in v["Name"]]


def test_an_ephemeral_volume_ends_with_its_block(configured, engine):
    with Volume.ephemeral() as volume:
        name = f"adit-ephemeral-{volume.spec['name']}"
        app = App("x")
        app.function(volumes={"/data": volume})(volumes)
        for _ in range(2):
            with app.run(show_progress=False):
                pass
        assert name in [v["Name"] for v in volumes(engine)]
    assert name not in [v["Name"] for v in volumes(engine)]


def test_a_volume_of_a_caller_that_has_died_is_removed_by_the_next(engine, adit, program):
    text = ("import os, signal\nfrom adit import App, Volume\napp = App()\nv = Volume.ephemeral()\n"
            "@app.function(volumes={'/v': v})\ndef f(): pass\n"
            "@app.local_entrypoint()\ndef main():\n    print(v.spec['name'], flush=True)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n")
    run = adit("run", program("dies.py", text))
    assert run.wait(100) == -9
    name = "adit-ephemeral-" + run.out.lines[0]
    assert name in [v["Name"] for v in volumes(engine)]
    assert adit("run", "-q", program("next.py",
                                     "from adit import App\napp = App()\n@app.local_entrypoint()\ndef main():\n"
                                     "    with app.run(): pass\n")) \
        .wait(100) == 1
    assert name not in [v["Name"] for v in volumes(engine)]


def test_mounts_are_files_of_this_machine(files):
    assert files.mounted.remote() == (["hub.py"], True, "/root/iniconfig/__init__.py")
