"""Queues, for whoever has the id of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import exception
from .. import wire
from .queues import ITEMS_MAX
from .verbs import CALLER, NOT_YET, RUNNER, Answer, verb

if TYPE_CHECKING:
    from .queues import Queue
    from .verbs import Asked


def _find(asked: Asked) -> Queue:
    return asked.foreman.queues.find(asked.meta["queue"])


@verb(CALLER, RUNNER)
async def queue_create(asked: Asked) -> Answer:
    """An ephemeral one, or the one of a name."""
    if (answer := await asked.answered()) is not None:
        return answer
    name, queues = asked.meta.get("name"), asked.foreman.queues
    missing = bool(asked.meta.get("create", True))
    app = asked.app.id if asked.worker else None
    with asked.foreman.shelf.together():
        identity = queues.named(name, int(asked.meta.get("maxsize", 0)), missing=missing, app=app)
        asked.foreman.shelf.post(*asked.note({"queue": identity}))
    await queues.is_written()
    if asked.worker and name is None:
        await asked.app.end_with(identity, lambda: queues.end(identity))
    return Answer({"queue": identity})


@verb(CALLER, RUNNER)
async def queue_end(asked: Asked) -> Answer:
    """Ends an ephemeral one."""
    await asked.foreman.queues.end(asked.meta["queue"])
    await asked.foreman.queues.is_written()
    if asked.worker:
        asked.app.endings.pop(asked.meta["queue"], None)
    return Answer({})


@verb(CALLER, RUNNER)
async def queue_put(asked: Asked) -> Answer:
    """Puts items."""
    queue, ttl = _find(asked), float(asked.meta["ttl"])
    items = wire.unpack_items(asked.payload, ITEMS_MAX, "queue")
    partition, some = str(asked.meta["partition"]), bool(asked.meta.get("some"))
    if (answer := await asked.answered()) is not None:
        return answer
    try:
        queue.distrust(asked.trusted)
        also = lambda n: asked.note({"put": n})  # noqa: E731
        n = await queue.put(items, partition, ttl, asked.wait, some=some, also=also)
    except exception.QueueFullError:
        return NOT_YET
    return Answer({"put": n})


@verb(CALLER, RUNNER)
async def queue_get(asked: Asked) -> Answer:
    """Takes items; they are put back when whoever asked goes away before they are sent."""
    queue, partition, once = _find(asked), str(asked.meta["partition"]), asked.once
    items = await queue.get(int(asked.meta["n"]), partition, asked.wait, once)
    if not items:
        return NOT_YET
    meta = {"n": len(items), "trusted": queue.trusted, "acknowledge": bool(once)}
    payload = wire.pack_items([item for _, item in items])
    if once:
        return Answer(meta, payload, undo=lambda: queue.take_back(once))
    return Answer(meta, payload, undo=lambda: queue.put_back(items, partition), sent=lambda: queue.sent(items))


@verb(CALLER, RUNNER)
async def queue_got(asked: Asked) -> Answer:
    """They have come."""
    queue = _find(asked)
    if await asked.answered() is None:
        await queue.acknowledge(asked.once, asked.note({}))
    return Answer({})


@verb(CALLER, RUNNER)
async def queue_peek(asked: Asked) -> Answer:
    """Items that stay."""
    queue = _find(asked)
    return Answer({"trusted": queue.trusted}, wire.pack_items(queue.peek(str(asked.meta["partition"]))))


@verb(CALLER, RUNNER)
async def queue_len(asked: Asked) -> Answer:
    """How many there are."""
    return Answer({"n": _find(asked).count(str(asked.meta["partition"]), total=bool(asked.meta.get("total")))})


@verb(CALLER, RUNNER)
async def queue_clear(asked: Asked) -> Answer:
    """Forgets items."""
    await _find(asked).clear(str(asked.meta["partition"]), everything=bool(asked.meta.get("all")))
    await asked.foreman.queues.is_written()
    return Answer({})
