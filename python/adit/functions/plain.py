"""Values that are read without a pickle: JSON, with what JSON has not as objects of one name that begins with ``$``.
Values that are bytes stand behind it, uncoded, in their order."""

from __future__ import annotations

import builtins
import json
import struct
from typing import TYPE_CHECKING, Any

from .. import exception

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = struct.Struct("!I")
_SCALARS = frozenset((bool, int, float, str, type(None)))
_ERRORS = {"builtins": builtins, exception.__name__: exception}


class NotPlain(Exception):
    """A value has something in it that only a pickle can say."""


_strippers: dict[type, Callable[[Any, list[bytes]], Any]] = {}
_makers: dict[str, Callable[[Any], Any]] = {}


def handle(kind: type, name: str, to_plain: Callable[[Any], Any], make: Callable[[Any], Any]) -> None:
    """Objects of this kind stand for something of the foreman's, and are plain, too: whoever reads one gets no more
    than what it could have asked for by id."""
    _strippers[kind] = lambda value, tail: {f"${name}": _strip(to_plain(value), tail)}
    _makers[f"${name}"] = make


def _error_of(given: Any) -> BaseException:
    module, name, arguments = given
    kind = getattr(_ERRORS[module], name)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise ValueError(f"{name} is no exception")
    return kind(*arguments)


_makers |= {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$dict": dict,
    "$complex": lambda pair: complex(*pair),
    "$error": _error_of,
}


def _strip(value: Any, tail: list[bytes]) -> Any:
    """As JSON can say it."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    strip = _strippers.get(kind) or (_strip_error if isinstance(value, Exception) else None)
    if strip is None:
        raise NotPlain
    return strip(value, tail)


def _strip_list(value: list[Any], tail: list[bytes]) -> Any:
    return value if _SCALARS.issuperset(map(type, value)) else [_strip(v, tail) for v in value]


def _strip_dict(value: dict[Any, Any], tail: list[bytes]) -> Any:
    if all(type(k) is str and not k.startswith("$") for k in value):
        return {k: _strip(v, tail) for k, v in value.items()}
    return {"$dict": [[_strip(k, tail), _strip(v, tail)] for k, v in value.items()]}


def _strip_group(value: Any, tail: list[bytes]) -> Any:
    return {f"${type(value).__name__}": [_strip(v, tail) for v in value]}


def _strip_bytes(value: bytes, tail: list[bytes]) -> Any:
    tail.append(value)
    return {"$bytes": len(value)}


def _strip_error(error: BaseException, tail: list[bytes]) -> Any:
    made: Any = error.__reduce__()
    kind = type(error)
    known = getattr(_ERRORS.get(kind.__module__), kind.__name__, None)
    if kind is not known or len(made) != len(("class", "arguments")) or made[0] is not kind:
        raise NotPlain
    return {"$error": [kind.__module__, kind.__name__, _strip(list(made[1]), tail)]}


_strippers |= {
    list: _strip_list,
    dict: _strip_dict,
    tuple: _strip_group,
    set: _strip_group,
    frozenset: _strip_group,
    bytes: _strip_bytes,
    complex: lambda value, _: {"$complex": [value.real, value.imag]},
}


def dump(value: object) -> bytes:
    """NotPlain when it cannot be said so that it comes back as it is."""
    tail: list[bytes] = []
    try:
        text = json.dumps(_strip(value, tail), separators=(",", ":")).encode()
    except (RecursionError, ValueError) as error:  # it has itself in it, or a number of thousands of digits
        raise NotPlain from error
    return b"".join([_HEAD.pack(len(text)), text, *tail])


def load(data: bytes) -> Any:
    """The value, whoever wrote it: ValueError for what dump() does not write."""
    at = _HEAD.size
    if len(data) < at:
        raise ValueError("it is cut off")
    end = at + _HEAD.unpack_from(data)[0]
    if end > len(data):
        raise ValueError("it is cut off")
    rest = end

    def restore(found: dict[str, Any]) -> Any:
        nonlocal rest
        name = next(iter(found), "")
        if not name.startswith("$"):
            return found
        if len(found) != 1:
            raise ValueError(f"{name} has others beside it")
        if name != "$bytes":
            return _makers[name](found[name])
        size = found[name]
        if type(size) is not int or not 0 <= size <= len(data) - rest:
            raise ValueError("its bytes are cut off")
        rest += size
        return data[rest - size : rest]

    try:
        value = json.loads(data[at:end], object_hook=restore)
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if rest != len(data):
        raise ValueError("something is behind it")
    return value
