"""Calls with an asynchronous twin: ``f(...)`` waits, ``await f.aio(...)`` waits without blocking the event loop."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)


async def in_thread(call: Callable[[], R]) -> R:
    """What the call returns. The interpreter does not wait for its thread, which may wait for as long as it likes."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[R] = loop.create_future()

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as e:
            error = e if not isinstance(e, StopIteration) else RuntimeError("StopIteration")
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, done, result, error)

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


class _Stepper(Generic[R]):
    """An iterator in a thread of its own, a value at a time when it is asked for."""

    def __init__(self, values: Iterator[R]) -> None:
        self._values, self._steps = values, queue.SimpleQueue[Callable[[], None] | None]()
        threading.Thread(target=self._run, name="adit-yields", daemon=True).start()

    def _run(self) -> None:
        while (step := self._steps.get()) is not None:
            step()
        close = getattr(self._values, "close", None)  # of a generator: it may have to clean up
        if close is not None:
            close()

    async def next(self, end: Any) -> Any:
        """The next value, or ``end``."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def step() -> None:
            value, error = end, None
            try:
                value = next(self._values, end)
            except BaseException as e:
                error = e
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, done, value, error)

        self._steps.put(step)
        return await done

    def close(self) -> None:
        """No more values are wanted; not waited for, since one may be waited for at this moment."""
        self._steps.put(None)


def _bridged(values: Any, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    """An asynchronous iterator, for a thread that is not the loop's."""
    steps, end = values.__aiter__(), object()

    async def following() -> Any:
        try:
            return await steps.__anext__()
        except StopAsyncIteration:
            return end

    while (value := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not end:
        yield value


def _bridged_all(args: Any) -> Any:
    loop = asyncio.get_running_loop()
    return [_bridged(arg, loop) if hasattr(arg, "__aiter__") else arg for arg in args]


class TwinOfInputs(Twin[P, R]):
    """A call whose arguments are iterators, asynchronous ones, too, where it is ``.aio``."""

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, for ``await``."""
        given: Any = _bridged_all(args)
        return await in_thread(functools.partial(self._call, *given, **kwargs))


class TwinIterator(Generic[P, R]):
    """A call that yields, with ``.aio``."""

    def __init__(self, call: Callable[P, Iterator[R]]) -> None:
        self._call = call
        functools.update_wrapper(self, call)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        return self._call(*args, **kwargs)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        """The same, for ``async for``. Inputs may be asynchronous iterators, too."""
        given: Any = _bridged_all(args)
        stepper, end = _Stepper(self._call(*given, **kwargs)), object()
        try:
            while (value := await stepper.next(end)) is not end:
                yield value
        finally:
            stepper.close()


class twin_iterator(Generic[S, P, R]):
    """Makes a method such a call."""

    def __init__(self, method: Callable[Concatenate[S, P], Iterator[R]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, obj: S, owner: type | None = None) -> TwinIterator[P, R]:
        return TwinIterator(functools.partial(self._method, obj))
