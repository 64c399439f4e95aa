"""Calls with an asynchronous twin: ``f(...)`` waits, ``await f.aio(...)`` waits without blocking the event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


async def in_thread(call: Callable[[], R]) -> R:
    """What the call returns. The interpreter does not wait for its thread, which may wait for as long as it likes."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[R] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as e:
            error = e if not isinstance(e, StopIteration) else RuntimeError("StopIteration")
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="adit-waits", daemon=True).start()
    return await done


class Twin(Generic[P, R]):
    """A call, with ``.aio``."""

    def __init__(self, call: Callable[P, R]) -> None:
        self._call = call
        functools.update_wrapper(self, call)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(*args, **kwargs)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, for ``await``."""
        return await in_thread(functools.partial(self._call, *args, **kwargs))


class twin(Generic[S, P, R]):
    """Makes a method such a call."""

    def __init__(self, method: Callable[Concatenate[S, P], R]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, obj: S, owner: type | None = None) -> Twin[P, R]:
        return Twin(functools.partial(self._method, obj))
