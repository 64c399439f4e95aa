"""The foreman's store: a database that several foremen of a user share."""

import asyncio
import os
import stat
import subprocess
import sys

import pytest

from adit.exception import ConfigError, InvalidError
from adit.functions.foreman.store import Store, Tables, default_place

ONE = Tables("things", ("CREATE TABLE things (name TEXT PRIMARY KEY, size BIGINT)",))
TWO = Tables("things", (*ONE.steps, "ALTER TABLE things ADD COLUMN colour TEXT DEFAULT 'grey'"))
PUT = (
    "INSERT INTO things (name, size) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET size = things.size + excluded.size"
)


def run(path, work):
    async def live():
        store = Store(str(path))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(live())


def test_what_is_written_is_there_for_the_next_in_a_file_that_is_the_users_alone(tmp_path):
    path = tmp_path / "new" / "x.db"
    run(path, lambda store: store.write(ONE, (PUT, "a", 1), (PUT, "a", 2)))
    assert run(path, lambda store: store.read(ONE, "SELECT * FROM things")) == [{"name": "a", "size": 3}]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700


def test_nothing_is_opened_before_it_is_needed(tmp_path):
    async def nothing(store):
        pass

    run(tmp_path / "x.db", nothing)
    assert os.listdir(tmp_path) == []


def test_of_statements_that_belong_together_all_or_none_are_done(tmp_path):
    async def work(store):
        with pytest.raises(ConfigError, match=r"x\.db: .*nowhere"):
            await store.write(ONE, (PUT, "a", 1), ("INSERT INTO nowhere VALUES (1)",))
        await store.write(ONE, (PUT, "b", 1))
        return await store.read(ONE, "SELECT name FROM things")

    assert run(tmp_path / "x.db", work) == [{"name": "b"}]


def test_tables_of_an_older_adit_are_upgraded_and_those_of_a_newer_refused(tmp_path):
    path = tmp_path / "x.db"
    run(path, lambda store: store.write(ONE, (PUT, "a", 1)))
    found = run(path, lambda store: store.read(TWO, "SELECT * FROM things"))
    assert found == [{"name": "a", "size": 1, "colour": "grey"}]
    with pytest.raises(ConfigError, match=r"newer adit .*update"):
        run(path, lambda store: store.read(ONE, "SELECT * FROM things"))


def test_many_processes_may_make_and_fill_it_at_once(tmp_path):
    path = tmp_path / "x.db"
    text = (
        "import sys; sys.path[:0] = [sys.argv[2]]; from test_store import *\n"
        "async def fill(store):\n"
        "    for i in range(25): await store.write(TWO, (PUT, 'all', 1))\n"
        "run(sys.argv[1], fill)"
    )
    words = [sys.executable, "-c", text, str(path), os.path.dirname(__file__)]
    fillers = [subprocess.Popen(words) for _ in range(4)]
    assert [f.wait(60) for f in fillers] == [0] * 4
    assert run(path, lambda store: store.read(TWO, "SELECT size FROM things")) == [{"size": 100}]


def test_a_place_that_does_not_do_is_said_with_its_name(tmp_path):
    (tmp_path / "file").write_text("not a database, but text that is long enough to be none" * 9)
    for place in (tmp_path, tmp_path / "file", tmp_path / "file" / "x.db"):
        with pytest.raises(ConfigError, match=f"store: {place}: "):
            run(place, lambda store: store.read(ONE, "SELECT 1"))
    with pytest.raises(InvalidError, match="no store at mysql:// yet"):
        run("mysql://host/x", lambda store: store.read(ONE, "SELECT 1"))


def test_it_is_in_the_users_state_folder_or_where_a_variable_says(monkeypatch):
    monkeypatch.delenv("ADIT_STORE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert default_place() == "/somewhere/adit/functions.db"
    monkeypatch.setenv("ADIT_STORE", "/elsewhere.db")
    assert default_place() == "/elsewhere.db"
