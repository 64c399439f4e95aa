"""``Function`` and ``FunctionCall``: a function of an app as its callers see it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar

from .. import exception
from ..exception import ExecutionError, InvalidError
from . import bundle, plain, session, wire
from .known import Telling
from .traces import RemoteTraceback
from .twin import Twin, TwinIterator, TwinOfInputs, twin

if TYPE_CHECKING:
    from .app import App
    from .remote import Channel
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


@dataclass(frozen=True)
class CallUsage:
    """What a call has used."""

    seconds: float
    core_hours: float
    gib_hours: float
    gpu_hours: float
    price: float | None
    """None when no prices are set."""
    currency: str


class FunctionCall(Telling, Generic[R]):
    """A call under way, or done."""

    _instead: ClassVar[dict[str, str]] = {
        "get_gen": "use remote_gen",
        "iter": "use remote_gen",
        "get_call_graph": "see adit usage",
        "get_current_stats": "see adit usage",
        "gather": "use adit.gather",
    }

    def __init__(self, object_id: str, name: str = "function", channel: Channel | None = None) -> None:
        self.object_id, self._name, self._channel = object_id, name, channel

    def __repr__(self) -> str:
        return f"<adit.FunctionCall {self.object_id} of {self._name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return FunctionCall, (self.object_id, self._name)

    @property
    def _at(self) -> Channel:
        return self._channel or session.channel()

    @staticmethod
    def from_id(object_id: str) -> FunctionCall[Any]:
        """The call of that id."""
        if not isinstance(object_id, str):
            raise InvalidError(f"FunctionCall.from_id: {object_id!r} is no id (such as call.object_id)")
        return FunctionCall(object_id)

    @twin
    def get(self, timeout: float | None = None) -> R:
        """What the function returned, or raises what it raised. adit.exception.TimeoutError when that is not known
        within ``timeout`` seconds. May be asked again."""
        found = self._at.poll("call_get", {"call": self.object_id}, timeout=timeout)
        if found is None:
            raise exception.TimeoutError(f"{self._name}: it has no result yet after {timeout:g} s")
        result: R = _raise_outcome(*found, self._name)
        return result

    @property
    def usage(self) -> CallUsage:
        """What the call has used, from when its container got it to its answer. Waits for its end."""
        found = self._at.poll("call_used", {"call": self.object_id})
        assert found is not None
        return CallUsage(**found[0])

    @twin
    def cancel(self) -> None:
        """Ends it; whoever waits for it gets a CancelledError."""
        self._at.ask("call_cancel", {"call": self.object_id})


plain.handle(
    FunctionCall,
    "call",
    lambda call: [call.object_id, call._name],
    lambda given: FunctionCall(str(given[0]), str(given[1])),
)


def _gather(*calls: FunctionCall[R]) -> list[R]:
    """The results of several calls, in their order; raises the first error."""
    for call in calls:
        if not isinstance(call, FunctionCall):
            raise InvalidError(f"gather: {call!r} is no FunctionCall (such as gather(f.spawn(1), f.spawn(2)))")
    return [call.get() for call in calls]


gather = Twin(_gather)


class Function(Telling, Generic[P, R]):
    """What ``@app.function()`` makes of a function: ``f.remote(...)`` calls it in a container, ``f.local(...)``
    here."""

    _instead: ClassVar[dict[str, str]] = {
        "with_options": "give them to @app.function()",
        "call": "use remote",
        "submit": "use spawn",
        "spawn_map": "use for_each, or spawn each",
        "get_web_url": "use web_url",
        "get_raw_f": "use raw",
        "get_current_stats": "see adit usage",
        "update_autoscaler": "give keep_warm and concurrency_limit to @app.function()",
    }

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
        if not self.spec.module:
            return _serialized, (self.spec.name, self.spec.is_generator)
        return _find, (self.spec.module, self.spec.qualname)

    @staticmethod
    def from_name(app_name: str, name: str) -> Function[..., Any]:
        """A function of a deployed app. NotFoundError when it is first used and there is none."""
        from .deploying import DeployedFunction

        return DeployedFunction(app_name, name)

    @staticmethod
    def lookup(app_name: str, name: str) -> Function[..., Any]:
        """The same, and looks at once whether it is there."""
        found = Function.from_name(app_name, name)
        found.spec  # noqa: B018
        return found

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

    def _payload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[wire.Meta, bytes]:
        return {"function": self.spec.name}, wire.encode((args, kwargs), f"{self.spec.name}: an argument")

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], channel: Channel | None = None) -> FunctionCall[R]:
        where = self._app._where()
        meta, payload = self._payload(args, kwargs)
        channel = channel or self._channel()
        answer, _ = channel.ask("call", {**meta, **where, **channel.once()}, payload)
        return FunctionCall(answer["call"], self.spec.name, channel)

    def _channel(self) -> Channel:
        return session.channel()

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
                found = call._at.poll("call_pieces", {"call": call.object_id, "have": have})
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
    def remote_gen(self) -> TwinIterator[P, Any]:
        """Calls a generator in a container; its values as they come."""
        return TwinIterator(self._remote_gen)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls it in this process."""
        return self.raw(*args, **kwargs)

    @property
    def map(self) -> TwinIterator[..., R]:
        """``f.map(inputs)`` calls it for each input (of several iterators, for each set of them), as many at once as
        its limits let, and yields the results, in the order of the inputs or, with ``order_outputs=False``, as they
        come. The first exception is raised; with ``return_exceptions=True`` it stands in the place of its result.
        ``kwargs={...}`` are the same for all."""
        return TwinIterator(self._map)

    @property
    def starmap(self) -> TwinIterator[..., R]:
        """``map`` for inputs that are tuples of arguments."""
        return TwinIterator(self._starmap)

    @property
    def for_each(self) -> TwinOfInputs[..., None]:
        """``f.for_each(inputs)`` calls it for each input, and returns nothing. The first exception is raised, unless
        ``ignore_exceptions=True``."""
        return TwinOfInputs(self._for_each)

    def _map(
        self,
        *input_iterators: Iterable[Any],
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        if not input_iterators:
            raise InvalidError(f"{self.spec.name}.map: it takes inputs (such as {self.spec.name}.map(range(10)))")
        inputs = zip(*input_iterators)
        return self._starmap(inputs, kwargs=kwargs, order_outputs=order_outputs, return_exceptions=return_exceptions)

    def _starmap(
        self,
        input_iterator: Iterable[Any],
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        self._check("map")
        return self._each(input_iterator, kwargs or {}, order_outputs, return_exceptions)

    def _each(self, inputs: Iterable[Any], kwargs: dict[str, Any], ordered: bool, tolerant: bool) -> Iterator[Any]:
        remaining = iter(inputs)
        channel: Channel | None = None  # that of the first call, for all
        outcomes: dict[
            str, tuple[wire.Meta, bytes] | None
        ] = {}  # of the calls under way, in their order; None: not yet
        taken: list[str] = []  # by the last question, which the foreman does not know yet
        try:
            while True:
                for arguments in itertools.islice(remaining, INPUTS_AHEAD - len(outcomes)):
                    call = self._begin(tuple(arguments), kwargs, channel)
                    outcomes[call.object_id], channel = None, call._at
                if not outcomes or channel is None:
                    return
                there = [identity for identity, outcome in outcomes.items() if outcome is not None]
                if there and (not ordered or there[0] == next(iter(outcomes))):
                    outcome = outcomes.pop(there[0])
                    assert outcome is not None
                    yield self._result(*outcome, tolerant)
                else:
                    found = _take(channel, [i for i, outcome in outcomes.items() if outcome is None], taken)
                    outcomes |= found
                    taken = list(found)
        finally:
            if channel is not None and taken:
                with contextlib.suppress(exception.Error):
                    channel.ask("calls_take", {"calls": [], "taken": taken})
            for identity, outcome in outcomes.items():  # when it was left early
                if outcome is None:
                    with contextlib.suppress(exception.Error):
                        FunctionCall(identity, channel=channel).cancel()

    def _result(self, meta: wire.Meta, payload: bytes, tolerant: bool) -> Any:
        try:
            return _raise_outcome(meta, payload, self.spec.name)
        except Exception as error:
            if not tolerant:
                raise
            return error

    def _for_each(
        self, *input_iterators: Iterable[Any], kwargs: dict[str, Any] | None = None, ignore_exceptions: bool = False
    ) -> None:
        for _ in self._map(*input_iterators, kwargs=kwargs, order_outputs=False, return_exceptions=ignore_exceptions):
            pass


class AsyncFunction(Function[P, R]):
    """Likewise, of a coroutine: a container waits for it, and whoever calls it here does."""

    if TYPE_CHECKING:

        def local(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
            """Calls it in this process."""


def _take(channel: Channel, calls: list[str], taken: list[str]) -> dict[str, tuple[wire.Meta, bytes]]:
    """What came of some of these. Nobody asks again for those that were ``taken`` before."""
    found = channel.poll("calls_take", {"calls": calls, "taken": taken})
    assert found is not None
    metas: list[tuple[str, wire.Meta]] = found[0]["outcomes"]
    return {identity: (meta, data) for (identity, meta), data in zip(metas, wire.unpack_items(found[1]), strict=True)}


def is_generator(raw: Callable[..., Any]) -> bool:
    """Whether calling it gives an iterator."""
    return inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw)


def _serialized(name: str, generator: bool) -> Any:
    """A function without a module, in another process: it can be called in a container from there, and no more."""
    from .app import App
    from .spec import FunctionSpec

    def raw(*_: Any, **__: Any) -> Any:
        raise InvalidError(f"{name}.local: it is not here, as it is serialized (use {name}.remote)")

    return Function(App(), raw, FunctionSpec(name, "", "", is_generator=generator))


def _find(module: str, qualname: str) -> Any:
    """A function that was sent to another process is that of the module there."""
    return bundle.find(module, qualname)
