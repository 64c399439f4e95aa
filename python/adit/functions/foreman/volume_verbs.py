"""Ephemeral volumes of the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .verbs import CALLER, Answer, verb

if TYPE_CHECKING:
    from .verbs import Asked


@verb(CALLER)
async def volume_create(asked: Asked) -> Answer:
    """One for a block."""
    await asked.foreman.volumes.hold(asked.meta["volume"])
    return Answer({})


@verb(CALLER)
async def volume_end(asked: Asked) -> Answer:
    """Its end."""
    await asked.foreman.volumes.end(asked.meta["volume"])
    return Answer({})
