"""``App``, also called ``Stub``: functions that run together."""

from __future__ import annotations

import contextlib
import difflib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, overload

from ..exception import InvalidError
from . import bundle, session
from .function import Function, is_generator
from .image import Image
from .secret import Secret
from .spec import AppSpec, FunctionSpec, ImageSpec
from .web import WebFunction

if TYPE_CHECKING:
    from .output import Output

P = ParamSpec("P")
R = TypeVar("R")

TIMEOUT_MAX_S = 86_400
CPU_MIN = 0.01
_ALIASES = {
    "min_containers": "keep_warm",
    "max_containers": "concurrency_limit",
    "scaledown_window": "container_idle_timeout",
}
_NOT_HERE = ("cloud", "region", "proxy", "enable_memory_snapshot")
_NOT_YET = ("gpu", "volumes", "network_file_systems", "schedule", "mounts")
_OPTIONS = [
    "image",
    "cpu",
    "memory",
    "timeout",
    "startup_timeout",
    "retries",
    "concurrency_limit",
    "allow_concurrent_inputs",
    "container_idle_timeout",
    "keep_warm",
    "max_inputs",
    "name",
    "serialized",
    "block_network",
    "network",
    "is_generator",
    "env",
    "secrets",
    "single_use_containers",
]


def not_built(what: str) -> NoReturn:
    """Of what is to come."""
    raise InvalidError(f"adit has no {what} yet (see docs/functions.md)")


class App:
    """A collection of functions. ``app.image = ...`` is the image of those that name none."""

    def __init__(
        self,
        name: str | None = None,
        *,
        image: Image | None = None,
        secrets: Any = (),
        volumes: Any = None,
        mounts: Any = (),
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise InvalidError(f"App: its name is a string, not a {type(name).__name__}")
        for what, given in (("Volume", volumes), ("Mount", mounts)):
            if given:
                not_built(what)
        self.name, self.image = name, image
        self.registered_functions: dict[str, Function[Any, Any]] = {}
        self.registered_entrypoints: dict[str, Callable[..., Any]] = {}
        self._secrets = _check_secrets("App", secrets)
        self._urls: dict[str, str] = {}
        self._id: str | None = None

    def __setattr__(self, name: str, value: object) -> None:
        if name == "image" and value is not None and not isinstance(value, Image):
            raise InvalidError(f"app.image: {value!r} is no adit.Image (such as Image.debian_slim())")
        if name not in ("name", "image", "registered_functions", "registered_entrypoints") and not name.startswith("_"):
            raise InvalidError(f"app.{name}: an app has no such attribute (a queue is had with Queue.from_name())")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<adit.App {self.name or '(unnamed)'}: {', '.join(self.registered_functions) or 'no functions'}>"

    # --- what is in it ---

    def function(self, _: object = None, /, **options: Any) -> _Decorator:
        """Makes a function one of this app: ``@app.function()``. Options: ``image``, ``cpu`` (cores, or a pair of what
        is asked for and the limit), ``memory`` (MiB, likewise), ``timeout`` (seconds, 300), ``retries``,
        ``concurrency_limit``, ``keep_warm``, ``container_idle_timeout``, ``max_inputs``, ``network=True``, ``env``,
        ``name``."""
        if _ is not None:
            if callable(_):
                raise InvalidError("@app.function: it needs parentheses (@app.function())")
            raise InvalidError("@app.function: its options are given by name (such as @app.function(image=image))")
        return _Decorator(self, _check_options(options))

    def _add(self, function: Function[Any, Any]) -> None:
        name = function.spec.name
        if name in self.registered_functions and self.registered_functions[name].raw is not function.raw:
            raise InvalidError(f"{name}: this app has a function of that name already (give one a name=)")
        self.registered_functions[name] = function

    def local_entrypoint(
        self, _: object = None, /, *, name: str | None = None
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """``adit run`` calls this one here, with the command line's ``--options`` as its arguments."""
        if _ is not None:
            raise InvalidError("@app.local_entrypoint: it needs parentheses (@app.local_entrypoint())")

        def decorate(raw: Callable[P, R]) -> Callable[P, R]:
            self.registered_entrypoints[name or raw.__name__] = raw
            return raw

        return decorate

    def include(self, other: App) -> App:
        """Has the functions of another app, too."""
        for function in other.registered_functions.values():
            self._add(function)
        return self

    # --- running ---

    def _spec(self, name: str | None = None) -> AppSpec:
        functions = {}
        for function in self.registered_functions.values():
            given = function.spec
            if given.image == ImageSpec() and self.image is not None:
                given = replace(given, image=self.image._spec)
            functions[given.name] = replace(given, secrets={**self._secrets, **given.secrets})
        return AppSpec(name or self.name or bundle.main_name(), functions)

    def _where(self) -> dict[str, str]:
        """What tells the foreman which app is meant; in a container it is its own."""
        if not session.is_local():
            return {}
        if self._id is None:
            raise InvalidError(
                f"app {self.name or ''}: it does not run (start it with `adit run FILE`, or put calls into "
                "`with app.run():`)"
            )
        return {"app": self._id}

    @contextlib.contextmanager
    def run(self, *, show_progress: bool = True) -> Iterator[App]:
        """The app runs for the ``with`` block: its functions can be called, and their output is shown. At the end of
        the block its containers end."""
        from .output import Output

        if not session.is_local():
            raise InvalidError(
                "app.run(): a container runs in an app already (guard it with `if __name__ == '__main__':`)"
            )
        with Output(quiet=not show_progress) as output, self._running(output):
            yield self

    @contextlib.contextmanager
    def _running(self, output: Output) -> Iterator[None]:
        if self._id is not None:
            raise InvalidError("app.run(): this app runs already")
        channel = session.channel()
        spec = self._spec()
        answer, _ = channel.ask("app_create", {"spec": spec.to_meta()}, bundle.pack(spec))
        self._id = answer["app"]
        try:
            with output.following(channel, answer["app"]):
                try:
                    yield
                finally:
                    self._id = None
                    channel.ask("app_close", {"app": answer["app"]})
        finally:
            self._id = None

    def deploy(self, name: str | None = None) -> NoReturn:
        """Not built yet."""
        not_built("deploy")

    def cls(self, *_: Any, **__: Any) -> NoReturn:
        """Not built yet."""
        not_built("cls")


Stub = App


class _Decorator:
    """What ``app.function(...)`` returns."""

    def __init__(self, app: App, options: dict[str, Any]) -> None:
        self._app, self._options = app, options

    @overload
    def __call__(self, raw: WebFunction[P, R]) -> Function[P, R]: ...
    @overload
    def __call__(self, raw: Callable[P, R]) -> Function[P, R]: ...
    def __call__(self, raw: Callable[P, R] | WebFunction[P, R]) -> Function[P, R]:
        web = raw.web if isinstance(raw, WebFunction) else None
        body: Callable[P, R] = raw.raw if isinstance(raw, WebFunction) else raw
        code: Any = body
        if not inspect.isfunction(code):
            raise InvalidError(f"@app.function(): {body!r} is no function")
        name = self._options.get("name") or code.__name__
        generator = self._options.get("is_generator")
        generator = is_generator(code) if generator is None else generator
        if generator and web is not None and web.kind == "endpoint":
            raise InvalidError(f"{name}: a web endpoint cannot be a generator (return a StreamingResponse)")
        if "<locals>" in code.__qualname__:
            raise InvalidError(
                f"{name}: it is defined inside of another function, where its container cannot find it (move it to the "
                "top of its module)"
            )
        module = bundle.main_name() if code.__module__ == "__main__" else code.__module__
        spec = _to_spec(self._options, name, module, code.__qualname__, generator, web)
        function: Function[P, R] = Function(self._app, body, spec)
        self._app._add(function)
        return function


def _check_options(given: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in given.items():
        known = _ALIASES.get(name, name)
        if known in _NOT_HERE:
            raise InvalidError(f"{name}: not on your own machines: remove it")
        if known in _NOT_YET:
            if value:
                not_built(f"{name}= for functions")
            continue
        if known not in _OPTIONS:
            near = difflib.get_close_matches(name, [*_OPTIONS, *_ALIASES, *_NOT_YET], 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_OPTIONS)}"
            raise InvalidError(f"@app.function(): {name}: no such option ({hint})")
        options[known] = value
    if options.pop("single_use_containers", False):
        options["max_inputs"] = 1
    if options.pop("serialized", False):
        not_built("serialized=True")
    if (options.pop("allow_concurrent_inputs", None) or 1) != 1:
        not_built("allow_concurrent_inputs=")
    return options


def _pair(name: str, given: Any, least: float) -> tuple[Any, Any]:
    pair = given if isinstance(given, tuple) else (given, None)
    ok = len(pair) == len(("request", "limit")) and all(
        isinstance(n, (int, float)) and not isinstance(n, bool) for n in pair if n is not None
    )
    if not ok or pair[0] is None or pair[0] < least or (pair[1] is not None and pair[1] < pair[0]):
        raise InvalidError(
            f"{name}: {given!r} is neither a number from {least} on nor a pair of one and a limit above it"
        )
    return pair[0], pair[1]


def _count(name: str, given: Any, least: int, most: int | None = None) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < least or (most is not None and given > most):
        upper = f"..{most}" if most is not None else " on"
        raise InvalidError(f"{name}: {given!r} is no whole number from {least}{upper}")
    return given


def _to_spec(o: dict[str, Any], name: str, module: str, qualname: str, generator: bool, web: Any) -> FunctionSpec:
    image = o.get("image")
    if image is not None and not isinstance(image, Image):
        raise InvalidError(f"{name}: image: {image!r} is no adit.Image (such as Image.debian_slim())")
    keep_warm, limit = (
        _count("keep_warm", o.get("keep_warm"), 0) or 0,
        _count("concurrency_limit", o.get("concurrency_limit"), 1),
    )
    if limit is not None and keep_warm > limit:
        raise InvalidError(f"{name}: keep_warm={keep_warm} is more than concurrency_limit={limit}")
    env = o.get("env") or {}
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in env.items()):
        raise InvalidError(f"{name}: env: names and values are strings")
    if o.get("network") and o.get("block_network"):
        raise InvalidError(f"{name}: network=True and block_network=True exclude each other")
    if not isinstance(o.get("network", False), bool):
        not_built("network= with a list")
    return FunctionSpec(
        name=name,
        module=module,
        qualname=qualname,
        image=image._spec if image is not None else ImageSpec(),
        cpu=_pair("cpu", o.get("cpu") if o.get("cpu") is not None else 0.1, CPU_MIN),
        memory=_pair("memory", o.get("memory") if o.get("memory") is not None else 128, 8),
        timeout=_count("timeout", o.get("timeout"), 1, TIMEOUT_MAX_S) or 300,
        startup_timeout=_count("startup_timeout", o.get("startup_timeout"), 1, TIMEOUT_MAX_S),
        idle_timeout=_count("container_idle_timeout", o.get("container_idle_timeout"), 1, TIMEOUT_MAX_S) or 60,
        concurrency_limit=limit,
        keep_warm=keep_warm,
        max_inputs=_count("max_inputs", o.get("max_inputs"), 1),
        retries=_to_policy(o.get("retries")),
        env=dict(env),
        secrets=_check_secrets(name, o.get("secrets") or ()),
        network=bool(o.get("network")),
        is_generator=generator,
        web=web,
    )


def _check_secrets(name: str, given: Any) -> dict[str, str]:
    values: dict[str, str] = {}
    for secret in [given] if isinstance(given, Secret) else list(given):
        if not isinstance(secret, Secret):
            raise InvalidError(f"{name}: secrets: {secret!r} is no adit.Secret (such as [Secret.from_dict(...)])")
        values.update(secret.values)
    return values


def _to_policy(retries: Any) -> dict[str, float] | None:
    if retries is None:
        return None
    if isinstance(retries, Retries):
        return dict(retries.__dict__)
    return {
        "max_retries": _count("retries", retries, 0) or 0,
        "backoff_coefficient": 1.0,
        "initial_delay": 1.0,
        "max_delay": 60.0,
    }


class Retries:
    """How often, and after how long, a call that failed is tried again: after ``initial_delay`` seconds, then so many
    times longer each time, at most ``max_delay``."""

    def __init__(
        self, *, max_retries: int, backoff_coefficient: float = 2.0, initial_delay: float = 1.0, max_delay: float = 60.0
    ) -> None:
        _count("max_retries", max_retries, 0)
        if backoff_coefficient < 1 or not 0 <= initial_delay <= max_delay:
            raise InvalidError("Retries: backoff_coefficient is at least 1, initial_delay at most max_delay")
        self.max_retries, self.backoff_coefficient = max_retries, backoff_coefficient
        self.initial_delay, self.max_delay = initial_delay, max_delay
