"""The foreman's store: a database that several foremen of a user share, in a file or in PostgreSQL."""

import asyncio
import os
import re
import stat
import subprocess
import sys

import pytest

from adit.exception import ConfigError, InvalidError
from adit.functions.foreman.store import Store, Tables, can_keep, default_place

ONE = Tables("things", ("CREATE TABLE things (name TEXT PRIMARY KEY, size BIGINT)",))
TWO = Tables("things", (*ONE.steps, "ALTER TABLE things ADD COLUMN colour TEXT DEFAULT 'grey'"))
PUT = (
    "INSERT INTO things (name, size) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET size = things.size + excluded.size"
)


@pytest.fixture
def database(postgresql):
    return postgresql.database()


def run(place, work):
    async def live():
        store = Store(str(place))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(live())


def test_what_is_written_is_there_for_the_next(store_place):
    run(store_place, lambda store: store.write(ONE, (PUT, "a", 1), (PUT, "a", 2)))
    assert run(store_place, lambda store: store.read(ONE, "SELECT * FROM things")) == [{"name": "a", "size": 3}]


def test_a_file_is_the_users_alone(tmp_path):
    path = tmp_path / "new" / "x.db"
    run(path, lambda store: store.write(ONE, (PUT, "a", 1)))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700


def test_nothing_is_opened_before_it_is_needed(tmp_path):
    async def nothing(store):
        pass

    run(tmp_path / "x.db", nothing)
    run("postgresql://nobody@nowhere.invalid/x", nothing)
    assert os.listdir(tmp_path) == []


def test_of_statements_that_belong_together_all_or_none_are_done(store_place):
    async def work(store):
        with pytest.raises(ConfigError, match=r"^store: (/|PostgreSQL).*nowhere"):
            await store.write(ONE, (PUT, "a", 1), ("INSERT INTO nowhere VALUES (1)",))
        await store.write(ONE, (PUT, "b", 1))
        return await store.read(ONE, "SELECT name FROM things")

    assert run(store_place, work) == [{"name": "b"}]


def test_values_come_back_as_they_were(store_place):
    tables = Tables("all", ("CREATE TABLE all_kinds (t TEXT, i BIGINT, d DOUBLE PRECISION, b BYTEA)",))
    values = ("% ? \u00fc\u4e16 ' \\ %s", 1 << 62, 0.1 + 0.2, bytes(range(256)))

    async def work(store):
        await store.write(tables, ("INSERT INTO all_kinds VALUES (?, ?, ?, ?)", *values))
        await store.write(tables, ("INSERT INTO all_kinds VALUES (?, ?, ?, ?)", None, 0, 1, b""))
        [one] = await store.read(tables, "SELECT * FROM all_kinds WHERE t LIKE '% ' || ? || '%' AND i >= ?", "ü世", 1)
        [sums] = await store.read(tables, "SELECT CAST(SUM(i) AS DOUBLE PRECISION) AS i, COUNT(*) AS n FROM all_kinds")
        return (*one.values(),), sums

    one, sums = run(store_place, work)
    assert (*one[:3], bytes(one[3])) == values
    assert sums == {"i": float(1 << 62), "n": 2} and isinstance(sums["i"], float)


def test_of_texts_those_that_not_all_can_keep_are_known(store_place):
    async def work(store):
        for text in ("", "\x01\x7f", "\u00fc\U0001f600", "\ufffe", "\0", "a\ud800"):
            if can_keep(text):
                await store.write(ONE, (PUT, text, 1))
                assert {"name": text} in await store.read(ONE, "SELECT name FROM things")
            elif store.is_shared:
                with pytest.raises((InvalidError, UnicodeError)):
                    await store.write(ONE, (PUT, text, 1))

    run(store_place, work)
    assert not can_keep("\0") and not can_keep("a\ud800") and not can_keep("\udfff")


def test_tables_of_an_older_adit_are_upgraded_and_those_of_a_newer_refused(store_place):
    run(store_place, lambda store: store.write(ONE, (PUT, "a", 1)))
    found = run(store_place, lambda store: store.read(TWO, "SELECT * FROM things"))
    assert found == [{"name": "a", "size": 1, "colour": "grey"}]
    with pytest.raises(ConfigError, match=r"newer adit .*update"):
        run(store_place, lambda store: store.read(ONE, "SELECT * FROM things"))


def test_many_processes_may_make_and_fill_it_at_once(store_place):
    text = (
        "import sys; sys.path[:0] = [sys.argv[2]]; from test_store import *\n"
        "async def fill(store):\n"
        "    for i in range(25): await store.write(TWO, (PUT, 'all', 1))\n"
        "run(sys.argv[1], fill)"
    )
    words = [sys.executable, "-c", text, store_place, os.path.dirname(__file__)]
    fillers = [subprocess.Popen(words) for _ in range(4)]
    assert [f.wait(60) for f in fillers] == [0] * 4
    assert run(store_place, lambda store: store.read(TWO, "SELECT size FROM things")) == [{"size": 100}]


def test_what_it_cannot_keep_is_said_as_all_that_goes_wrong_there(store_place):
    with pytest.raises(InvalidError, match="store: "):
        run(store_place, lambda store: store.write(TWO, (PUT, "a", 1 << 80)))


def test_a_place_that_does_not_do_is_said_with_its_name(tmp_path):
    (tmp_path / "file").write_text("not a database, but text that is long enough to be none" * 9)
    for place in (tmp_path, tmp_path / "file", tmp_path / "file" / "x.db"):
        with pytest.raises(ConfigError, match=f"store: {place}: "):
            run(place, lambda store: store.read(ONE, "SELECT 1"))
    with pytest.raises(InvalidError, match="no store at mysql://"):
        run("mysql://host/x", lambda store: store.read(ONE, "SELECT 1"))


def test_it_is_in_the_users_state_folder_or_where_a_variable_says(monkeypatch):
    monkeypatch.delenv("ADIT_STORE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert default_place() == "/somewhere/adit/functions.db"
    monkeypatch.setenv("ADIT_STORE", "/elsewhere.db")
    assert default_place() == "/elsewhere.db"


# --- PostgreSQL's own ---

LOOK = "SELECT * FROM things"


def why(place):
    """What a person is told of a place where nothing can be kept."""
    with pytest.raises((ConfigError, InvalidError)) as caught:
        run(place, lambda store: store.read(ONE, LOOK))
    assert caught.value.__suppress_context__ or caught.value.__cause__ is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_that_was_started_again_is_used_again(database, postgresql, monkeypatch):
    monkeypatch.setattr(postgresql_store(), "AWAY_S", 60)  # on a busy machine it takes a while

    async def work(store):
        await store.write(ONE, (PUT, "a", 1))
        postgresql.stop()
        writing = asyncio.ensure_future(store.write(ONE, (PUT, "a", 1)))
        await asyncio.sleep(0)  # so that it begins
        postgresql.start()
        await writing
        postgresql.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'adit'")
        await store.write(ONE, (PUT, "a", 1))
        return await store.read(ONE, LOOK)

    assert run(database, work) == [{"name": "a", "size": 3}]


def test_a_server_that_stays_away_is_told_after_a_while_then_at_once_and_used_when_it_is_back(
    database, postgresql, monkeypatch
):
    monkeypatch.setattr(postgresql_store(), "AWAY_S", 0.3)

    async def work(store):
        await store.write(ONE, (PUT, "a", 1))
        postgresql.stop()
        try:
            for _ in range(2):
                with pytest.raises(ConfigError, match=r"does the server run.*let you in\?\)$"):
                    await store.write(ONE, (PUT, "a", 1))
        finally:
            postgresql.start()
        await store.write(ONE, (PUT, "a", 1))
        return await store.read(ONE, LOOK)

    assert run(database, work) == [{"name": "a", "size": 2}]


def test_a_server_that_says_nothing_at_all_holds_up_for_half_of_the_time_at_most(monkeypatch):
    module, now, asked = postgresql_store(), [1000.0], []

    def connect(**_):
        asked.append(now[0])
        now[0] += module.CONNECT_S
        raise module.psycopg.OperationalError("timeout expired")

    monkeypatch.setattr(module.psycopg, "connect", connect)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    async def work(store):
        for _ in range(50):
            with pytest.raises(ConfigError, match=r"timeout expired.*does the server run"):
                await store.read(ONE, LOOK)
            now[0] += 0.5

    run("postgresql://owner@/x", work)
    assert len(asked) == 5


def test_what_was_cut_off_is_told_and_not_done_by_halves(database, postgresql):
    async def work(store):
        cut = "SELECT pg_terminate_backend(pg_backend_pid())"
        with pytest.raises(ConfigError, match="terminat"):
            await store.write(ONE, (PUT, "a", 1), (cut,))
        await store.write(ONE, (PUT, "b", 1))
        return await store.read(ONE, LOOK)

    assert run(database, work) == [{"name": "b", "size": 1}]


def postgresql_store():
    from adit.functions.foreman import postgresql

    return postgresql


def test_it_is_said_in_a_sentence_why_there_is_no_database(postgresql, database):
    nowhere = f"postgresql://owner@/x?host={postgresql.folder}/nowhere"
    assert re.search(
        r"^store: PostgreSQL \(host=\S+/nowhere dbname=x user=owner\): .*does the server run", why(nowhere)
    )
    assert "does the server run" in why("postgresql://owner@127.0.0.1:1/x")
    assert "missing" in why(postgresql.url("missing"))
    postgresql.do("CREATE USER guest PASSWORD 'sesame'")
    assert "schema that is called adit" in why(database.replace("owner", "guest"))
    for url in ("postgresql://owner:pass word@/x", "postgresql://[::1/x", "postgresql://h/x?hosst=1"):
        assert "no URL of PostgreSQL" in why(url)


def test_nobody_is_told_the_password(postgresql, database, capfd):
    for url in (
        postgresql.url("postgres", password="opensesame"),
        f"postgresql:///postgres?host={postgresql.folder}&user=owner&password=opensesame",
        "postgresql://owner:opensesame@127.0.0.1:1/x",
        "postgresql://owner:opensesame@h:port/x",
        "postgresql://owner:open#sesame%@h/x",
        "postgresql://owner:opensesame%zz@h/x",
        "postgresql://owner:open@sesame@h/x",
        "postgresql://owner:sesame/open@h/x",
    ):
        assert "sesame" not in why(url).replace(postgresql.folder, "")
    run(database, lambda store: store.write(TWO, (PUT, "a", 1)))
    with pytest.raises(ConfigError) as caught:
        run(database, lambda store: store.read(ONE, LOOK))
    assert "sesame" not in str(caught.value)
    assert "sesame" not in "".join(capfd.readouterr())


def test_without_its_package_it_is_said_what_to_install(tmp_path):
    (tmp_path / "psycopg.py").write_text("raise ImportError('no pq wrapper available.\\nAttempts made: ...')")
    text = (
        "import sys; sys.path[:0] = sys.argv[1:]; from test_store import *\nprint(why('postgresql://owner:sesame@h/x'))"
    )
    words = [sys.executable, "-c", text, str(tmp_path), os.path.dirname(__file__)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "store: PostgreSQL: no pq wrapper available. (pip install 'adit[postgresql]')\n", done.stderr


def test_its_tables_are_in_a_schema_of_their_own_which_may_be_there(postgresql, database):
    postgresql.do("CREATE SCHEMA adit", database)
    postgresql.do("CREATE TABLE things (x TEXT)", database)  # somebody else's
    run(database, lambda store: store.write(ONE, (PUT, "a", 1)))
    found = postgresql.do("SELECT schemaname FROM pg_tables WHERE tablename = 'things' ORDER BY 1", database)
    assert found == [("adit",), ("public",)]


def test_all_parts_of_a_foreman_have_their_tables_there(store_place):
    from adit.functions.foreman import amounts, kept, ledger, schedules, shelf

    async def work(store):
        for part in (amounts.TABLES, kept.TABLES, ledger.TABLES, schedules.TABLES, shelf.TABLES):
            await store.read(part, "SELECT 1 AS one")

    run(store_place, work)
