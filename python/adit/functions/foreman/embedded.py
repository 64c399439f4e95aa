"""A foreman inside its caller's process, in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import threading
from typing import TYPE_CHECKING

from .. import engines
from . import spending
from .foreman import Foreman

if TYPE_CHECKING:
    from ..engine import Engine

CLOSE_S = 30.0
FINISH_S = 5.0


class EmbeddedForeman:
    """Starts with its first use and ends with the process, or before."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._foreman: Foreman | None = None
        self._thread = threading.Thread(target=self._run, name="adit-foreman", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        atexit.register(self.close)

    @property
    def path(self) -> str:
        """Of the caller's socket."""
        assert self._foreman is not None
        return self._foreman.path

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
        finally:
            self._ready.set()
            self._loop.run_until_complete(self._finish())
            self._loop.close()

    async def _finish(self) -> None:
        """What was cancelled may still be clearing up."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            _, late = await asyncio.wait(left, timeout=FINISH_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _live(self) -> None:
        self._stop = asyncio.Event()
        try:
            engine: Engine = await engines.connect()
            self._foreman = Foreman(engine, budget=spending.wanted())
            await self._foreman.open()
        except BaseException as error:
            self._failure = error
            if self._foreman is not None:
                await self._foreman.close()
            return
        self._ready.set()
        await self._stop.wait()
        await self._foreman.close()

    def close(self) -> None:
        """Ends it with all its containers."""
        atexit.unregister(self.close)
        if self._thread.is_alive() and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(CLOSE_S)
