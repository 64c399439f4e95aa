"""A container's work: it fetches its program and its calls, and answers them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ...exception import InvalidError, NotFoundError
from ..spec import ImageSpec
from .verbs import NOT_YET, RUNNER, Answer, verb
from .worker import SPARE_LIFE_S

if TYPE_CHECKING:
    from .verbs import Asked


@verb(RUNNER)
async def work(asked: Asked) -> Answer:
    """What a runner begins with."""
    worker = asked.container
    spec = worker.pool.spec
    token = await asked.foreman.relay.token_for(f"fn-{worker.id}", spec.timeout + SPARE_LIFE_S)
    # The spec of this function alone: others have secrets of their own. Of its image it needs nothing any more, and its
    # steps may have secrets, too.
    told = asdict(replace(spec, image=ImageSpec()))
    return Answer({"spec": told, "app_id": asked.app.id, "token": token}, asked.app.bundle)


@verb(RUNNER)
async def ready(asked: Asked) -> Answer:
    """The function is there and can be called."""
    asked.container.is_ready()
    return Answer({})


@verb(RUNNER)
async def next(asked: Asked) -> Answer:
    """The next call."""
    worker = asked.container
    worker.is_ready()
    call = worker.call or await worker.pool.take(worker, 0)
    if call is None:
        if worker.pool.may_end(worker):
            return Answer({"end": True})
        call = await worker.pool.take(worker, min(asked.wait, worker.pool.spec.idle_timeout))
    if call is None:
        return NOT_YET
    if worker.call is None:
        worker.begin(call)
    return Answer({"call": call.id, "trusted": call.trusted or not call.inside}, call.payload)


@verb(RUNNER)
async def piece(asked: Asked) -> Answer:
    """A generator's next value."""
    worker = asked.container
    if worker.call is None or worker.call.id != asked.meta["call"]:
        raise NotFoundError("call: it is not this container's")
    worker.call.give(asked.payload)
    return Answer({})


@verb(RUNNER)
async def result(asked: Asked) -> Answer:
    """What came of a call."""
    outcome = dict(asked.meta["outcome"])
    if outcome.get("status") not in ("ok", "raised"):
        raise InvalidError("result: its status is unknown")
    asked.container.finish(str(asked.meta["call"]), outcome, asked.payload)
    return Answer({})
