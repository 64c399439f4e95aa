"""``Dict``: values by keys, for all containers of an app and its caller. It lives at the foreman."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from ..exception import InvalidError
from . import plain, wire
from .held import Ephemeral, Held
from .twin import twin, twin_iterator

_NOTHING: Any = object()


def _key(key: Any) -> bytes:
    hash(key)  # TypeError for what could be no key anywhere
    try:
        return plain.dump(key)
    except plain.NotPlain:
        raise InvalidError(
            f"Dict: a {type(key).__name__} cannot be a key (use strings, numbers, bytes, or tuples of these)"
        ) from None


def _pack(given: Mapping[Any, Any]) -> bytes:
    if not isinstance(given, Mapping):
        raise InvalidError(f"Dict: {given!r} is no dict (such as {{'key': 1}})")
    items: list[bytes] = []
    for key, value in given.items():
        items += [_key(key), wire.encode(value, "Dict: a value")]
    return wire.pack_items(items)


class Dict(Held):
    """A dict at the foreman. Its values are sent and fetched whole: to change one, put it again.

    Make one with ``Dict.ephemeral()`` (in a ``with`` block, at whose end it is gone) or ``Dict.from_name(name)``. It
    can be sent to functions and used there."""

    _kind = "dict"
    _instead: ClassVar[dict[str, str]] = {
        "new": "use Dict.ephemeral",
        "persisted": "use Dict.from_name(name, create_if_missing=True)",
        "lookup": "use Dict.from_name",
        "delete": "use clear",
        "setdefault": "use put(key, value, skip_if_exists=True)",
    }

    @staticmethod
    def ephemeral(data: Mapping[Any, Any] | None = None) -> Ephemeral[Dict]:
        """One for the ``with`` block, with these values to begin with."""
        return Ephemeral(Dict, _pack(data or {}))

    @staticmethod
    def from_name(name: str, data: Mapping[Any, Any] | None = None, *, create_if_missing: bool = False) -> Dict:
        """The one of that name, for all apps of a foreman, for as long as that runs; one of ``adit foreman`` stays when
        that starts again. NotFoundError when it is first used and there is none. One that is made begins with
        ``data``."""
        return Dict._named(name, create_if_missing, _pack(data or {}))

    def _value(self, verb: str, key: Any) -> Any:
        meta, payload = self._ask(verb, _key(key))
        if not meta["found"]:
            return _NOTHING
        return wire.decode(payload, trusted=bool(meta.get("trusted")), what="Dict: a value")

    @twin
    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or ``default``."""
        value = self._value("get", key)
        return default if value is _NOTHING else value

    @twin
    def pop(self, key: Any, default: Any = _NOTHING) -> Any:
        """Takes a value out. KeyError when there is none and no ``default``."""
        value = self._value("pop", key)
        if value is not _NOTHING:
            return value
        if default is _NOTHING:
            raise KeyError(key)
        return default

    @twin
    def put(self, key: Any, value: Any, *, skip_if_exists: bool = False) -> bool:
        """Sets the value of a key. False when ``skip_if_exists`` was asked for, and it has one."""
        return bool(self._ask("put", _pack({key: value}), skip=skip_if_exists)[0]["put"])

    @twin
    def update(self, other: Mapping[Any, Any] | None = None, /, **kwargs: Any) -> None:
        """Sets the values of several, all at once."""
        self._ask("put", _pack({**(other or {}), **kwargs}))

    @twin
    def contains(self, key: Any) -> bool:
        """Whether a key has a value."""
        return bool(self._ask("contains", _key(key))[0]["found"])

    @twin
    def len(self) -> int:
        """How many keys there are."""
        return int(self._ask("len")[0]["n"])

    @twin
    def clear(self) -> None:
        """Forgets all."""
        self._ask("clear")

    def _all(self, keys: bool, values: bool) -> Iterator[tuple[Any, Any]]:
        meta, payload = self._ask("items", values=values)
        found, trusted = iter(wire.unpack_items(payload)), bool(meta.get("trusted"))
        for key in found:
            value = next(found)
            read = plain.load(key) if keys else None
            yield read, wire.decode(value, trusted=trusted, what="Dict: a value") if values else None

    @twin_iterator
    def keys(self) -> Iterator[Any]:
        """As they are now, in the order in which they came."""
        for key, _ in self._all(True, False):
            yield key

    @twin_iterator
    def values(self) -> Iterator[Any]:
        """As they are now, in the order in which their keys came."""
        for _, value in self._all(False, True):
            yield value

    @twin_iterator
    def items(self) -> Iterator[tuple[Any, Any]]:
        """Keys and values as they are now."""
        yield from self._all(True, True)

    def __getitem__(self, key: Any) -> Any:
        value = self._value("get", key)
        if value is _NOTHING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        self.pop(key)

    def __contains__(self, key: Any) -> bool:
        return self.contains(key)

    def __len__(self) -> int:
        return self.len()

    def __iter__(self) -> Iterator[Any]:
        return self.keys()


plain.handle(Dict, "dictionary", lambda held: held.object_id, lambda identity: Dict._of(str(identity)))
