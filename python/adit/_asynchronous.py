"""Waiting in event loops: asyncio's and trio's, and so anyio's on either. What blocks does so in a thread of its own,
since the loop's may all be busy with what uses the tunnel."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def _trio() -> Any:
    """The module, in a task of its own; else None."""
    sniffio = sys.modules.get("sniffio")  # which trio has imported, and by which it tells
    with contextlib.suppress(RuntimeError):  # outside any event loop
        if sniffio is not None and sniffio.current_async_library() == "trio":
            return sys.modules["trio"]
    return None


class Signal:
    """Set from any thread, awaited in the event loop in which it was made."""

    def __init__(self) -> None:
        trio = _trio()
        if trio is not None:
            self._soon = trio.lowlevel.current_trio_token().run_sync_soon
            self._event = trio.Event()
        else:
            import asyncio  # noqa: PLC0415

            self._soon = asyncio.get_running_loop().call_soon_threadsafe
            self._event = asyncio.Event()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._soon(self._event.set)

    async def wait(self) -> None:
        await self._event.wait()


class Call(Generic[_T]):
    """A call in a thread of its own. The interpreter does not wait for it at exit: the client closes."""

    def __init__(self, call: Callable[..., _T], *args: object) -> None:
        self._call, self._args, self._done = call, args, Signal()
        self.failed = False
        self._results: list[_T] = []
        self._errors: list[BaseException] = []
        threading.Thread(target=self._run, name="adit-waits", daemon=True).start()

    def _run(self) -> None:
        try:
            self._results.append(self._call(*self._args))
        except BaseException as error:
            self._errors.append(error)
            self.failed = True
        self._done.set()

    async def outcome(self) -> _T:
        """What it returns or raises. The call goes on when this is cancelled."""
        await self._done.wait()
        if self._errors:
            raise self._errors.pop()
        return self._results.pop()


def is_cancelled(error: BaseException) -> bool:
    """Whether a task was called back by it, and may still await something."""
    trio, asyncio = _trio(), sys.modules.get("asyncio")
    if trio is not None:
        return isinstance(error, trio.Cancelled)
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def undisturbed() -> contextlib.AbstractContextManager[object]:
    """A block in which a task may await something although it was cancelled: with trio and anyio it would be cancelled
    anew at each await, while with asyncio a second time means what it says."""
    scopes = _trio() or sys.modules.get("anyio")
    return contextlib.nullcontext() if scopes is None else scopes.CancelScope(shield=True)
