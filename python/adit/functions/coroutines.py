"""How a runner waits for functions that are coroutines: in one event loop, which stays the same from call to call, as
what they keep may be bound to it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Coroutine

    from .remote import Channel


class Alone:
    """Of a runner with one call at a time."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(self, coroutine: Coroutine[Any, Any, Any], call: str) -> Any:
        """Its result."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(coroutine)


class Together:
    """Of a runner with several calls at a time: their loop is a thread of its own, and a call that is over is cancelled
    in it."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._loop = channel, asyncio.new_event_loop()
        self._waiting: dict[str, concurrent.futures.Future[Any]] = {}
        self._lock = threading.Lock()  # what has begun may be cancelled before it is known as begun
        threading.Thread(target=self._loop.run_forever, name="adit-loop", daemon=True).start()
        threading.Thread(target=self._watch, name="adit-over", daemon=True).start()

    def wait(self, coroutine: Coroutine[Any, Any, Any], call: str) -> Any:
        """Its result."""
        with self._lock:
            future = self._waiting[call] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        finally:
            del self._waiting[call]

    def _watch(self) -> None:
        have = 0
        while True:
            found = self._channel.poll("over", {"have": have})
            assert found is not None
            have += len(found[0]["over"])
            for call in found[0]["over"]:
                with self._lock:
                    future = self._waiting.get(call)
                if future is not None:
                    future.cancel()
