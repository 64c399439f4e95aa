"""Tracebacks as a user wants them: with the lines of the program, and with none of ours or of the import system's."""

from __future__ import annotations

import importlib
import os
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


class RemoteTraceback(Exception):
    """Where in its container a function failed."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


_HEAD = f"{RemoteTraceback.__module__}.{RemoteTraceback.__qualname__}: \n"  # it has one of its own


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith((_OURS, "<frozen ")) or frame.filename == importlib.__file__


def _chain(told: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """It, and those that it came from or has in it."""
    yield told
    for other in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        if other is not None:
            yield from _chain(other)


def lines_of(error: BaseException, program: str | None = None) -> list[str]:
    """What to print of an error. Frames before the first one of ``program``, a file, are of whoever started that."""
    told = traceback.TracebackException.from_exception(error, compact=True)
    for one in _chain(told):
        files = [frame.filename for frame in one.stack]
        begin = files.index(program) if program in files else 0
        own = [frame for frame in one.stack[begin:] if not _is_ours(frame)]
        one.stack = traceback.StackSummary.from_list(own) if own else None  # type: ignore[assignment]
    if told.stack is None and isinstance(error.__cause__, RemoteTraceback):
        return [str(error.__cause__).lstrip() + "\n"]  # which ends as it does
    return [line.removeprefix(_HEAD) for line in told.format()]
