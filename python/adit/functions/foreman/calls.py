"""Calls: inputs that wait for a container, and what came of them."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from ...exception import InvalidError, NotFoundError
from .. import wire
from .book import done, is_written
from .budget import Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire import Meta
    from .amounts import Amounts
    from .book import Posted
    from .ledger import Ledger

KEPT_BYTES = 512 << 20  # of outcomes that may be asked for again
LASTING_BYTES = 32 << 20  # of these, of those that the ledger has, too
KEPT_MAX = 50_000
INPUT_BYTES = 1 << 30  # that wait, and that generators have given
CONTAINER_BYTES = 128 << 20  # of these, from one container
CONTAINERS_BYTES = 512 << 20  # from all of an app
PIECE_COST = 1 << 10
CALL_COST = 16 << 10  # what a call counts for, beside its input: that of one container there be some thousand


class Call:
    """One call of one function."""

    def __init__(self, app: str, function: str, payload: bytes, budget: Budget, *, inside: bool, trusted: bool) -> None:
        """``inside``: a container made it. ``trusted``: pickles of the app's containers may be loaded."""
        budget.take(len(payload) + CALL_COST)
        self._held = budget, len(payload) + CALL_COST
        self._held_pieces: deque[tuple[Budget, int]] = deque()
        self.id = "fc-" + secrets.token_hex(16)
        self.app, self.function, self.payload = app, function, payload
        self.pool = function  # its name among the app's
        self.inside, self.trusted = inside, trusted
        self.outcome: tuple[Meta, bytes] | None = None
        self.tries = 0
        self.began = False
        self.pieces: deque[bytes] = deque()  # what a generator has given, but for what was read
        self._read = 0  # how many
        self.on_done: list[Callable[[Call], None]] = []
        self.used: Amounts | None = None
        self.gpu = ""
        self.lasts = False  # it is in the ledger
        self.saved: Posted = None  # when what was last written of it there is
        self._changed = asyncio.Event()

    @property
    def done(self) -> bool:
        """Whether its outcome is known."""
        return self.outcome is not None

    def settle(self, meta: Meta, payload: bytes = b"") -> None:
        """The first outcome is it."""
        if self.outcome is None:
            self.outcome, self.payload = (meta, payload), b""
            for budget, n in (self._held, *self._held_pieces):
                budget.give(n)
            self._held_pieces.clear()
            self._wake()
            for tell in self.on_done:
                tell(self)

    def fail(self, kind: str, text: str) -> None:
        """An outcome that is not of the function's own making; ``kind`` is a class of adit.exception."""
        self.settle({"status": "failed", "error": kind, "text": wire.clip(text, wire.TRACEBACK_MAX)})

    def restore_pieces(self, read: int, pieces: list[bytes]) -> None:
        """What a generator has given with a foreman before, and what of it was read."""
        self._read, self.pieces = read, deque(pieces)

    @property
    def given(self) -> int:
        """How many values a generator has given."""
        return self._read + len(self.pieces)

    def give(self, piece: bytes, budget: Budget) -> None:
        """A generator's next value, of its container's budget."""
        if not self.done:
            budget.take(len(piece) + PIECE_COST)
            self._held_pieces.append((budget, len(piece) + PIECE_COST))
            self.pieces.append(piece)
            self._wake()

    def pieces_beyond(self, have: int) -> list[bytes]:
        """What a generator has given beyond the first ``have``, which are not asked for again."""
        if have < self._read:
            raise InvalidError(f"call {self.id}: its first {self._read} values have been read")
        for _ in range(min(have - self._read, len(self.pieces))):
            self.pieces.popleft()
            self._read += 1
            if self._held_pieces:
                budget, n = self._held_pieces.popleft()
                budget.give(n)
        return list(self.pieces)

    @property
    def kept_bytes(self) -> int:
        """What it costs when it is done."""
        assert self.outcome is not None
        return CALL_COST + len(self.outcome[1]) + sum(len(piece) + PIECE_COST for piece in self.pieces)

    def add_used(self, used: Amounts, gpu: str) -> None:
        """What a try of it has used."""
        if self.used is not None:
            used.add(self.used)
        self.used, self.gpu = used, gpu
        self._wake()

    async def is_saved(self) -> None:
        """Once it is, whoever asks may be told what is so."""
        await done(self.saved)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, seconds: float, beyond: int | None = None, *, metered: bool = False) -> bool:
        """For its outcome, or for more pieces than ``beyond``, or until it is also ``metered``. False when there is
        neither in time."""

        def is_there() -> bool:
            if beyond is not None and self.given > beyond:
                return True
            return self.done and not (metered and self.began and self.used is None)

        async def changed() -> None:
            while not is_there():
                await self._changed.wait()

        try:
            await asyncio.wait_for(changed(), max(seconds, 0.001))
        except asyncio.TimeoutError:
            return False
        return True


class _Kept:
    """Calls that are done, the oldest first, which goes first."""

    def __init__(self, most: int) -> None:
        self._calls: OrderedDict[str, int] = OrderedDict()
        self._most, self.bytes = most, 0

    def add(self, call: Call) -> list[str]:
        """Who goes for it."""
        gone = []
        self._calls[call.id] = call.kept_bytes
        self.bytes += call.kept_bytes
        while len(self._calls) > 1 and (self.bytes > self._most or len(self._calls) > KEPT_MAX):
            identity, n = self._calls.popitem(last=False)
            self.bytes -= n
            gone.append(identity)
        return gone

    def drop(self, call: Call) -> None:
        """It is not asked for again."""
        self.bytes -= self._calls.pop(call.id, 0)


class Calls:
    """All of a foreman's. Outcomes are kept until there are too many of them: of calls that containers made, and of
    others, so that no container has those forgotten that a caller waits for."""

    def __init__(self, ledger: Ledger) -> None:
        self._calls: dict[str, Call] = {}
        self._ledger = ledger  # has the outcomes of apps that stay for longer
        self._kept = {
            (inside, lasts): _Kept(LASTING_BYTES if lasts else KEPT_BYTES)
            for inside in (True, False)
            for lasts in (True, False)
        }
        self._news = asyncio.Event()  # some call has an outcome
        self.budget = Budget("inputs", INPUT_BYTES)

    @property
    def kept_bytes(self) -> int:
        """Of all outcomes."""
        return sum(kept.bytes for kept in self._kept.values())

    def add(self, call: Call) -> None:
        """To be found by its id."""
        self._calls[call.id] = call
        call.on_done.append(self._settled)

    def _settled(self, call: Call) -> None:
        self._news.set()
        self._news = asyncio.Event()
        if call.saved is None:
            self._keep(call, lasts=False)
        else:  # until then it is here only
            call.saved.add_done_callback(lambda saved: self._keep(call, lasts=is_written(saved)))

    def _keep(self, call: Call, *, lasts: bool) -> None:
        if call.id in self._calls:
            for identity in self._kept[call.inside, lasts].add(call):
                self._calls.pop(identity, None)

    def get(self, identity: str) -> Call | None:
        """One that is under way, or done and not long over."""
        return self._calls.get(identity)

    def forget(self, call: Call) -> None:
        """Nobody asks for its outcome again."""
        self._calls.pop(call.id, None)
        for kept in self._kept.values():
            kept.drop(call)
        if call.lasts:
            self._ledger.forget([call.id])

    async def wait_for_any(self, calls: list[Call], seconds: float) -> bool:
        """Until one of them is done. False when none is in time."""

        async def settled() -> None:
            while not any(call.done for call in calls):
                await self._news.wait()

        try:
            await asyncio.wait_for(settled(), max(seconds, 0.001))
        except asyncio.TimeoutError:
            return False
        return True

    async def find(self, identity: str, app: str | None = None) -> Call:
        """``app`` is that of the container that asks; None is the caller."""
        call = self._calls.get(identity) or await self._ledger.find(identity, Budget("outcomes", 1 << 40))
        if call is None or (app is not None and call.app != app):
            raise NotFoundError(f"call {identity}: there is none of that id, or it is long over")
        return call
