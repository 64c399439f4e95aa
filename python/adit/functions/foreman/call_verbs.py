"""Calls, for the caller and for containers, which call functions of their own app only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import wire
from .verbs import CALLER, NOT_YET, RUNNER, Answer, verb

if TYPE_CHECKING:
    from .calls import Call
    from .verbs import Asked


def _find(asked: Asked) -> Call:
    return asked.foreman.calls.find(asked.meta["call"], asked.app.id if asked.worker else None)


def _outcome(call: Call) -> Answer:
    assert call.outcome is not None
    meta, payload = call.outcome
    return Answer({**meta, "trusted": call.trusted}, payload)


@verb(CALLER, RUNNER)
async def call(asked: Asked) -> Answer:
    """Calls a function."""
    made = asked.app.call(str(asked.meta["function"]), asked.payload, inside=asked.worker is not None)
    return Answer({"call": made.id})


@verb(CALLER, RUNNER)
async def call_get(asked: Asked) -> Answer:
    """Its outcome; it stays there to be asked for again."""
    call = _find(asked)
    if not await call.wait(asked.wait):
        return NOT_YET
    return _outcome(call)


@verb(CALLER, RUNNER)
async def call_pieces(asked: Asked) -> Answer:
    """What a generator has given beyond the first ``have``, or its outcome."""
    call, have = _find(asked), int(asked.meta["have"])
    if not await call.wait(asked.wait, beyond=have):
        return NOT_YET
    pieces = call.pieces[have:]
    if pieces:
        return Answer({"status": "piece", "trusted": call.trusted}, wire.pack_items(pieces))
    return _outcome(call)


@verb(CALLER, RUNNER)
async def call_cancel(asked: Asked) -> Answer:
    """Ends it, and the container that it runs in."""
    call = _find(asked)
    call.fail("CancelledError", f"{call.function}: the call was cancelled")
    app = asked.foreman.apps.get(call.app)
    for busy in app.pools[call.function].workers if app else ():
        if busy.call is call:
            busy.cancel()
    return Answer({})
