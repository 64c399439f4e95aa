"""``Function`` and ``FunctionCall``: a function of an app as its callers see it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from .. import exception
from ..exception import ExecutionError, InvalidError
from . import bundle, plain, session, wire
from .twin import Twin, in_thread, twin

if TYPE_CHECKING:
    from .app import App
    from .spec import FunctionSpec

P = ParamSpec("P")
R = TypeVar("R")
INPUTS_AHEAD = 200  # of a map, under way at once


def _raise_outcome(meta: wire.Meta, payload: bytes, name: str) -> Any:
    """Returns or raises what came of a call."""
    status, trusted = meta.get("status"), bool(meta.get("trusted"))
    if status == "ok":
        return wire.decode(payload, trusted=trusted, what=f"{name}: its result")
    if status == "raised":
        trace = str(meta.get("traceback", "")).rstrip()
        try:
            error = wire.decode(payload, trusted=trusted, what=f"{name}: its exception") if payload else None
        except ExecutionError:
            error = None
        if not isinstance(error, BaseException):
            error = ExecutionError(f"{name}: {meta.get('type')}: {meta.get('message')}")
        error.__cause__ = RemoteTraceback(trace)
        raise error
    kind = getattr(exception, str(meta.get("error")), ExecutionError)
    raise kind(str(meta.get("text")))


class RemoteTraceback(Exception):
    """Where in its container a function failed."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class FunctionCall(Generic[R]):
    """A call under way, or done."""

    def __init__(self, object_id: str, name: str = "function") -> None:
        self.object_id, self._name = object_id, name

    def __repr__(self) -> str:
        return f"<adit.FunctionCall {self.object_id} of {self._name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return FunctionCall, (self.object_id, self._name)

    @staticmethod
    def from_id(object_id: str) -> FunctionCall[Any]:
        """The call of that id."""
        return FunctionCall(object_id)

    @twin
    def get(self, timeout: float | None = None) -> R:
        """What the function returned, or raises what it raised. adit.exception.TimeoutError when that is not known
        within ``timeout`` seconds. May be asked again."""
        found = session.channel().poll("call_get", {"call": self.object_id}, timeout=timeout)
        if found is None:
            raise exception.TimeoutError(f"{self._name}: it has no result yet after {timeout:g} s")
        result: R = _raise_outcome(*found, self._name)
        return result

    @twin
    def cancel(self) -> None:
        """Ends it; whoever waits for it gets a CancelledError."""
        session.channel().ask("call_cancel", {"call": self.object_id})


plain.handle(
    FunctionCall, "call", lambda call: [call.object_id, call._name], lambda given: FunctionCall(*map(str, given))
)


def gather(*calls: FunctionCall[Any]) -> list[Any]:
    """The results of several calls, in their order; raises the first error."""
    return [call.get() for call in calls]


class Function(Generic[P, R]):
    """What ``@app.function()`` makes of a function: ``f.remote(...)`` calls it in a container, ``f.local(...)``
    here."""

    def __init__(self, app: App, raw: Callable[P, R], spec: FunctionSpec) -> None:
        self._app, self.raw, self.spec = app, raw, spec
        functools.update_wrapper(self, raw)

    def __repr__(self) -> str:
        return f"<adit.Function {self.spec.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        name = self.spec.name
        raise TypeError(
            f"{name}: it is not called itself (use {name}.remote(...) for a container, {name}.local(...) for here)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _find, (self.spec.module, self.spec.qualname)

    @property
    def web_url(self) -> str | None:
        """Where its endpoint is, while the app is served; None otherwise."""
        return self._app._urls.get(self.spec.name)

    @property
    def is_generator(self) -> bool:
        """Whether it yields."""
        return self.spec.is_generator

    def _check(self, how: str, generator: bool = False) -> None:
        name = self.spec.name
        if self.spec.web is not None:
            raise InvalidError(f"{name}.{how}: it is a web endpoint (fetch {name}.web_url, or take @web_endpoint away)")
        if self.spec.is_generator and not generator:
            raise InvalidError(f"{name}.{how}: it is a generator (use {name}.remote_gen(...))")
        if generator and not self.spec.is_generator:
            raise InvalidError(f"{name}.{how}: it is no generator (use {name}.remote(...))")

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FunctionCall[R]:
        payload = wire.encode((args, kwargs), f"{self.spec.name}: an argument")
        meta = {"function": self.spec.name, **self._app._where()}
        answer, _ = session.channel().ask("call", meta, payload)
        return FunctionCall(answer["call"], self.spec.name)

    def _remote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        self._check("remote")
        return self._begin(args, kwargs).get()

    def _spawn(self, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R]:
        if self.spec.web is not None:
            self._check("spawn")
        return self._begin(args, kwargs)

    def _remote_gen(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
        self._check("remote_gen", generator=True)
        call, have = self._begin(args, kwargs), 0
        try:
            while True:
                found = session.channel().poll("call_pieces", {"call": call.object_id, "have": have})
                assert found is not None
                meta, payload = found
                if meta.get("status") != "piece":
                    _raise_outcome(meta, payload, self.spec.name)
                    return
                for piece in wire.unpack_items(payload):
                    have += 1
                    yield wire.decode(piece, trusted=bool(meta.get("trusted")), what=f"{self.spec.name}: a value")
        except GeneratorExit:
            call.cancel()
            raise

    @property
    def remote(self) -> Twin[P, R]:
        """Calls it in a container and waits for the result."""
        return Twin(self._remote)

    @property
    def spawn(self) -> Twin[P, FunctionCall[R]]:
        """Calls it in a container and does not wait."""
        return Twin(self._spawn)

    @property
    def remote_gen(self) -> TwinIterator[P]:
        """Calls a generator in a container; its values as they come."""
        return TwinIterator(self._remote_gen)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls it in this process."""
        return self.raw(*args, **kwargs)

    def map(
        self,
        *input_iterators: Iterable[Any],
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """Calls it for each input (of several iterators, for each set of them), as many at once as its limits let, and
        yields the results, in the order of the inputs or, with ``order_outputs=False``, as they come. The first
        exception is raised; with ``return_exceptions=True`` it stands in the place of its result."""
        return self.starmap(
            zip(*input_iterators), kwargs=kwargs, order_outputs=order_outputs, return_exceptions=return_exceptions
        )

    def starmap(
        self,
        input_iterator: Iterable[Any],
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """``map`` for inputs that are tuples of arguments."""
        self._check("map")
        return self._map(input_iterator, kwargs or {}, order_outputs, return_exceptions)

    def _map(self, inputs: Iterable[Any], kwargs: dict[str, Any], ordered: bool, tolerant: bool) -> Iterator[Any]:
        def outcome(call: FunctionCall[R]) -> Any:
            try:
                return call.get()
            except Exception as error:
                if not tolerant:
                    raise
                return error

        under_way: list[Any] = []
        calls: dict[Any, FunctionCall[R]] = {}
        remaining = iter(inputs)
        with ThreadPoolExecutor(INPUTS_AHEAD, "adit-map") as threads:
            try:
                while True:
                    while len(under_way) < INPUTS_AHEAD:
                        try:
                            arguments = next(remaining)
                        except StopIteration:
                            break
                        call = self._begin(tuple(arguments), kwargs)
                        future = threads.submit(outcome, call)
                        calls[future] = call
                        under_way.append(future)
                    if not under_way:
                        return
                    future = under_way[0] if ordered else _first_done(under_way)
                    result = future.result()
                    under_way.remove(future)
                    del calls[future]
                    yield result
            finally:
                for call in calls.values():  # when it was left early
                    call.cancel()

    def for_each(
        self, *input_iterators: Iterable[Any], kwargs: dict[str, Any] | None = None, ignore_exceptions: bool = False
    ) -> None:
        """Calls it for each input, and returns nothing."""
        for _ in self.map(*input_iterators, kwargs=kwargs, order_outputs=False, return_exceptions=ignore_exceptions):
            pass


def _first_done(futures: list[Any]) -> Any:
    from concurrent.futures import FIRST_COMPLETED, wait

    done = wait(futures, return_when=FIRST_COMPLETED).done
    return next(future for future in futures if future in done)


class TwinIterator(Generic[P]):
    """A call that yields, with ``.aio``."""

    def __init__(self, call: Callable[P, Iterator[Any]]) -> None:
        self._call = call

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
        return self._call(*args, **kwargs)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Any]:
        """The same, for ``async for``."""
        values, end = self._call(*args, **kwargs), object()
        while (value := await in_thread(functools.partial(next, values, end))) is not end:
            yield value


def is_generator(raw: Callable[..., Any]) -> bool:
    """Whether calling it gives an iterator."""
    return inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw)


def _find(module: str, qualname: str) -> Any:
    """A function that was sent to another process is that of the module there."""
    return bundle.find(module, qualname)
