"""A container's work: it fetches its program and its calls, and answers them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ...exception import InvalidError
from .. import wire
from ..spec import ImageSpec
from .verbs import NOT_YET, RUNNER, Answer, verb
from .worker import SPARE_LIFE_S

if TYPE_CHECKING:
    from .verbs import Asked

TOKEN_LIFE_S = 24 * 3600  # or the function's timeout, if that is longer


@verb(RUNNER)
async def work(asked: Asked) -> Answer:
    """What a runner begins with."""
    worker = asked.container
    if not await worker.find_work(asked.wait):
        return Answer({"not_yet": True, "likely": asked.app.likely_modules, "tunnels": asked.app.opens_tunnels})
    await worker.settle_in()
    spec = worker.pool.spec
    # The spec of this function alone: others have secrets of their own. Of its image it needs nothing any more, and its
    # steps may have secrets, too.
    told = asdict(replace(spec, image=ImageSpec()))
    return Answer({"spec": told, "app_id": asked.app.id}, worker.pool.bundle)


@verb(RUNNER)
async def token(asked: Asked) -> Answer:
    """For its tunnels, and how long it is good for: a container that lives for longer asks again."""
    worker = asked.container
    if not worker.pool.spare:
        asked.app.opens_tunnels = True
    timeout = worker.pool.spec.timeout
    life = max(timeout, TOKEN_LIFE_S) + SPARE_LIFE_S
    token, seconds = await asked.foreman.relay.token_for(worker, life, timeout + SPARE_LIFE_S / 2)
    return Answer({"token": token, "life": seconds})


@verb(RUNNER)
async def ready(asked: Asked) -> Answer:
    """The function is there and can be called."""
    asked.container.is_ready()
    return Answer({})


@verb(RUNNER)
async def refused(asked: Asked) -> Answer:
    """Its program cannot be imported; calls are answered with that."""
    asked.container.refused = wire.clip(str(asked.meta["text"]), 2 * wire.OUTCOME_MAX["message"])
    return Answer({})


@verb(RUNNER)
async def next(asked: Asked) -> Answer:
    """The next call, for one of the runner's slots."""
    worker, slot = asked.container, int(asked.meta.get("slot", 0))
    pool = worker.pool
    if not 0 <= slot < pool.spec.concurrent:
        raise InvalidError(f"next: slot {slot} is not one of {pool.spec.concurrent}")
    worker.is_ready()
    call = worker.calls.get(slot) or await pool.take(worker, 0)
    if call is None and pool.may_end(worker):
        pool.end(worker)
    if call is None:
        call = await pool.take(worker, min(asked.wait, pool.spec.idle_timeout))
    if call is None:
        return Answer({"end": True}) if worker.ending else NOT_YET
    if (given := worker.calls.get(slot, call)) is not call:  # to another who has asked for the same slot meanwhile
        pool.put_back(call)
        call = given
    if slot not in worker.calls:
        worker.begin(call, slot)
        await (await worker.metered()).begin_call(call.id)
    await call.is_saved()  # a foreman that comes back knows that it was given away
    return Answer({"call": call.id, "trusted": call.trusted or not call.inside}, call.payload)


@verb(RUNNER)
async def piece(asked: Asked) -> Answer:
    """A generator's next value."""
    call = asked.container.find(str(asked.meta["call"]))[1]
    number = int(asked.meta.get("seq", call.given))
    if number == call.given:  # else it came before, which the runner has not heard
        asked.container.give(call, asked.payload)
    await call.is_saved()
    return Answer({})


@verb(RUNNER)
async def over(asked: Asked) -> Answer:
    """Calls that are over while they run, beyond the first ``have``."""
    worker, have = asked.container, int(asked.meta["have"])
    if len(worker.over) <= have:
        worker.news.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(worker.news.wait(), asked.wait)
    return Answer({"over": worker.over[have:]}) if len(worker.over) > have else NOT_YET


@verb(RUNNER)
async def result(asked: Asked) -> Answer:
    """What came of a call."""
    outcome = wire.clip_outcome(dict(asked.meta["outcome"]))
    if outcome.get("status") not in ("ok", "raised"):
        raise InvalidError("result: its status is unknown")
    worker = asked.container
    call = worker.find(str(asked.meta["call"]))[1]
    if call.lasts and not asked.foreman.ledger.has_room(len(asked.payload)):
        worker.wait_with(call)
        return NOT_YET
    metered = await worker.metered()
    call.add_used(await metered.end_call(call.id), metered.bill.gpu)  # the runner waits until this is known
    worker.finish(call.id, outcome, asked.payload)
    await call.is_saved()
    return Answer({})


@verb(RUNNER)
async def passed(asked: Asked) -> Answer:
    """What has come through its tunnels, as it says; it is believed where nobody else can tell."""
    streams, count = asked.meta["streams"], asked.meta["bytes"]
    if type(streams) is not int or type(count) is not int:
        raise InvalidError("passed: these are no numbers of streams and bytes")
    metered = await asked.container.metered()
    if not await metered.count():
        metered.passed(streams, count)
    return Answer({})


@verb(RUNNER)
async def leave(asked: Asked) -> Answer:
    """It ends, when it has this answer."""
    await (await asked.container.metered()).leaves()
    return Answer({})
