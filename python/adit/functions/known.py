"""Names that users of Modal look for and that adit has not, or not under that name: whoever asks for one is told in one
sentence what to do instead."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, ClassVar

from ..exception import InvalidError


class NoSuchNameError(InvalidError, AttributeError):
    """Both, so that ``hasattr`` goes on to work."""


def missing(owner: type, name: str) -> AttributeError:
    """What to raise for a name that a class or an object of it does not have."""
    if name.startswith("_"):
        return AttributeError(f"{owner.__name__!r} has no attribute {name!r}")
    instead: dict[str, str] = getattr(owner, "_instead", {})
    if name in instead:
        return NoSuchNameError(f"adit has no {owner.__name__}.{name} yet ({instead[name]})")
    there = [known for known in dir(owner) if not known.startswith("_")]
    near = difflib.get_close_matches(name, there, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(there)}"
    return NoSuchNameError(f"{owner.__name__}.{name}: there is no such name ({hint})")


class _Class(type):
    if not TYPE_CHECKING:  # type checkers say it themselves

        def __getattr__(cls, name: str) -> Any:
            raise missing(cls, name)


class Telling(metaclass=_Class):
    """A base of what users see. ``_instead`` has Modal's names, and what to use in their place."""

    _instead: ClassVar[dict[str, str]] = {}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise missing(type(self), name)
