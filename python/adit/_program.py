"""The program ``adit`` of this package: its command line, and what an embedded relay is started from."""

import os
import sys
from typing import NoReturn

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "adit")


def main() -> NoReturn:
    """The command ``adit``: becomes the program."""
    os.execv(PATH, ["adit", *sys.argv[1:]])
