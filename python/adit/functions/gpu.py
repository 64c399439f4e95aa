"""GPUs, as ``gpu=`` asks for them: ``"any"``, ``"H100"``, ``"A100-80GB:2"``, or a list of which the first that can be
had is taken. ``gpu.A100(count=2)`` and the like are other words for such strings."""

from __future__ import annotations

import re
import typing

from ..exception import InvalidError

ANY = "any"
COUNT_MAX = 16
_REQUEST = re.compile(r"([A-Za-z0-9][A-Za-z0-9 ._-]{0,63})(?::([0-9]{1,3}))?")


def check_gpu(name: str, given: typing.Any) -> list[tuple[str, int]]:
    """What to try, in that order: a type and how many."""
    if given is None or given is False:
        return []
    wanted = list(given) if isinstance(given, (list, tuple)) else [given]
    if not wanted:
        raise InvalidError(f"{name}: gpu: the list is empty (leave gpu= out for none)")
    return [_read(name, one) for one in wanted]


def _read(name: str, given: typing.Any) -> tuple[str, int]:
    found = _REQUEST.fullmatch(given) if isinstance(given, str) else None
    count = int(found[2] or 1) if found else 0
    if found is None or not 1 <= count <= COUNT_MAX:
        raise InvalidError(
            f"{name}: gpu: {given!r} is no GPU (such as 'any', 'H100', 'A100-80GB:2', with at most {COUNT_MAX}, or a "
            "list of these)"
        )
    return (ANY if found[1].lower() == ANY else found[1]), count


def _named(name: str, count: int) -> str:
    return f"{name}:{count}"


def Any(*, count: int = 1) -> str:
    """Whichever there is."""
    return _named(ANY, count)


def T4(*, count: int = 1) -> str:
    """NVIDIA T4."""
    return _named("T4", count)


def L4(*, count: int = 1) -> str:
    """NVIDIA L4."""
    return _named("L4", count)


def A10G(*, count: int = 1) -> str:
    """NVIDIA A10G."""
    return _named("A10G", count)


def L40S(*, count: int = 1) -> str:
    """NVIDIA L40S."""
    return _named("L40S", count)


def A100(*, count: int = 1, size: str | None = None) -> str:
    """NVIDIA A100, of ``size="40GB"`` or ``"80GB"`` if that matters."""
    if size not in (None, "40GB", "80GB"):
        raise InvalidError(f"gpu.A100: size: {size!r} is neither '40GB' nor '80GB'")
    return _named("A100" if size is None else f"A100-{size}", count)


def H100(*, count: int = 1) -> str:
    """NVIDIA H100."""
    return _named("H100", count)


def __getattr__(name: str) -> typing.Any:
    if name.startswith("_"):
        raise AttributeError(name)
    raise InvalidError(f"gpu.{name}: adit has no word for it (write gpu={name!r})")
