"""What the foreman holds for those who know its id: queues and dicts, with a name for as long as it runs, without one
until they are ended."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ...exception import NotFoundError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable


HELD_MAX = 50_000  # of a kind


class Held(Protocol):
    """One of them."""

    async def end(self) -> None:
        """Whoever uses it is told."""


T = TypeVar("T", bound=Held)


class Holding(Generic[T]):
    """All of one kind."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._by_id: dict[str, T] = {}
        self._names: dict[str, str] = {}

    def create(self, name: str | None, make: Callable[[], T], *, missing: bool = True) -> str:
        """The id of a new one, or of the one of that name."""
        if name is not None and name in self._names:
            return self._names[name]
        if not missing:
            raise NotFoundError(f"{self._kind} {name}: there is none of that name (use create_if_missing=True)")
        if len(self._by_id) >= HELD_MAX:
            raise RemoteError(f"{self._kind}: there are {HELD_MAX} of them already (end some)")
        identity = secrets.token_hex(16)
        self._by_id[identity] = make()
        if name is not None:
            self._names[name] = identity
        return identity

    def find(self, identity: str) -> T:
        """Whoever knows the id may use it."""
        held = self._by_id.get(identity)
        if held is None:
            raise NotFoundError(f"{self._kind}: it has ended (its `with` block is over, or its app)")
        return held

    async def end(self, identity: str) -> None:
        """Ends an ephemeral one."""
        held = self._by_id.pop(identity, None)
        if held is not None:
            await held.end()
