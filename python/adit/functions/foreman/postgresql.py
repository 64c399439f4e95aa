"""A store in PostgreSQL, for what is to outlive a machine. Its tables are in a schema of their own. The server may be
started again while the foreman runs: what is asked for in the meantime waits for it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from ...exception import ConfigError, InvalidError

try:
    import psycopg
    from psycopg import conninfo, errors
    from psycopg.rows import dict_row
except ImportError as error:  # itself, or the library of PostgreSQL that it uses
    why = str(error).partition("\n")[0]
    raise ConfigError(f"store: PostgreSQL: {why} (pip install 'adit[postgresql]')") from None

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .store import Row, Run

SCHEMA = "adit"
BUSY_S = 10  # that foremen wait for each other
AWAY_S = 10.0  # that the server may be away until it counts as gone
AGAIN_S = 0.2
CONNECT_S = 5
_UPGRADING = 0x61646974  # what several foremen that change tables exclude each other by
# Set anew with each transaction, since a pooler may give each another connection.
_BEGIN = f"BEGIN; SET LOCAL search_path TO {SCHEMA}; SET LOCAL lock_timeout TO '{BUSY_S}s'"
_DEFAULTS: dict[str, Any] = {
    "application_name": "adit",
    "client_encoding": "utf8",
    "connect_timeout": CONNECT_S,
    "tcp_user_timeout": 2000 * BUSY_S,
}
_SHOWN = ("host", "hostaddr", "port", "dbname", "user")


def _hint(error: psycopg.Error) -> str:
    if isinstance(error, errors.LockNotAvailable):
        return " (does another foreman hang?)"
    if isinstance(error, errors.InsufficientPrivilege):
        return f" (let its user own a schema that is called {SCHEMA}, or make one)"
    if isinstance(error, psycopg.OperationalError):
        return " (does the server run, and does it let you in?)"
    return ""


def _read(url: str) -> dict[str, Any]:
    """What it says. Nothing of it is told when it cannot be read, since a password may be anywhere in it then."""
    authority, _, path = url.partition("://")[2].partition("?")[0].partition("/")
    with contextlib.suppress(psycopg.Error):
        if authority.count("@") <= 1 and "@" not in path:
            return {name: value for name, value in conninfo.conninfo_to_dict(url).items() if value is not None}
    raise InvalidError(
        "store: that is no URL of PostgreSQL (such as postgresql://USER@HOST/DATABASE; of a password in it, characters "
        "that are no letters and digits are written as %XX)"
    )


class Postgresql:
    """See Database."""

    def __init__(self, url: str) -> None:
        given = _read(url)
        shown = " ".join(f"{name}={given[name]}" for name in _SHOWN if name in given)
        self.name = f"PostgreSQL ({shown})" if shown else "PostgreSQL"
        self._how = {**_DEFAULTS, **given}
        self._connection: psycopg.Connection[Row] | None = None
        self._was_there = False
        self._away: tuple[float, psycopg.OperationalError] | None = None  # until when that is told, unasked

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            text = " ".join(str(error).split())
            if isinstance(error, (errors.DataError, errors.IntegrityError)):
                raise InvalidError(f"store: {self.name}: {text}") from None
            raise ConfigError(f"store: {self.name}: {text}{_hint(error)}") from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Run]:
        """See Database."""
        with self._told():
            connection = self._begin()

            def run(sql: str, *values: Any) -> list[Row]:
                query = sql.replace("%", "%%").replace("?", "%s")
                cursor = connection.execute(query, values)
                return cursor.fetchall() if cursor.description is not None else []

            try:
                yield run
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
                raise

    def _begin(self) -> psycopg.Connection[Row]:
        """A transaction, on another connection if the one before has gone. Nothing is done twice by that: what has
        begun and was cut off is told."""
        until = time.monotonic() + AWAY_S if self._was_there else 0.0
        if self._away is not None and time.monotonic() < self._away[0]:
            raise self._away[1].with_traceback(None)
        while True:
            began = time.monotonic()
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(
                        autocommit=True, row_factory=dict_row, prepare_threshold=None, **self._how
                    )
                self._connection.execute(_BEGIN)
                self._was_there = True
                return self._connection
            except psycopg.OperationalError as error:
                self.close()
                now = time.monotonic()
                self._was_there = now < until
                if not self._was_there:
                    self._away = now + (now - began), error  # what does not even refuse is asked half of the time
                    raise
            time.sleep(AGAIN_S)

    @contextlib.contextmanager
    def upgrade(self) -> Iterator[Run]:
        """See Database."""
        with self.transaction() as run:
            run("SELECT pg_advisory_xact_lock(?)", _UPGRADING)
            if not run("SELECT 1 FROM pg_namespace WHERE nspname = ?", SCHEMA):
                run(f"CREATE SCHEMA {SCHEMA}")
            yield run

    def close(self) -> None:
        """See Database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
