"""Apps that stay: how they are given to the foreman that runs as a service, and how their functions are called."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from ..exception import ClosedError, InvalidError
from . import bundle, session
from .function import Function
from .options import check_name
from .spec import FunctionSpec, WebSpec

if TYPE_CHECKING:
    from .app import App
    from .output import Output
    from .remote import Channel
    from .spec import AppSpec

__all__ = ["Deployed", "DeployedFunction", "deploy"]


@dataclass(frozen=True)
class Deployed:
    """What came of it."""

    name: str
    spec: AppSpec
    version: int
    urls: dict[str, str]
    schedules: dict[str, dict[str, Any]]
    ca_file: str | None


def deploy(channel: Channel, app: App, name: str | None, output: Output) -> Deployed:
    """A new version of the app of that name."""
    name = app.name if name is None else check_name("deploy", name)
    if not name:
        raise InvalidError("deploy: the app has no name (App('name'), or adit deploy FILE --name NAME)")
    if not app.registered_functions and not app.registered_classes:
        raise InvalidError(f"app {name}: it has no functions (put @app.function() above one)")
    spec = app._spec(name)
    found, _ = channel.ask("app_named", {"name": name})
    meta = {"app": found["app"], "spec": spec.to_meta()}
    with output.following(channel, found["app"], version=found["version"] + 1, to_end=False):
        try:
            answer, _ = channel.ask("app_update", meta, bundle.pack(spec))
        except ClosedError as error:
            raise ClosedError(f"deploy {name}: {error}; what it has now says adit app list (deploy it again)") from None
    about = answer["urls"], answer.get("schedules", {}), answer.get("ca_file")
    return Deployed(name, spec, answer["version"], *about)


class _Named:
    """Stands for the app of a function that another program deployed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._urls: dict[str, str] = {}

    def _where(self) -> dict[str, str]:
        return {"app": self._name}


class DeployedFunction(Function[..., Any]):
    """A function of a deployed app, which is looked for when it is first used."""

    def __init__(self, app_name: str, name: str) -> None:
        for what, given in (("app", app_name), ("function", name)):
            if not isinstance(given, str) or not given:
                raise InvalidError(f"Function.from_name: {given!r} is no {what}'s name")
        self._app: Any = _Named(app_name)
        self._name, self.__name__, self.raw = name, name, self._nothing_here

    def __repr__(self) -> str:
        return f"<adit.Function {self._name} of {self._app._name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return DeployedFunction, (self._app._name, self._name)

    def _nothing_here(self, *_: Any, **__: Any) -> NoReturn:
        raise InvalidError(f"{self._name}.local: its program is not here (use {self._name}.remote(...))")

    @functools.cached_property
    def spec(self) -> FunctionSpec:  # type: ignore[override]
        """What matters to its callers."""
        found, _ = self._channel().ask("function_find", {"app": self._app._name, "function": self._name})
        self._app._urls = {self._name: found["url"]} if found.get("url") else {}
        web = WebSpec("endpoint") if found["is_web"] else None
        return FunctionSpec(self._name, "", "", is_generator=found["is_generator"], web=web)

    def _channel(self) -> Channel:
        if not session.is_local():
            raise InvalidError(f"{self._name}: a container calls functions of its own app only (put it into this one)")
        return session.service()

    @property
    def web_url(self) -> str | None:
        """Where its endpoint is."""
        name, urls = self.spec.name, self._app._urls  # which are known with the spec
        return str(urls[name]) if name in urls else None
