"""The program of a step that runs a function: the image is what that leaves behind."""

from __future__ import annotations

import asyncio
import inspect
import sys

from . import bundle, session, wire
from .remote import Channel


def main() -> None:
    """MODULE QUALNAME FILE, which has the arguments."""
    module, qualname, given = sys.argv[1:]
    session.enter_container(Channel(session.CONTAINER_SOCKET), {"function": qualname})
    found = bundle.find(module, qualname)
    with open(given, "rb") as file:
        args, kwargs = wire.decode(file.read(), trusted=True, what="an argument")
    value = getattr(found, "raw", found)(*args, **kwargs)
    if inspect.iscoroutine(value):
        asyncio.run(value)


if __name__ == "__main__":
    main()
