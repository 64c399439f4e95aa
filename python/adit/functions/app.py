"""``App``, also called ``Stub``: functions that run together."""

from __future__ import annotations

import base64
import contextlib
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, overload

import cloudpickle

from ..exception import InvalidError
from . import bundle, deploying, session, wire
from .cls import Cls
from .command_line import spares_wanted
from .function import AsyncFunction, Function, is_generator
from .image import Image
from .known import Telling
from .mount import Mount, check_mounts
from .options import check_name, check_options, not_built, to_spec
from .schedule import check_schedule
from .secret import Secret, check_secrets
from .spec import AppSpec, ImageSpec
from .volume import Volume, check_volumes
from .web import WebFunction, check_answers

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .output import Output
    from .words import Options

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


PICKLED_MAX = 512 << 10
_ATTRIBUTES = ("name", "image", "registered_functions", "registered_classes", "registered_entrypoints")


class App(Telling):
    """A collection of functions. ``app.image = ...`` is the image of those that name none."""

    _instead: ClassVar[dict[str, str]] = {
        "lookup": "run its file, or import it and use app.run()",
        "web_endpoint": "put @web_endpoint() below @app.function()",
        "asgi_app": "put @asgi_app() below @app.function()",
        "wsgi_app": "put @wsgi_app() below @app.function()",
        "set_description": "give it a name",
        "interactive": "use adit shell",
    }

    def __init__(
        self,
        name: str | None = None,
        *,
        image: Image | None = None,
        secrets: Sequence[Secret] = (),
        volumes: Mapping[str, Volume] | None = None,
        mounts: Sequence[Mount] = (),
        trusted: bool = True,
    ) -> None:
        """``trusted=False``: whatever its containers send is read as plain data, and no pickle of theirs is loaded."""
        if name is not None:
            check_name("App", name)
        if not isinstance(trusted, bool):
            raise InvalidError(f"App: trusted: {trusted!r} is neither True nor False")
        self.name, self.image = name, image
        self.registered_functions: dict[str, Function[Any, Any]] = {}
        self.registered_classes: dict[str, Cls] = {}
        self.registered_entrypoints: dict[str, Callable[..., Any]] = {}
        self._secrets, self._mounts = check_secrets("App", secrets), check_mounts("App", mounts)
        self._volumes = check_volumes("App", volumes)
        self._serialized: set[str] = set()
        self._urls: dict[str, str] = {}
        self._trusted = trusted
        self._id: str | None = None

    def __setattr__(self, name: str, value: object) -> None:
        if name == "image" and value is not None and not isinstance(value, Image):
            raise InvalidError(f"app.image: {value!r} is no adit.Image (such as Image.debian_slim())")
        if name not in _ATTRIBUTES and not name.startswith("_"):
            raise InvalidError(f"app.{name}: an app has no such attribute (a queue is had with Queue.from_name())")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<adit.App {self.name or '(unnamed)'}: {', '.join(self.registered_functions) or 'no functions'}>"

    # --- what is in it ---

    def function(self, _: None = None, /, **options: Unpack[Options]) -> _Decorator:
        """Makes a function one of this app: ``@app.function()``. Options: ``image``, ``cpu`` (cores, or a pair of what
        is asked for and the limit), ``memory`` (MiB, likewise), ``timeout`` (seconds, 300), ``retries``,
        ``concurrency_limit``, ``keep_warm``, ``container_idle_timeout``, ``max_inputs``, ``allow_concurrent_inputs``,
        ``gpu``, ``volumes``, ``mounts``, ``secrets``, ``network=True`` or a list of hosts, ``env``, ``schedule``,
        ``name``, ``serialized``: see docs/functions.md."""
        if _ is not None:
            if callable(_):
                raise InvalidError("@app.function: it needs parentheses (@app.function())")
            raise InvalidError("@app.function: its options are given by name (such as @app.function(image=image))")
        return _Decorator(self, check_options({**options}))

    def _add(self, function: Function[Any, Any] | Cls) -> None:
        name = function.spec.name
        before = self.registered_functions.get(name) or self.registered_classes.get(name)
        if before is not None and before.raw is not function.raw:
            raise InvalidError(f"{name}: this app has a function of that name already (give one a name=)")
        if isinstance(function, Cls):
            self.registered_classes[name] = function
            self.registered_functions |= {of_web.spec.name: of_web for of_web in function.web_methods.values()}
        else:
            self.registered_functions[name] = function

    def cls(self, _: None = None, /, **options: Unpack[Options]) -> Callable[[type[T]], type[T]]:
        """Makes a class one of this app: ``@app.cls()``. Its objects live in containers, and those of its functions
        that have ``@method()`` above them are called there: ``Model(...).predict.remote(...)``. Options as of
        ``@app.function()``."""
        if _ is not None:
            raise InvalidError(
                "@app.cls: it needs parentheses, and its options are given by name (@app.cls(gpu='any'))"
            )
        checked = check_options({**options}, "cls")
        for name in ("serialized", "is_generator"):
            if checked.get(name):
                not_built(f"{name}= for classes")
        if checked.get("schedule") is not None:
            raise InvalidError("@app.cls(): schedule: it is for functions (have one that calls the class)")

        def decorate(raw: type[T]) -> type[T]:
            if not isinstance(raw, type):
                raise InvalidError(f"@app.cls(): {raw!r} is no class (use @app.function())")
            name = _name_of(checked, raw)
            _check_place(name, raw)
            spec = to_spec(checked, name, bundle.module_of(raw), raw.__qualname__, False, None)
            # What a class does when it is entered may take as long as a call.
            made: Any = Cls(self, raw, replace(spec, cls=True, startup_timeout=spec.startup_timeout or spec.timeout))
            self._add(made)
            return made  # type: ignore[no-any-return]

        return decorate

    def _all(self) -> list[Function[Any, Any] | Cls]:
        called = [found for found in self.registered_classes.values() if found.methods]
        return [*self.registered_functions.values(), *called]

    def local_entrypoint(
        self, _: object = None, /, *, name: str | None = None
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """``adit run`` calls this one here, with the command line's ``--options`` as its arguments."""
        if _ is not None:
            raise InvalidError("@app.local_entrypoint: it needs parentheses (@app.local_entrypoint())")

        def decorate(raw: Callable[P, R]) -> Callable[P, R]:
            if not callable(raw) and not isinstance(raw, Function):
                raise InvalidError(f"@app.local_entrypoint(): {raw!r} is no function")
            self.registered_entrypoints[name or raw.__name__] = raw
            return raw

        return decorate

    def include(self, other: App) -> App:
        """Has the functions of another app, too."""
        if not isinstance(other, App):
            raise InvalidError(f"app.include: {other!r} is no adit.App")
        for function in other.registered_functions.values():
            self._add(function)
        for made in other.registered_classes.values():
            self._add(made)
        return self

    # --- running ---

    def _spec(self, name: str | None = None) -> AppSpec:
        functions = {}
        for function in self._all():
            given = function.spec
            if given.image == ImageSpec() and self.image is not None:
                given = replace(given, image=self.image._spec)
            steps = [*given.image.steps, *self._mounts, *given.mounts]
            if function.spec.name in self._serialized:
                given = replace(given, pickled=_pickled(given.name, function.raw))
            functions[given.name] = replace(
                given,
                image=replace(given.image, steps=steps),
                mounts=[],
                secrets={**self._secrets, **given.secrets},
                volumes={**self._volumes, **given.volumes},
            )
        if name is None and self.name is None:  # a program that is no file has functions that come along only
            name = (
                bundle.main_name() if bundle.entry() is not None or any(f.module for f in functions.values()) else "app"
            )
        return AppSpec(name or self.name or "app", functions, self._trusted, spares_wanted())

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
    def _running(self, output: Output, *, detached: bool = False) -> Iterator[str]:
        if self._id is not None:
            raise InvalidError("app.run(): this app runs already")
        channel = session.channel(own=True)
        spec = self._spec()
        kind = "detached" if detached else "run"
        answer, _ = channel.ask("app_create", {"spec": spec.to_meta(), "kind": kind}, bundle.pack(spec))
        self._id = answer["app"]
        closed: dict[str, Any] = {}
        succeeded = False
        try:
            with output.following(channel, answer["app"], to_end=not detached):
                try:
                    yield answer["app"]
                    succeeded = True
                except KeyboardInterrupt:
                    output.stopping()
                    raise
                finally:
                    self._id = None
                    if not detached:
                        session.end_app(channel, answer["app"], closed)
        finally:
            self._id = None
            output.done(closed.get("used"), succeeded=succeeded)

    def deploy(self, name: str | None = None, *, show_progress: bool = True) -> App:
        """Has the foreman that runs as a service (``adit foreman``) keep it: its endpoints are served, its functions
        can be called with ``Function.from_name``, until ``adit app stop``. Deployed again, it is a new version, which
        takes over when it is up."""
        from .output import Output

        if not session.is_local():
            raise InvalidError(
                "app.deploy(): a container runs in an app already (guard it with `if __name__ == '__main__':`)"
            )
        with Output(quiet=not show_progress) as output:
            self._urls = deploying.deploy(session.service(), self, name, output).urls
        return self


Stub = App


def _pickled(name: str, raw: Any) -> str:
    """A function as it is, with what it uses of its module, which its container need not have."""
    module = sys.modules.get(raw.__module__)
    by_value = module is not None and module.__name__ not in cloudpickle.list_registry_pickle_by_value()
    if by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        data = base64.b64encode(wire.encode(raw, name)).decode("ascii")
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    if len(data) > PICKLED_MAX:
        raise InvalidError(f"{name}: it is larger than {PICKLED_MAX >> 10} KiB (give it what is large as an argument)")
    return data


def _name_of(options: dict[str, Any], code: Any) -> str:
    given = options.get("name")
    return str(code.__name__) if given is None else check_name("name", given)


def _check_place(name: str, code: Any) -> None:
    """That a container finds it by its name."""
    outer = code.__qualname__.rpartition(".")[0]
    if outer.endswith("<locals>"):
        raise InvalidError(
            f"{name}: it is defined inside of another function, where its container cannot find it (move it to the top "
            "of its module, or serialized=True sends it along)"
        )
    if outer and inspect.isfunction(code):
        raise InvalidError(
            f"{name}: it is a function of a class (put @app.cls() above {outer}, and @method() above it)"
        )


class _Decorator:
    """What ``app.function(...)`` returns."""

    def __init__(self, app: App, options: dict[str, Any]) -> None:
        self._app, self._options = app, options

    @overload
    def __call__(self, raw: Callable[P, Coroutine[Any, Any, R]]) -> AsyncFunction[P, R]: ...
    @overload
    def __call__(self, raw: WebFunction[P, R]) -> Function[P, R]: ...
    @overload
    def __call__(self, raw: Callable[P, R]) -> Function[P, R]: ...
    def __call__(self, raw: Callable[P, Any] | WebFunction[P, Any]) -> Function[P, Any]:
        web = raw.web if isinstance(raw, WebFunction) else None
        body: Callable[P, Any] = raw.raw if isinstance(raw, WebFunction) else raw
        code: Any = body
        if not inspect.isfunction(code):
            hint = " (use @app.cls())" if inspect.isclass(code) else ""
            raise InvalidError(f"@app.function(): {body!r} is no function{hint}")
        name = _name_of(self._options, code)
        generator = self._options.get("is_generator")
        generator = is_generator(code) if generator is None else generator
        if isinstance(raw, WebFunction):
            check_answers(name, raw, generator)
        serialized = bool(self._options.get("serialized"))
        if not serialized:
            _check_place(name, code)
        module = "" if serialized else bundle.module_of(code)
        spec = to_spec(self._options, name, module, code.__qualname__, generator, web)
        spec = replace(spec, schedule=check_schedule(name, self._options.get("schedule"), code, generator, web))
        function: Function[P, Any] = Function(self._app, body, spec)
        self._app._add(function)
        if serialized:
            self._app._serialized.add(name)
        return function
