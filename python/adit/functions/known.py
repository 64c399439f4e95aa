"""Names that users of Modal look for and that adit has not, or not under that name: whoever asks for one is told in one
sentence what to do instead."""

from __future__ import annotations

import difflib
import functools
import types
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from ..exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
R = TypeVar("R")
_TAKES_ALL = 0x08  # of a code's flags: it has **others
_REMOVE = "remove it"
# Modal's options, of whatever call has not the like.
_OPTIONS = {
    "add_python": "the image has to bring its Python",
    "client": "ADIT_FOREMAN names another foreman",
    "custom_domains": "a relay's --domain is the domain",
    "environment_name": _REMOVE,
    "gpu": "it has none while it is built",
    "namespace": _REMOVE,
    "region": _REMOVE,
    "registry_secret": "log the engine in, with docker login",
    "requires_proxy_auth": "have the function check who asks",
    "secret": "log the engine in, with docker login",
    "secrets": "your own settings of pip are used, and run_commands takes secrets",
    "setup_dockerfile_commands": "use run_commands",
    "tag": "use name",
    "version": _REMOVE,
    "workspace": _REMOVE,
}


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
    return NoSuchNameError(f"{owner.__name__}.{name}: there is no such name ({hint(name, there)})")


def hint(name: str, there: Iterable[str]) -> str:
    """What may have been meant instead of a name that is not there."""
    near = difflib.get_close_matches(name, there, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(there)}"


def by_name(call: Callable[P, R]) -> Callable[P, R]:
    """Has a call say in a sentence which option, given by name, it does not take. What has it in its signature is as it
    was."""
    code: Any = getattr(call, "__code__", None)
    if code is None or code.co_flags & _TAKES_ALL:
        return call
    names = code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    what = call.__qualname__.removesuffix(".__init__")

    @functools.wraps(call)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                raise InvalidError(f"{what}: adit has no {name}= ({_instead_of(name, names)})")
        return call(*args, **kwargs)

    return checked


def _instead_of(name: str, names: tuple[str, ...]) -> str:
    return _OPTIONS.get(name) or hint(name, [known for known in names if known not in ("self", "cls")])


class _Class(type):
    if not TYPE_CHECKING:  # type checkers say it themselves

        def __getattr__(cls, name: str) -> Any:
            raise missing(cls, name)


class Telling(metaclass=_Class):
    """A base of what users see. ``_instead`` has Modal's names, and what to use in their place."""

    _instead: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, made in list(vars(cls).items()):
            if name != "__init__" and name.startswith("_"):
                continue
            if isinstance(made, (staticmethod, classmethod)):
                setattr(cls, name, type(made)(by_name(made.__func__)))
            elif isinstance(made, types.FunctionType):
                setattr(cls, name, by_name(made))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise missing(type(self), name)
