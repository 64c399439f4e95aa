"""The program ``adit`` of this package: its command line, and what an embedded relay is started from."""

import os
import signal
import sys
from typing import NoReturn

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "adit")


def main() -> NoReturn:
    """The command ``adit``: becomes the program."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # the interpreter ignores them, and what it becomes would go on to
        signal.signal(number, signal.SIG_DFL)
    os.execv(PATH, ["adit", *sys.argv[1:]])
