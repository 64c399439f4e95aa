"""Dicts: values that nobody here understands, by keys of which only the bytes are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exception import InvalidError
from .budget import Budget
from .holding import Holding
from .shelf import UNWRITTEN, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .shelf import Shelf
    from .store import Row, Statement

ENTRIES_MAX = 100_000  # of a dict
KEY_MAX = 1 << 16
DICT_BYTES = 256 << 20  # of one dict
BYTES_MAX = 1 << 30  # of all entries of all dicts
ENTRY_COST = 256  # what one counts for, beside its bytes


def _cost(entries: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(len(key) + len(value) + ENTRY_COST for key, value in entries)


class Dict:
    """One dict."""

    def __init__(self, budget: Budget, record: Record | None = None) -> None:
        self._budget, self._record = budget.share("entries of one dict", DICT_BYTES), record or Record(UNWRITTEN, "")
        self.entries: dict[bytes, bytes] = {}
        self.trusted = True  # until somebody has put who is not: nobody tells later whose a value was

    def put(
        self,
        given: Iterable[tuple[bytes, bytes]],
        *,
        skip: bool,
        also: Callable[[int], tuple[Statement, ...]] = lambda _: (),
    ) -> int:
        """All of them; with ``skip`` those that are not there yet. How many. ``also`` tells what is to be written along
        with them, by how many they are."""
        new = {k: v for k, v in given if not (skip and k in self.entries)}
        if any(len(key) > KEY_MAX for key in new):
            raise InvalidError(f"dict: a key is larger than {KEY_MAX >> 10} KiB (use a shorter one)")
        if len(self.entries.keys() | new.keys()) > ENTRIES_MAX:
            raise InvalidError(f"dict: it has at most {ENTRIES_MAX} keys (pop some, or use several)")
        more = _cost(new.items()) - _cost((k, self.entries[k]) for k in new if k in self.entries)
        self._budget.take(max(more, 0))
        self._budget.give(max(-more, 0))
        before = {key: self.entries.get(key) for key in new}
        self.entries.update(new)
        self._record.set(new, also(len(new)))
        self._record.unless_written(lambda: self._put_back(new, before))
        return len(new)

    def _put_back(self, new: dict[bytes, bytes], before: Mapping[bytes, bytes | None]) -> None:
        """What keys had before that nobody has changed since."""
        for key in before:
            if self.entries.get(key) is new.get(key):
                self._change(key, before[key])

    def _change(self, key: bytes, value: bytes | None) -> None:
        old = self.entries.pop(key, None)
        self._budget.give(_cost([(key, old)]) if old is not None else 0)
        if value is not None:
            self.entries[key] = value
            self._budget.give(-_cost([(key, value)]))  # there was room for it

    def pop(self, key: bytes, also: Callable[[bytes], tuple[Statement, ...]] = lambda _: ()) -> bytes | None:
        """Takes one out."""
        value = self.entries.pop(key, None)
        if value is not None:
            self._budget.give(_cost([(key, value)]))
            self._record.removed(key, also(value))
            self._record.unless_written(lambda: self._put_back({}, {key: value}))
        return value

    def restore(self, rows: list[Row]) -> None:
        """What the foreman before had in it."""
        self.entries = {bytes(row["entry"]): bytes(row["value"]) for row in rows}
        self._record.seq = max((row["seq"] for row in rows), default=0)
        self._budget.take(_cost(self.entries.items()))

    def distrust(self, trusted: bool) -> None:
        """Whoever puts something is ``trusted``, or not."""
        if self.trusted and not trusted:
            self.trusted = False
            self._record.distrusted()

    def clear(self) -> None:
        """Forgets all."""
        before, self.entries = self.entries, {}
        self._budget.give(_cost(before.items()))
        self._record.cleared()
        self._record.unless_written(lambda: self._put_back({}, before))

    async def end(self) -> None:
        """See Held."""
        self._budget.give(_cost(self.entries.items()))
        self.entries.clear()
        self._record.ended()


class Dicts(Holding[Dict]):
    """All of a foreman's."""

    def __init__(self, shelf: Shelf = UNWRITTEN) -> None:
        super().__init__("dict", shelf)
        self._budget = Budget("dicts", BYTES_MAX)

    def named(
        self,
        name: str | None,
        given: Iterable[tuple[bytes, bytes]],
        *,
        missing: bool,
        trusted: bool,
        app: str | None = None,
    ) -> str:
        """The id of a new one that begins with these, or of the one of that name."""

        def make(identity: str) -> Dict:
            made = Dict(self._budget)
            made.put(given, skip=False)
            made._record = self._shelf.made("dict", identity, name, app)
            made._record.set(made.entries)
            made.distrust(trusted)
            return made

        return self.create(name, make, missing=missing, app=app)

    def restore(self, row: Row) -> None:
        """One that the foreman before had."""
        made = Dict(self._budget, Record(self._shelf, row["id"]))
        made.trusted = bool(row["trusted"])
        made.restore(row["inside"])
        self.put_in(row, made)
