"""Calls, for the caller and for containers, which call functions of their own app only."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ...exception import Error, NotFoundError
from .. import wire
from .amounts import Amounts
from .verbs import CALLER, NOT_YET, RUNNER, Answer, verb

if TYPE_CHECKING:
    from ..wire import Meta
    from .calls import Call
    from .verbs import Asked

TAKEN_FROM_MAX = 1000  # calls that one question may name
TAKEN_MAX, TAKEN_BYTES = 8, 4 << 20  # outcomes in one answer; one is there whatever its size


async def _find(asked: Asked) -> Call:
    return await asked.foreman.calls.find(asked.meta["call"], asked.app.id if asked.worker else None)


def _outcome(call: Call) -> Answer:
    assert call.outcome is not None
    meta, payload = call.outcome
    return Answer({**meta, "trusted": call.trusted}, payload)


def _is_enough(payloads: list[bytes]) -> bool:
    return len(payloads) >= TAKEN_MAX or sum(map(len, payloads)) >= TAKEN_BYTES


async def _find_some(asked: Asked, app: str | None) -> list[Call]:
    """Those that are asked for, up to where there are outcomes enough, as they may have to be read from the store."""
    found: list[Call] = []
    there: list[bytes] = []
    for identity in asked.meta["calls"][:TAKEN_FROM_MAX]:
        call = await asked.foreman.calls.find(str(identity), app)
        found.append(call)
        if call.outcome is not None:
            there.append(call.outcome[1])
            if _is_enough(there):
                break
    return found


@verb(CALLER, RUNNER)
async def call(asked: Asked) -> Answer:
    """Calls a function."""
    await asked.app.back()
    if (answer := await asked.answered()) is not None:
        return answer
    function, key = str(asked.meta["function"]), str(asked.meta.get("key", ""))
    made = asked.app.call(function, key, asked.payload, asked.worker, lambda call: asked.note({"call": call.id}))
    try:
        await made.is_saved()
    except Error as error:
        made.fail(wire.kind_of(error), str(error))
        raise
    return Answer({"call": made.id})


@verb(CALLER, RUNNER)
async def call_get(asked: Asked) -> Answer:
    """Its outcome; it stays there to be asked for again."""
    call = await _find(asked)
    if not await call.wait(asked.wait):
        return NOT_YET
    return _outcome(call)


@verb(CALLER, RUNNER)
async def calls_take(asked: Asked) -> Answer:
    """The outcomes of some of these calls, as soon as there is one. Those that were ``taken`` are not kept: it is how a
    map, which asks for each of its many results once, leaves nothing behind."""
    app, calls = asked.app.id if asked.worker else None, asked.foreman.calls
    for identity in asked.meta.get("taken", [])[:TAKEN_FROM_MAX]:
        with contextlib.suppress(NotFoundError):
            calls.forget(await calls.find(str(identity), app))
    if not asked.meta["calls"]:
        return Answer({"outcomes": []})
    wanted = await _find_some(asked, app)
    if not await calls.wait_for_any(wanted, asked.wait):
        return NOT_YET
    outcomes: list[tuple[str, Meta]] = []
    payloads: list[bytes] = []
    for call in wanted:
        if call.outcome is None or _is_enough(payloads):
            continue
        answer = _outcome(call)
        outcomes.append((call.id, answer.meta))
        payloads.append(answer.payload)
    return Answer({"outcomes": outcomes}, wire.pack_items(payloads))


@verb(CALLER, RUNNER)
async def call_pieces(asked: Asked) -> Answer:
    """What a generator has given beyond the first ``have``, or its outcome."""
    call, have = await _find(asked), int(asked.meta["have"])
    if not await call.wait(asked.wait, beyond=have):
        return NOT_YET
    pieces = call.pieces_beyond(have)
    if call.lasts:
        asked.foreman.ledger.pieces_read(call, have)
    if pieces:
        return Answer({"status": "piece", "trusted": call.trusted}, wire.pack_items(pieces))
    return _outcome(call)


@verb(CALLER, RUNNER)
async def call_used(asked: Asked) -> Answer:
    """What it used, once that is known."""
    call = await _find(asked)
    if not await call.wait(asked.wait, metered=True):
        return NOT_YET
    return Answer(asked.foreman.prices.sum({call.gpu: call.used or Amounts()}))


@verb(CALLER, RUNNER)
async def call_cancel(asked: Asked) -> Answer:
    """Ends it, and the container that it runs in, unless that runs others, too."""
    call = await _find(asked)
    call.fail("CancelledError", f"{call.function}: the call was cancelled")
    app = asked.foreman.apps.get(call.app)
    if app is not None:
        app.cancel(call)
    return Answer({})
