"""What the foreman holds for those who know its id: queues and dicts, without a name until they are ended; with one for
as long as it runs or, if it is a service, for good."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ...exception import InvalidError, NotFoundError, RemoteError
from .store import can_keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from .shelf import Shelf
    from .store import Row

HELD_MAX = 50_000  # of a kind
NAMED_MAX = 500  # of these, with names, that an app's containers have made
NAME_MAX = 256


class Held(Protocol):
    """One of them."""

    async def end(self) -> None:
        """Whoever uses it is told."""


T = TypeVar("T", bound=Held)


class Holding(Generic[T]):
    """All of one kind."""

    def __init__(self, kind: str, shelf: Shelf) -> None:
        self._kind, self._shelf = kind, shelf
        self._by_id: dict[str, T] = {}
        self._names: dict[str, str] = {}
        self._made: Counter[str] = Counter()  # those with names, by the apps whose containers made them

    def create(
        self, name: str | None, make: Callable[[str], T], *, missing: bool = True, app: str | None = None
    ) -> str:
        """The id of a new one, or of the one of that name. ``app`` is that of the container that asks."""
        if name is not None and (not isinstance(name, str) or not 0 < len(name) <= NAME_MAX):
            raise InvalidError(f"{self._kind}: its name is not one of 1 to {NAME_MAX} characters")
        if name is not None and not can_keep(name):
            raise InvalidError(f"{self._kind}: its name {name!a} has characters that cannot be kept (leave them out)")
        if name is not None and name in self._names:
            return self._names[name]
        if not missing:
            raise NotFoundError(f"{self._kind} {name}: there is none of that name (use create_if_missing=True)")
        if len(self._by_id) >= HELD_MAX:
            raise RemoteError(f"{self._kind}: there are {HELD_MAX} of them already (end some)")
        if name is not None and app is not None and self._made[app] >= NAMED_MAX:
            raise RemoteError(f"{self._kind} {name}: the app's containers have made {NAMED_MAX} with names already")
        identity = secrets.token_hex(16)
        self._by_id[identity] = make(identity)
        if name is not None:
            self._names[name] = identity
            self._made.update([app] if app is not None else [])
        self._shelf.unless_written(lambda: self._drop(identity, name, app))
        return identity

    def _drop(self, identity: str, name: str | None, app: str | None) -> None:
        """One that could not be written down."""
        held = self._by_id.pop(identity, None)
        if held is None:
            return
        if name is not None:
            del self._names[name]
            self._made.subtract([app] if app is not None else [])
        self._dropping = asyncio.ensure_future(held.end())

    def put_in(self, row: Row, held: T) -> None:
        """One that the foreman before had."""
        self._by_id[row["id"]] = held
        if row["name"]:
            self._names[row["name"]] = row["id"]
            self._made.update([row["app"]] if row["app"] else [])

    async def is_written(self) -> None:
        """All that has become of them until now is in the store."""
        await self._shelf.is_written()

    def find(self, identity: str) -> T:
        """Whoever knows the id may use it."""
        held = self._by_id.get(identity)
        if held is None:
            raise NotFoundError(f"{self._kind}: it has ended (its `with` block is over, or its app)")
        return held

    async def end(self, identity: str) -> None:
        """Ends an ephemeral one: of those with names others know."""
        if identity in self._names.values():
            raise InvalidError(f"{self._kind}: it has a name, and stays (use clear)")
        held = self._by_id.pop(identity, None)
        if held is not None:
            await held.end()
