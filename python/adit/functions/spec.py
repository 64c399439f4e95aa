"""What the foreman is told of an app: plain data, the same on both sides, as JSON on the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .wire import Meta

SPARES_MAX = 10  # of each kind
CONTAINERS_MAX = 50  # of an app
WEB_CONTAINERS = 10  # of a web endpoint that names no limit: whoever has its URL can have it start them
FOREMAN_GONE = 170  # the status of a runner whose foreman is gone
_T = TypeVar("_T")


def _read(kind: type[_T], given: Meta) -> _T:
    """From JSON, ignoring what a newer side says more."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{k: v for k, v in given.items() if k in known})


@dataclass(frozen=True)
class ImageSpec:
    """A base and steps, each ``{"kind": ..., ...}`` (see image.py and foreman/images.py)."""

    base: str | None = None
    """None is the default base; otherwise the name of an image."""
    python: str | None = None
    """The version of Python that the default base has to have."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    dockerfile: dict[str, Any] | None = None
    """What the base is built from: ``file``, ``folder``, ``args``."""


@dataclass(frozen=True)
class WebSpec:
    """How a function is reached from the web."""

    kind: str
    """``endpoint``, ``asgi``, ``wsgi`` or ``server``."""
    method: str = "GET"
    label: str | None = None
    docs: bool = False
    cors: bool = False
    port: int = 0
    startup_timeout: float = 5.0


@dataclass(frozen=True)
class FunctionSpec:
    """One function. Durations in seconds, memory in MiB."""

    name: str
    module: str
    qualname: str
    image: ImageSpec = ImageSpec()
    mounts: list[dict[str, Any]] = field(default_factory=list)
    """More steps of the image."""
    cpu: tuple[float, float | None] = (0.1, None)
    memory: tuple[int, int | None] = (128, None)
    timeout: int = 300
    startup_timeout: int | None = None
    idle_timeout: int = 60
    concurrency_limit: int | None = None
    keep_warm: int = 0
    pickled: str | None = None
    """Itself, where it is not found by its module and name."""
    cls: bool = False
    """It is a class, whose methods are called."""
    parametrised: bool = False
    """Of a class: its object is made with the arguments of the first call."""
    max_inputs: int | None = None
    concurrent: int = 1
    """Calls at once in one container."""
    gpus: list[tuple[str, int]] = field(default_factory=list)
    """Types and how many of each; the first that can be had is taken."""
    retries: dict[str, float] | None = None
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By path, ``{"name": ..., "create": bool}`` or ``{"name": ..., "ephemeral": True}``."""
    network: bool = False
    hosts: list[str] = field(default_factory=list)
    """What of the network it may reach, where that is not all or nothing (see hosts.py)."""
    is_generator: bool = False
    schedule: dict[str, Any] | None = None
    """When it runs by itself in a deployed app (see schedule.py)."""
    web: WebSpec | None = None

    def kind(self) -> FunctionSpec:
        """What its containers are before they know whose they are, the same for all functions for which they would be:
        its image, resources, network, environment, volumes, and whatever else is not left out here."""
        nobody = FunctionSpec("", "", "")
        return replace(self, **{name: getattr(nobody, name) for name in _OF_ITSELF})

    @classmethod
    def read(cls, given: Meta) -> FunctionSpec:
        """From JSON."""
        spec = _read(cls, given)
        web = spec.web
        return FunctionSpec(
            **{
                **{f.name: getattr(spec, f.name) for f in fields(spec)},
                "image": _read(ImageSpec, spec.image),  # type: ignore[arg-type]
                "web": _read(WebSpec, web) if web is not None else None,  # type: ignore[arg-type]
                "cpu": tuple(spec.cpu),
                "memory": tuple(spec.memory),
                "gpus": [(kind, count) for kind, count in spec.gpus],
            }
        )


_OF_ITSELF = (
    *("name", "module", "qualname", "mounts", "timeout", "startup_timeout", "idle_timeout", "concurrency_limit"),
    *("keep_warm", "pickled", "cls", "parametrised", "max_inputs", "concurrent", "retries", "secrets", "is_generator"),
    "web",
)


@dataclass(frozen=True)
class AppSpec:
    """An app as its caller has it now."""

    name: str
    functions: dict[str, FunctionSpec]
    trusted: bool = True
    """Whether what its containers send may be loaded where it is a pickle."""
    spare: int = 1
    """Containers of each kind that wait for what they are to be."""

    def to_meta(self) -> Meta:
        """As JSON."""
        return asdict(self)

    @classmethod
    def read(cls, given: Meta) -> AppSpec:
        """From JSON."""
        functions = {k: FunctionSpec.read(v) for k, v in given["functions"].items()}
        spare = min(max(int(given.get("spare", 1)), 0), SPARES_MAX)
        return cls(given["name"], functions, bool(given.get("trusted", True)), spare)
