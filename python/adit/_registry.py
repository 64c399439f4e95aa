"""The tunnels of this process: each is held here from when it is asked for until it is closed, so that none is lost, or
closed by the garbage collector, because nobody has its name any more."""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, SupportsIndex

from .exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import _adit
    from ._opening import Opening
    from ._tunnel import Tunnel

openings: dict[int, Opening] = {}
"""By the number by which the library's events call them. Each change is one step of the interpreter's own."""
numbers = itertools.count(1)
watchers: list[Callable[[Opening], object]] = []
"""Called with each as it is asked for."""


def tunnels(name: str | SupportsIndex | None = None) -> list[Tunnel]:
    """The open tunnels of this process, the oldest first, whoever holds them::

        for tunnel in adit.tunnels():
            tunnel.close()

    With a name only those that were given it, or that forward this app: ``adit.tunnels(8000)``.
    """
    return open_ones(list(openings.values()), name)


def open_ones(among: list[Opening], name: str | SupportsIndex | None = None) -> list[Tunnel]:
    if name is not None and not isinstance(name, (str, SupportsIndex)):
        raise InvalidError(f"name: {name!r} is neither a port nor a string (such as adit.tunnels(8000))")
    called = name if name is None or isinstance(name, str) else str(operator.index(name))
    found = (opening.tunnel for opening in among if called is None or opening.request.is_called(called))
    return [tunnel for tunnel in found if tunnel is not None and not tunnel.closed]


def of_client(core: _adit.Client | None) -> list[Opening]:
    return [opening for opening in list(openings.values()) if opening.core_client is core]


def expression(tunnel: Tunnel) -> str:
    """By which a program that has lost it gets it."""
    called = tunnel._life.request.called
    all_of_it = tunnels(called)
    return f"adit.tunnels({called!r})[{all_of_it.index(tunnel) if tunnel in all_of_it else 0}]"
