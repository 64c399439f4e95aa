"""What an engine does beside all else, and how that ends."""

from __future__ import annotations

import asyncio

AGAIN_S = 0.5


async def end(*tasks: asyncio.Task[None] | None) -> None:
    """Cancels them until they have ended: wait_for() of Python before 3.12 swallows a cancellation that comes with what
    it waits for."""
    left = {task for task in tasks if task is not None}
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=AGAIN_S)
        await asyncio.gather(*ended, return_exceptions=True)  # else their errors would be told
