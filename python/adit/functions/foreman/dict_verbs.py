"""Dicts, for whoever has the id of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exception import InvalidError
from .. import wire
from .dicts import ENTRIES_MAX
from .verbs import CALLER, RUNNER, Answer, verb

if TYPE_CHECKING:
    from .dicts import Dict
    from .verbs import Asked


def _find(asked: Asked) -> Dict:
    return asked.foreman.dicts.find(asked.meta["dict"])


def _pairs(payload: bytes) -> list[tuple[bytes, bytes]]:
    items = wire.unpack_items(payload, 2 * (ENTRIES_MAX + 1), "dict, keys and values")
    if len(items) % 2:
        raise InvalidError("dict: a key has no value")
    return list(zip(items[::2], items[1::2], strict=True))


def _value(found: Dict, value: bytes | None) -> Answer:
    return Answer({"found": value is not None, "trusted": found.trusted}, value or b"")


@verb(CALLER, RUNNER)
async def dict_create(asked: Asked) -> Answer:
    """An ephemeral one, or the one of a name."""
    if (answer := await asked.answered()) is not None:
        return answer
    name, missing, dicts = asked.meta.get("name"), bool(asked.meta.get("create", True)), asked.foreman.dicts
    app = asked.app.id if asked.worker else None
    with asked.foreman.shelf.together():
        identity = dicts.named(name, _pairs(asked.payload), missing=missing, trusted=asked.trusted, app=app)
        asked.foreman.shelf.post(*asked.note({"dict": identity}))
    await dicts.is_written()
    if asked.worker and name is None:
        await asked.app.end_with(identity, lambda: dicts.end(identity))
    return Answer({"dict": identity})


@verb(CALLER, RUNNER)
async def dict_end(asked: Asked) -> Answer:
    """Ends an ephemeral one."""
    await asked.foreman.dicts.end(asked.meta["dict"])
    await asked.foreman.dicts.is_written()
    if asked.worker:
        asked.app.endings.pop(asked.meta["dict"], None)
    return Answer({})


@verb(CALLER, RUNNER)
async def dict_put(asked: Asked) -> Answer:
    """Sets values."""
    found = _find(asked)
    if (answer := await asked.answered()) is not None:
        return answer
    found.distrust(asked.trusted)
    skip = bool(asked.meta.get("skip"))
    n = found.put(_pairs(asked.payload), skip=skip, also=lambda n: asked.note({"put": n}))
    await asked.foreman.dicts.is_written()
    return Answer({"put": n})


@verb(CALLER, RUNNER)
async def dict_get(asked: Asked) -> Answer:
    """One value."""
    found = _find(asked)
    return _value(found, found.entries.get(asked.payload))


@verb(CALLER, RUNNER)
async def dict_pop(asked: Asked) -> Answer:
    """One value, which is taken out."""
    found = _find(asked)
    if (answer := await asked.answered()) is not None:
        return answer
    meta = {"found": True, "trusted": found.trusted}
    value = found.pop(asked.payload, lambda value: asked.note(meta, value))
    await asked.foreman.dicts.is_written()
    return _value(found, value)


@verb(CALLER, RUNNER)
async def dict_contains(asked: Asked) -> Answer:
    """Whether there is one."""
    return Answer({"found": asked.payload in _find(asked).entries})


@verb(CALLER, RUNNER)
async def dict_len(asked: Asked) -> Answer:
    """How many there are."""
    return Answer({"n": len(_find(asked).entries)})


@verb(CALLER, RUNNER)
async def dict_items(asked: Asked) -> Answer:
    """All keys, and their values unless they are not wanted."""
    found, values = _find(asked), bool(asked.meta.get("values"))
    items = [item for k, v in found.entries.items() for item in (k, v if values else b"")]
    return Answer({"trusted": found.trusted}, wire.pack_items(items))


@verb(CALLER, RUNNER)
async def dict_clear(asked: Asked) -> Answer:
    """Forgets all."""
    _find(asked).clear()
    await asked.foreman.dicts.is_written()
    return Answer({})
