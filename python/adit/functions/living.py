"""Objects of the user's classes: how one is made, and how it ends. In a container there is one."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .cls import Cls

Given = tuple[tuple[Any, ...], dict[str, Any]]
HOOK = "__adit_hook__"
GIVEN = "__adit_given__"


def _hooks(raw: type, name: str) -> Iterator[Callable[..., Any]]:
    """In the order in which they stand, those of the classes that it is made of first."""
    seen: dict[str, Any] = {}
    for part in reversed(raw.__mro__):
        seen |= {key: value for key, value in vars(part).items() if getattr(value, HOOK, None) == name}
    yield from seen.values()


def _wait(value: Any) -> None:
    if inspect.iscoroutine(value):
        asyncio.run(value)


def make(cls: Cls, given: Given, wait: Callable[[Any], object] = _wait) -> Any:
    """An object of the user's class, entered."""
    kind: Any = cls.raw
    made = kind.__new__(kind)
    with contextlib.suppress(AttributeError):  # it has slots
        setattr(made, GIVEN, given)
    kind.__init__(made, *given[0], **given[1])
    for hook in _hooks(cls.raw, "enter"):
        wait(hook(made))
    return made


class Living:
    """The object of a container."""

    def __init__(self, cls: Cls, wait: Callable[[Any], object]) -> None:
        self._cls, self._wait = cls, wait
        self._lock = threading.Lock()
        self._made: list[Any] = []

    def get(self, given: Given) -> Any:
        """Made with the first call, or before."""
        with self._lock:
            if not self._made:
                self._made.append(make(self._cls, given, self._wait))
            return self._made[0]

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, *given: Any) -> Any:
        """One of its methods."""
        return self._cls.methods[name].raw(self.get(given), *args, **kwargs)

    def yields(self, name: str) -> bool:
        """Whether a method is a generator."""
        return self._cls.methods[name].is_generator

    def close(self) -> None:
        """The container ends."""
        for made in self._made:
            for hook in _hooks(self._cls.raw, "exit"):
                several = len(inspect.signature(hook).parameters) > 1  # as Modal had it: what was raised
                self._wait(hook(made, *((None, None, None) if several else ())))
