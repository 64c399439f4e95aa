"""The program ``adit`` of this package: its command line, and what an embedded relay is started from."""

import os
import signal
import sys
from typing import NoReturn

from . import _first_process

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "adit")


_FUNCTIONS = ("run", "serve", "deploy", "app", "shell", "usage", "foreman", "doctor", "image", "secret")


def main() -> NoReturn:
    """The command ``adit``: becomes the program, but for the commands of functions, which are Python."""
    words = sys.argv[1:]
    if words[:1] == ["help"] and words[1:] and words[1] in _FUNCTIONS:
        words = [words[1], "--help"]
    if words[:1] == ["foreman"]:
        _first_process.leave()  # first of all: until then, a process 1 does not hear that it is to end
    if words and words[0] in _FUNCTIONS:
        try:
            from .functions import cli  # noqa: PLC0415
        except ImportError as error:
            sys.exit(f"adit: {words[0]}: {error} (pip install 'adit[functions]')")
        cli.main(words)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # the interpreter ignores them, and what it becomes would go on to
        signal.signal(number, signal.SIG_DFL)
    os.execv(PATH, ["adit", *sys.argv[1:]])
