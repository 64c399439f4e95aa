"""``@app.cls()``: classes whose objects live in containers. What is expensive to make is made once, below ``@enter()``,
and what stands below ``@method()`` is called many times."""

from __future__ import annotations

import functools
import hashlib
import inspect
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar, overload

from ..exception import InvalidError
from . import bundle, wire
from .function import AsyncFunction, Function, is_generator
from .known import Telling, by_name, missing
from .living import GIVEN, HOOK, Given, make
from .options import check_tries
from .web import WebFunction, check_answers

if TYPE_CHECKING:
    from .app import App
    from .spec import FunctionSpec

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
_CLS = "__adit_cls__"


# --- what stands above a class's functions ---


class Method(Generic[P, R]):
    """A method that is called in a container: ``obj.method.remote(...)``."""

    def __init__(self, raw: Callable[Concatenate[Any, P], R], generator: bool) -> None:
        self.raw, self.is_generator = raw, generator
        self.__name__, self.__doc__ = raw.__name__, raw.__doc__

    @overload
    def __get__(self, obj: None, owner: type) -> Method[P, R]: ...
    @overload
    def __get__(self, obj: object, owner: type) -> Function[P, R]: ...
    def __get__(self, obj: object, owner: type) -> Any:
        if obj is None:
            return self
        cls: Cls | None = getattr(owner, _CLS, None)
        if cls is None:
            raise InvalidError(f"{owner.__name__}.{self.__name__}: @method() is for classes with @app.cls() above them")
        return _Bound(cls, self, getattr(obj, GIVEN, ((), {})), lambda: obj)


class AsyncMethod(Method[P, R]):
    """Likewise, of a coroutine."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, obj: None, owner: type) -> AsyncMethod[P, R]: ...
        @overload
        def __get__(self, obj: object, owner: type) -> AsyncFunction[P, R]: ...
        def __get__(self, obj: object, owner: type) -> Any: ...


class _MethodDecorator:
    """What ``method(...)`` returns."""

    def __init__(self, generator: bool | None) -> None:
        self._generator = generator

    @overload
    def __call__(self, raw: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> AsyncMethod[P, R]: ...
    @overload
    def __call__(self, raw: Callable[Concatenate[Any, P], R]) -> Method[P, R]: ...
    def __call__(self, raw: Any) -> Any:
        if isinstance(raw, WebFunction):
            raise InvalidError("@method(): a web endpoint has the web's visitors (leave @method() away)")
        if not inspect.isfunction(raw):
            raise InvalidError(f"@method(): {raw!r} is no function of a class")
        return Method(raw, is_generator(raw) if self._generator is None else self._generator)


@by_name
def method(_: object = None, /, *, is_generator: bool | None = None) -> _MethodDecorator:
    """Above a function of a class with ``@app.cls()``: it can be called in a container."""
    if _ is not None:
        raise InvalidError("@method: it needs parentheses (@method())")
    return _MethodDecorator(is_generator)


def _hook(name: str, given: object) -> Callable[[F], F]:
    if given is not None:
        raise InvalidError(f"@{name}: it needs parentheses (@{name}())")

    def decorate(raw: F) -> F:
        if not inspect.isfunction(raw):
            raise InvalidError(f"@{name}(): {raw!r} is no function of a class")
        setattr(raw, HOOK, name)
        return raw

    return decorate


def enter(_: object = None, /) -> Callable[[F], F]:
    """Above a function of a class: it is called once, when the object has been made in its container."""
    return _hook("enter", _)


def exit(_: object = None, /) -> Callable[[F], F]:
    """Above a function of a class: it is called when the object's container ends, unless that is killed."""
    return _hook("exit", _)


# --- the class as its callers see it ---


class Cls(Telling):
    """What ``@app.cls()`` makes of a class: ``Model(...)`` is an object whose methods are called in containers. Those
    that were made with other arguments have containers of their own."""

    _instead: ClassVar[dict[str, str]] = {
        "from_name": "have a function of the app that calls the method, and use Function.from_name",
        "lookup": "have a function of the app that calls the method, and use Function.from_name",
        "with_options": "give them to @app.cls()",
    }

    def __init__(self, app: App, raw: type, spec: FunctionSpec) -> None:
        self.app, self.raw, self.spec = app, raw, spec
        self.methods = {name: found for name in dir(raw) if isinstance(found := getattr(raw, name), Method)}
        self.__name__, self.__doc__ = raw.__name__, raw.__doc__
        web = {name: found for name in dir(raw) if isinstance(found := getattr(raw, name), WebFunction)}
        self.web_methods = {name: self._web_method(name, found) for name, found in web.items()}
        if not self.methods and not web:
            raise InvalidError(f"{spec.name}: it has no methods to be called (put @method() above one)")
        for called, found in self.methods.items():
            check_tries(f"{spec.name}.{called}", spec.retries, found.is_generator)
        setattr(raw, _CLS, self)

    def _web_method(self, name: str, found: WebFunction[..., Any]) -> Function[..., Any]:
        """A function of its own, whose containers have an object each, made without arguments."""
        spec = replace(self.spec, name=f"{self.spec.name}.{name}", web=found.web)
        try:
            inspect.signature(self.raw).bind()
        except TypeError as error:
            raise InvalidError(f"{spec.name}: its visitors give the class no arguments: {error}") from None
        check_answers(spec.name, found, is_method=True)
        here = Object(self, ((), {}))

        @functools.wraps(found.raw)
        def raw(*args: Any, **kwargs: Any) -> Any:
            return found.raw(here._local(), *args, **kwargs)

        return Function(self.app, raw, spec)

    def __repr__(self) -> str:
        return f"<adit.Cls {self.spec.name}: {', '.join([*self.methods, *self.web_methods])}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return bundle.find, (self.spec.module, self.spec.qualname)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self.raw,)  # so that other classes may be made of it

    def __call__(self, *args: Any, **kwargs: Any) -> Object:
        self.check(args, kwargs)
        return Object(self, (args, kwargs))

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """TypeError for what the class does not take."""
        try:
            inspect.signature(self.raw).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.spec.name}: {error}") from None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raw = self.__dict__.get("raw")
            if name in self.__dict__.get("methods", ()):
                raise InvalidError(
                    f"{raw.__name__}.{name}: it is called on an object ({raw.__name__}().{name}.remote())"
                )
            if name in self.__dict__.get("web_methods", ()):
                return self.web_methods[name]
            if raw is not None and not name.startswith("_") and hasattr(raw, name):
                return getattr(raw, name)
            raise missing(type(self), name)


class Object:
    """``Model(...)``. Nothing is made before a method is called: in a container, or here by ``.local(...)``."""

    def __init__(self, cls: Cls, given: Given) -> None:
        self._cls, self._given = cls, given
        self._lock = threading.Lock()
        self._here: list[Any] = []

    def __repr__(self) -> str:
        return f"<adit {self._cls.spec.name} object>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Object, (self._cls, self._given)

    def _local(self) -> Any:
        with self._lock:
            if not self._here:
                self._here.append(make(self._cls, self._given))
            return self._here[0]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._cls.methods:
            return _Bound(self._cls, self._cls.methods[name], self._given, self._local)
        if name in self._cls.web_methods:
            return self._cls.web_methods[name]
        if not self._here and not hasattr(self._cls.raw, name):
            raise AttributeError(
                f"{self._cls.spec.name}.{name}: here is no such method (there are {', '.join(self._cls.methods)}; the "
                "object itself is in its container)"
            )
        return getattr(self._local(), name)


class _Bound(Function[P, R]):
    """A method of one object."""

    def __init__(self, cls: Cls, method: Method[P, R], given: Given, here: Callable[[], Any]) -> None:
        @functools.wraps(method.raw)
        def raw(*args: P.args, **kwargs: P.kwargs) -> R:
            return method.raw(here(), *args, **kwargs)

        _, *parameters = inspect.signature(method.raw).parameters.values()
        raw.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        name = f"{cls.spec.name}.{method.__name__}"
        super().__init__(cls.app, raw, replace(cls.spec, name=name, is_generator=method.is_generator))
        self._cls, self._method, self._given = cls, method.__name__, given

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (Object(self._cls, self._given), self._method)

    def _payload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[wire.Meta, bytes]:
        what = f"{self.spec.name}: an argument"
        meta: wire.Meta = {"function": self._cls.spec.name}
        if self._given != ((), {}):
            meta["key"] = hashlib.sha256(wire.encode(self._given, what)).hexdigest()
        return meta, wire.encode((args, kwargs, self._method, *self._given), what)
