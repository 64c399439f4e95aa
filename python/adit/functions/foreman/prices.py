"""What it costs: the user's prices.toml, if there is one, and what was used, in the units that people pay for."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...exception import ConfigError
from ..gpu import ANY
from .gpus import is_of
from .places import configuration_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .amounts import Amounts

_CORE_HOUR_NS = 3600e9
_GIB_HOUR_BYTE_S = 3600.0 * (1 << 30)
_HOUR_S = 3600.0
USE, MAX = "use", "max"


@dataclass(frozen=True)
class Prices:
    """Of an hour of a core, of a GiB of memory, and of a GPU of each kind. Tunnels have none."""

    core_hour: float = 0.0
    gib_hour: float = 0.0
    gpu_hour: dict[str, float] = field(default_factory=dict)
    currency: str = "$"
    bill: str = USE
    known: bool = False

    @property
    def are_any(self) -> bool:
        """Whether anything costs something."""
        return any((self.core_hour, self.gib_hour, *self.gpu_hour.values()))

    def sum(self, used: Mapping[str, Amounts]) -> dict[str, Any]:
        """What was used with each kind of GPU ("" for none), in hours, and the price of all; None without prices."""
        price, most = 0.0, self.bill == MAX
        told = dict.fromkeys(("seconds", "core_hours", "gib_hours", "gpu_hours"), 0.0)
        for gpu, a in used.items():
            gpu_hours = a.gpu_s / _HOUR_S
            price += (a.cpu_most_ns if most else a.cpu_ns) / _CORE_HOUR_NS * self.core_hour
            price += (a.memory_most_byte_s if most else a.memory_byte_s) / _GIB_HOUR_BYTE_S * self.gib_hour
            price += gpu_hours * self._of_gpu(gpu)
            told["seconds"] += a.seconds
            told["core_hours"] += a.cpu_ns / _CORE_HOUR_NS
            told["gib_hours"] += a.memory_byte_s / _GIB_HOUR_BYTE_S
            told["gpu_hours"] += gpu_hours
        return {**told, "price": price if self.known else None, "currency": self.currency}

    def _of_gpu(self, name: str) -> float:
        """The longest kind that its name is of has the price: A100-80GB rather than A100."""
        kinds = [kind for kind in self.gpu_hour if is_of(name, kind)] if name else []
        return self.gpu_hour[max(kinds, key=lambda kind: (kind != ANY, len(kind)))] if kinds else 0.0


def read(path: str | None = None) -> Prices:
    """The user's, as they are now."""
    path = path or configuration_path("prices.toml")
    try:
        with open(path, "rb") as file:
            given = tomllib.load(file)
    except FileNotFoundError:
        return Prices()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    for name, value in given.items():
        _check(path, name, value)
    return Prices(**given, known=True)


def _check(path: str, name: str, value: object) -> None:
    def is_price(number: object) -> bool:
        return isinstance(number, (int, float)) and not isinstance(number, bool) and 0 <= number < float("inf")

    if name == "bill":
        if value not in (USE, MAX):
            raise ConfigError(f'{path}: bill: {value!r} is neither "use" nor "max" (of what was asked for and used)')
    elif name == "currency":
        if not isinstance(value, str):
            raise ConfigError(f"{path}: currency: {value!r} is no string")
    elif name == "gpu_hour":
        if not (isinstance(value, dict) and all(map(is_price, value.values()))):
            raise ConfigError(f"{path}: [gpu_hour]: it is a table of prices (such as H100 = 3.95)")
    elif name not in ("core_hour", "gib_hour"):
        raise ConfigError(f"{path}: {name}: there is no such setting (core_hour, gib_hour, gpu_hour, currency, bill)")
    elif not is_price(value):
        raise ConfigError(f"{path}: {name}: {value!r} is no price")
