"""``adit shell``: a shell where a function would run, with its image, limits, secrets and volumes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..exception import InvalidError
from . import bundle, cli, shell_session
from .command_line import Parser
from .function import Function
from .options import TIMEOUT_MAX_S
from .output import Output
from .queue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .app import App
    from .function import FunctionCall

SHOWN_AHEAD = 64  # pieces of output that wait for a slow terminal
CHUNK = 4096


def _find(app: App, name: str, path: str) -> Function[Any, Any]:
    there = app.registered_functions
    if not name and len(there) == 1:
        return next(iter(there.values()))
    if not name:
        lines = "".join(f"\n    adit shell {path}::{n}" for n in there)
        raise InvalidError(f"{path}: it has {'several' if there else 'no'} functions; say which:{lines}")
    found = cli.find_function(app, name, path)[1]
    if not isinstance(found, Function):
        raise InvalidError(f"{path}::{name}: it runs here, in no container (there are: {', '.join(there)})")
    return found


def _in_its_place(function: Function[Any, Any]) -> Function[Any, int]:
    """All that is of the function's container, with the shell instead of the function."""
    spec = replace(
        function.spec,
        module=shell_session.__name__,
        qualname="session",
        timeout=TIMEOUT_MAX_S,
        keep_warm=0,
        concurrency_limit=1,
        max_inputs=1,
        retries=None,
        is_generator=False,
        web=None,
    )
    return Function(function._app, shell_session.session, spec)


def _terminal() -> dict[str, Any] | None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return {"kind": os.environ.get("TERM", "xterm"), "size": _size()}


def _size() -> list[int]:
    size = os.get_terminal_size(sys.stdin.fileno())
    return [size.lines, size.columns]


def _read(typed: Queue) -> None:
    with contextlib.suppress(Exception):  # it has ended
        while data := os.read(sys.stdin.fileno(), CHUNK):
            typed.put(data)
        typed.put(None)


@contextlib.contextmanager
def _keys(typed: Queue, on_terminal: bool) -> Iterator[None]:
    """Whatever is typed goes there, Ctrl-C too."""
    threading.Thread(target=_read, args=(typed,), name="adit-keys", daemon=True).start()
    if not on_terminal:
        yield
        return
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    signal.signal(signal.SIGWINCH, lambda *_: typed.put(_size()))
    try:
        tty.setraw(keys)
        typed.put(_size())  # it may have changed while the container started
        yield
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)


def _end(call: FunctionCall[int], shown: Queue) -> None:
    """A container that dies cannot say that nothing more comes."""
    with contextlib.suppress(Exception):
        call.get()
    with contextlib.suppress(Exception):
        shown.put(b"")


def _talk(function: Function[Any, int], command: list[str]) -> int:
    terminal = _terminal()
    with Queue.ephemeral() as typed, Queue.ephemeral(maxsize=SHOWN_AHEAD) as shown:
        call = function.spawn(typed, shown, command, function.spec.name, terminal)
        threading.Thread(target=_end, args=(call, shown), name="adit-end", daemon=True).start()
        data = shown.get()  # that it has begun: until then Ctrl-C is for us
        with _keys(typed, terminal is not None):
            while data != b"":
                sys.stdout.buffer.write(data or b"")
                sys.stdout.buffer.flush()
                data = shown.get()
        return call.get()


def shell(words: list[str]) -> int:
    """The command."""
    parser = Parser(
        "shell",
        "Opens a shell in a container as a function would get it, with its image, limits, secrets and volumes; or runs "
        "a command there. Ends with its exit status.",
        "adit shell hub.py::run_jupyter              until exit or Ctrl-D",
        "adit shell hub.py::run_jupyter -- pip list",
    )
    parser.add_argument("target", metavar="FILE[::FUNCTION]", help="the file, and which of its functions")
    parser.add_argument("command", nargs="*", default=[], metavar="-- COMMAND", help="instead of a shell")
    parser.takes_engine()
    given = parser.parse_args(words)
    path, _, name = given.target.partition("::")
    app = cli.find_app(bundle.load(path), path)
    function = _in_its_place(_find(app, name, path))
    app.registered_functions = {function.spec.name: function}
    os.environ["ADIT_SPARE"] = "0"  # there is one call
    with Output(quiet=not sys.stderr.isatty()) as output, app._running(output):
        return _talk(function, given.command)
