"""The options of ``@app.function()``: what is understood, and how it is told to the foreman."""

from __future__ import annotations

import difflib
import math
from typing import Any, NoReturn

from ..exception import InvalidError
from .gpu import check_gpu
from .hosts import check_hosts
from .image import Image
from .known import Telling
from .mount import check_mounts
from .secret import check_secrets, check_variables
from .spec import CONTAINERS_MAX, WEB_CONTAINERS, FunctionSpec
from .volume import check_volumes

TIMEOUT_MAX_S = 86_400
CPU_MIN = 0.01
NAME_MAX = 64
CONCURRENT_MAX = 256  # each is a thread, of which a container may have some 500
_ALIASES = {
    "min_containers": "keep_warm",
    "max_containers": "concurrency_limit",
    "scaledown_window": "container_idle_timeout",
}
_REMOVE = "not on your own machines: remove it"
_NOT_HERE = {
    **dict.fromkeys(("cloud", "region", "proxy", "enable_memory_snapshot", "checkpointing_enabled", "i6pn"), _REMOVE),
    **dict.fromkeys(("allow_cross_region_volumes", "allow_background_volume_commits", "nonpreemptible"), _REMOVE),
    **dict.fromkeys(("experimental_options", "enable_gpu_snapshot", "cluster_size", "routing_region"), _REMOVE),
    "restrict_modal_access": "a container may call functions of its own app only: remove it",
    "buffer_containers": "a spare container waits anyway (see --spare): remove it, or use keep_warm",
    "ephemeral_disk": "what a function writes is in memory: use volumes",
    "interactive": "use adit shell",
}
_FLAGS = ("serialized", "block_network", "is_generator", "single_use_containers")
_OPTIONS = [
    "image",
    "cpu",
    "memory",
    "gpu",
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
    "volumes",
    "network_file_systems",
    "mounts",
    "schedule",
    "single_use_containers",
]


def check_name(what: str, given: Any) -> str:
    """Of an app or a function."""
    if not isinstance(given, str):
        raise InvalidError(f"{what}: its name is a string, not a {type(given).__name__}")
    if not given.strip() or len(given) > NAME_MAX or not given.isprintable():
        raise InvalidError(f"{what}: {given[:NAME_MAX]!r} is no name (up to {NAME_MAX} characters that can be printed)")
    return given


def not_built(what: str) -> NoReturn:
    """Of what is to come."""
    raise InvalidError(f"adit has no {what} yet (see docs/functions.md)")


class Retries(Telling):
    """How often, and after how long, a call that failed is tried again: after ``initial_delay`` seconds, then so many
    times longer each time, at most ``max_delay``."""

    def __init__(
        self, *, max_retries: int, backoff_coefficient: float = 2.0, initial_delay: float = 1.0, max_delay: float = 60.0
    ) -> None:
        if _count("max_retries", max_retries, 0) is None:
            raise InvalidError("Retries: max_retries: it is missing (such as Retries(max_retries=3))")
        numbers = (backoff_coefficient, initial_delay, max_delay)
        if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
            raise InvalidError("Retries: backoff_coefficient, initial_delay and max_delay are numbers")
        if backoff_coefficient < 1 or not 0 <= initial_delay <= max_delay:
            raise InvalidError("Retries: backoff_coefficient is at least 1, initial_delay at most max_delay")
        self.max_retries, self.backoff_coefficient = max_retries, backoff_coefficient
        self.initial_delay, self.max_delay = initial_delay, max_delay


def check_options(given: dict[str, Any], what: str = "function") -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in given.items():
        known = _ALIASES.get(name, name)
        if known in _NOT_HERE:
            raise InvalidError(f"{name}: {_NOT_HERE[known]}")
        if known not in _OPTIONS:
            near = difflib.get_close_matches(name, [*_OPTIONS, *_ALIASES], 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_OPTIONS)}"
            raise InvalidError(f"@app.{what}(): {name}: no such option ({hint})")
        if known in options:
            other = next(before for before in given if _ALIASES.get(before, before) == known)
            raise InvalidError(f"@app.{what}(): {other} and {name} are one option (leave one of them out)")
        options[known] = _flag(name, value) if known in _FLAGS else value
    if options.pop("single_use_containers", False) and options.setdefault("max_inputs", 1) != 1:
        raise InvalidError(f"@app.{what}(): single_use_containers is max_inputs=1 (leave one of them out)")
    return options


def _pair(name: str, given: Any, least: float) -> tuple[Any, Any]:
    pair = given if isinstance(given, tuple) else (given, None)
    ok = len(pair) == len(("request", "limit")) and all(
        isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) for n in pair if n is not None
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


def _flag(name: str, given: Any) -> bool | None:
    if given is not None and not isinstance(given, bool):
        raise InvalidError(f"{name}: {given!r} is neither True nor False")
    return given


def to_spec(o: dict[str, Any], name: str, module: str, qualname: str, generator: bool, web: Any) -> FunctionSpec:
    image = o.get("image")
    if image is not None and not isinstance(image, Image):
        raise InvalidError(f"{name}: image: {image!r} is no adit.Image (such as Image.debian_slim())")
    keep_warm, limit = (
        _count("keep_warm", o.get("keep_warm"), 0) or 0,
        _count("concurrency_limit", o.get("concurrency_limit"), 1),
    )
    if keep_warm > CONTAINERS_MAX:
        raise InvalidError(f"{name}: keep_warm={keep_warm} is more than the {CONTAINERS_MAX} containers of an app")
    if limit is None and web is not None and keep_warm > WEB_CONTAINERS:
        limit = keep_warm
    if limit is not None and keep_warm > limit:
        raise InvalidError(f"{name}: keep_warm={keep_warm} is more than concurrency_limit={limit}")
    if o.get("network") and o.get("block_network"):
        raise InvalidError(f"{name}: network= and block_network=True exclude each other")
    network = o.get("network")
    return FunctionSpec(
        name=name,
        module=module,
        qualname=qualname,
        image=(image or Image())._spec,
        mounts=check_mounts(name, o.get("mounts")),
        cpu=_pair("cpu", o.get("cpu") if o.get("cpu") is not None else 0.1, CPU_MIN),
        memory=_pair("memory", o.get("memory") if o.get("memory") is not None else 128, 8),
        gpus=check_gpu(name, o.get("gpu")),
        timeout=_count("timeout", o.get("timeout"), 1, TIMEOUT_MAX_S) or 300,
        startup_timeout=_count("startup_timeout", o.get("startup_timeout"), 1, TIMEOUT_MAX_S),
        idle_timeout=_count("container_idle_timeout", o.get("container_idle_timeout"), 1, TIMEOUT_MAX_S) or 60,
        concurrency_limit=limit,
        keep_warm=keep_warm,
        max_inputs=_count("max_inputs", o.get("max_inputs"), 1),
        concurrent=_count("allow_concurrent_inputs", o.get("allow_concurrent_inputs"), 1, CONCURRENT_MAX) or 1,
        retries=check_tries(name, _to_policy(o.get("retries")), generator),
        env=check_variables(f"{name}: env", o.get("env")),
        secrets=check_secrets(name, o.get("secrets") or ()),
        volumes=check_volumes(name, o.get("volumes"), o.get("network_file_systems")),
        network=network is True,
        hosts=[] if network is None or isinstance(network, bool) else check_hosts(name, network),
        is_generator=generator,
        web=web,
    )


def check_tries(name: str, policy: dict[str, float] | None, generator: bool) -> dict[str, float] | None:
    """InvalidError for a generator that is to be tried again."""
    if generator and policy and policy["max_retries"]:
        raise InvalidError(
            f"{name}: retries: it is a generator, which would give its first values once more (leave it out)"
        )
    return policy


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
