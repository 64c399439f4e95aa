"""What the foreman holds for those who know its id: a queue, a dict. With a name it is there for all apps, without one
for a ``with`` block."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from ..exception import InvalidError
from . import session
from .known import Telling
from .twin import in_thread

H = TypeVar("H", bound="Held")


class Held(Telling):
    """One of these. It can be sent to functions and used there."""

    _kind: ClassVar[str]
    """Of the foreman's verbs."""
    _id: str | None
    _look: Callable[[], str]

    def __init__(self) -> None:
        name = type(self).__name__
        raise InvalidError(
            f"{name}: it has no constructor (use {name}.ephemeral() in a with block, or {name}.from_name())"
        )

    @classmethod
    def _of(cls: type[H], identity: str | None, look: Callable[[], str] | None = None) -> H:
        made = cls.__new__(cls)
        made._id, made._look = identity, look or (lambda: str(identity))
        return made

    @classmethod
    def _create(cls, payload: bytes = b"", **meta: Any) -> str:
        channel = session.channel()
        return str(channel.ask(f"{cls._kind}_create", {**meta, **channel.once()}, payload)[0][cls._kind])

    @classmethod
    def _named(cls: type[H], name: str, create: bool, payload: bytes = b"", **meta: Any) -> H:
        if not isinstance(name, str) or not name:
            raise InvalidError(f"{cls.__name__}.from_name: {name!r} is no name")
        return cls._of(None, lambda: cls._create(payload, name=name, create=create, **meta))

    def __repr__(self) -> str:
        return f"<adit.{type(self).__name__} {self._id or '(not used yet)'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._of, (self.object_id,)

    @property
    def object_id(self) -> str:
        """What names it at the foreman; whoever knows it may use it."""
        if self._id is None:
            self._id = self._look()
        return self._id

    def _ask(self, verb: str, payload: bytes = b"", **meta: Any) -> tuple[dict[str, Any], bytes]:
        channel = session.channel()
        return channel.ask(f"{self._kind}_{verb}", {self._kind: self.object_id, **meta, **channel.once()}, payload)


class Ephemeral(contextlib.AbstractContextManager[H], contextlib.AbstractAsyncContextManager[H], Generic[H]):
    """One for each ``with`` block that it is used in."""

    def __init__(self, kind: type[H], payload: bytes = b"", **meta: Any) -> None:
        self._kind, self._payload, self._meta, self._opened = kind, payload, meta, list[H]()

    def __enter__(self) -> H:
        self._opened.append(self._kind._of(self._kind._create(self._payload, **self._meta)))
        return self._opened[-1]

    def __exit__(self, *_: object) -> None:
        self._opened.pop()._ask("end")

    async def __aenter__(self) -> H:
        return await in_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await in_thread(self.__exit__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        kind = self._kind.__name__
        raise InvalidError(
            f"{kind}.ephemeral(): it is opened by a with block (with {kind}.ephemeral() as x: x.{name}...)"
        )
