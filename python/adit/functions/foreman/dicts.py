"""Dicts: values that nobody here understands, by keys of which only the bytes are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exception import InvalidError
from .budget import Budget
from .holding import Holding

if TYPE_CHECKING:
    from collections.abc import Iterable

ENTRIES_MAX = 100_000  # of a dict
KEY_MAX = 1 << 16
DICT_BYTES = 256 << 20  # of one dict
BYTES_MAX = 1 << 30  # of all entries of all dicts
ENTRY_COST = 256  # what one counts for, beside its bytes


def _cost(entries: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(len(key) + len(value) + ENTRY_COST for key, value in entries)


class Dict:
    """One dict."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget.share("entries of one dict", DICT_BYTES)
        self.entries: dict[bytes, bytes] = {}
        self.trusted = True  # until somebody has put who is not: nobody tells later whose a value was

    def put(self, given: Iterable[tuple[bytes, bytes]], *, skip: bool) -> int:
        """All of them; with ``skip`` those that are not there yet. How many."""
        new = {k: v for k, v in given if not (skip and k in self.entries)}
        if any(len(key) > KEY_MAX for key in new):
            raise InvalidError(f"dict: a key is larger than {KEY_MAX >> 10} KiB (use a shorter one)")
        if len(self.entries.keys() | new.keys()) > ENTRIES_MAX:
            raise InvalidError(f"dict: it has at most {ENTRIES_MAX} keys (pop some, or use several)")
        more = _cost(new.items()) - _cost((k, self.entries[k]) for k in new if k in self.entries)
        self._budget.take(max(more, 0))
        self._budget.give(max(-more, 0))
        self.entries.update(new)
        return len(new)

    def pop(self, key: bytes) -> bytes | None:
        """Takes one out."""
        value = self.entries.pop(key, None)
        if value is not None:
            self._budget.give(_cost([(key, value)]))
        return value

    def clear(self) -> None:
        """Forgets all."""
        self._budget.give(_cost(self.entries.items()))
        self.entries.clear()

    async def end(self) -> None:
        """See Held."""
        self.clear()


class Dicts(Holding[Dict]):
    """All of a foreman's."""

    def __init__(self) -> None:
        super().__init__("dict")
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

        def make() -> Dict:
            made = Dict(self._budget)
            made.put(given, skip=False)
            made.trusted = trusted
            return made

        return self.create(name, make, missing=missing, app=app)
