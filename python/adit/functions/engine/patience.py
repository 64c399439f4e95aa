"""Waiting for an engine that does not answer yet, or for a moment: where all is started at once, or an API server is
replaced, that is nothing to give up for."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from ...exception import RemoteError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    T = TypeVar("T")

ANSWER_S = 30.0
AGAIN_S = 0.5


class UnansweredError(RemoteError):
    """Nobody answered; in a moment somebody may."""


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks again for as long as ANSWER_S, and says so once."""
    last = time.monotonic() + ANSWER_S
    has_told = False
    while True:
        try:
            return await ask()
        except UnansweredError as error:
            if time.monotonic() >= last:
                raise
            if not has_told:
                print(f"adit: {error}: asked again for {ANSWER_S:g} s", file=sys.stderr, flush=True)
                has_told = True
        await asyncio.sleep(AGAIN_S)
