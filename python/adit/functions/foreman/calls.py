"""Calls: inputs that wait for a container, and what came of them."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING

from ...exception import NotFoundError
from .budget import Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire import Meta

KEPT_BYTES = 1 << 30  # of outcomes that may be asked for again
INPUT_BYTES = 1 << 30  # that wait, and that generators have given
CALLS_MAX = 100_000


class Call:
    """One call of one function."""

    def __init__(self, app: str, function: str, payload: bytes, budget: Budget, *, inside: bool, trusted: bool) -> None:
        """``inside``: a container made it. ``trusted``: pickles of the app's containers may be loaded."""
        budget.take(len(payload))
        self._budget, self._held = budget, len(payload)
        self.id = "fc-" + secrets.token_hex(16)
        self.app, self.function, self.payload = app, function, payload
        self.inside, self.trusted = inside, trusted
        self.outcome: tuple[Meta, bytes] | None = None
        self.tries = 0
        self.began = False
        self.pieces: list[bytes] = []  # what a generator has given so far
        self.on_done: Callable[[Call], None] | None = None
        self._changed = asyncio.Event()

    @property
    def done(self) -> bool:
        """Whether its outcome is known."""
        return self.outcome is not None

    def settle(self, meta: Meta, payload: bytes = b"") -> None:
        """The first outcome is it."""
        if self.outcome is None:
            self.outcome, self.payload = (meta, payload), b""
            self._budget.give(self._held)
            self._wake()
            if self.on_done is not None:
                self.on_done(self)

    def fail(self, kind: str, text: str) -> None:
        """An outcome that is not of the function's own making; ``kind`` is a class of adit.exception."""
        self.settle({"status": "failed", "error": kind, "text": text})

    def give(self, piece: bytes) -> None:
        """A generator's next value."""
        self._budget.take(len(piece))
        self._held += len(piece)
        self.pieces.append(piece)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, seconds: float, beyond: int | None = None) -> bool:
        """For its outcome, or for more pieces than ``beyond``. False when there is neither in time."""

        async def changed() -> None:
            while not self.done and not (beyond is not None and len(self.pieces) > beyond):
                await self._changed.wait()

        try:
            await asyncio.wait_for(changed(), max(seconds, 0.001))
        except asyncio.TimeoutError:
            return False
        return True


class Calls:
    """All of a foreman's. Outcomes are kept until there are too many bytes of them; the oldest go first."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._kept = 0
        self._news = asyncio.Event()  # some call has an outcome
        self.budget = Budget("inputs", INPUT_BYTES)

    def add(self, call: Call) -> None:
        """To be found by its id."""
        self._calls[call.id] = call
        call.on_done = self._settled

    def _settled(self, call: Call) -> None:
        assert call.outcome is not None
        self._news.set()
        self._news = asyncio.Event()
        self._kept += len(call.outcome[1])
        for identity in list(self._calls) if self._is_too_much() else ():
            old = self._calls[identity]
            if old.outcome is not None and old is not call:
                self._kept -= len(old.outcome[1])
                del self._calls[identity]
            if not self._is_too_much():
                break

    def forget(self, call: Call) -> None:
        """Nobody asks for its outcome again."""
        if self._calls.pop(call.id, None) is not None and call.outcome is not None:
            self._kept -= len(call.outcome[1])

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

    def _is_too_much(self) -> bool:
        return self._kept > KEPT_BYTES or len(self._calls) > CALLS_MAX

    def find(self, identity: str, app: str | None = None) -> Call:
        """``app`` is that of the container that asks; None is the caller."""
        call = self._calls.get(identity)
        if call is None or (app is not None and call.app != app):
            raise NotFoundError(f"call {identity}: there is none of that id, or it is long over")
        return call
