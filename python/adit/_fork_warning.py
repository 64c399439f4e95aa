"""Since Python 3.12 it warns of a fork in a process with threads, in the name of the program's line. The threads of
this package are made for forks: so where there are no others, nobody is warned."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import warnings
from typing import Any

TEXT = re.compile(r"This process \(pid=\d+\) is multi-threaded, use of \w+\(\) may lead to deadlocks in the child")
NAMES = ("adit-events", "adit-waits")
LIBRARYS_NAME = "adit"  # which the kernel has of the threads that the library makes
busy: set[int] = set()
"""Threads of ours that run what users have given them, with whatever locks."""


class _OursAlone:
    """In place of a regular expression in a filter of warnings."""

    pattern = TEXT.pattern

    def match(self, text: str) -> bool:
        return TEXT.match(text) is not None and not _others()


_FILTER: Any = ("ignore", _OursAlone(), DeprecationWarning, None, 0)


def _ours() -> set[int | None]:
    return {thread.native_id for thread in threading.enumerate() if thread.name in NAMES}


def _others() -> list[int]:
    """Threads besides the first and ours."""
    known = _ours() - busy
    try:
        threads = [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        threads = [thread.native_id or 0 for thread in threading.enumerate()]
    return [n for n in threads if n != os.getpid() and n not in known and _name(n) != LIBRARYS_NAME]


def _name(thread: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/comm") as file:
        return file.read().strip()
    return ""


def _prepare() -> None:
    """The filter must be the first one, and programs set filters of their own. Python is not told, as it usually is: it
    would show all warnings again that are shown once."""
    filters: Any = warnings.filters
    if not _ours() or filters[:1] == [_FILTER]:
        return
    with contextlib.suppress(ValueError):
        filters.remove(_FILTER)
    filters.insert(0, _FILTER)


def install() -> None:
    os.register_at_fork(before=_prepare)
