"""A store in a file, for the foremen of one machine."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from ...exception import ConfigError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .store import Run

BUSY_S = 10.0  # that foremen wait for each other


class Sqlite:
    """See Database."""

    def __init__(self, path: str) -> None:
        self.name = path
        with self._told():
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # for this user alone
            self._connection = sqlite3.connect(path, BUSY_S, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")  # a power failure may cost the last moments

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OverflowError, sqlite3.DataError, sqlite3.IntegrityError) as error:
            raise InvalidError(f"store: {self.name}: {error}") from None
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"store: {self.name}: {error} (is there room, and may you write there?)") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Run]:
        """See Database."""
        with self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield lambda sql, *values: [dict(row) for row in self._connection.execute(sql, values)]
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # some errors have rolled back themselves
                    self._connection.execute("ROLLBACK")
                raise

    def upgrade(self) -> AbstractContextManager[Run]:
        """See Database: one writes at a time in any case."""
        return self.transaction()

    def close(self) -> None:
        """See Database."""
        self._connection.close()
