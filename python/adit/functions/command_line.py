"""How the commands of functions read their words: as the program's own commands do, with examples in their help and one
sentence for what is wrong."""

from __future__ import annotations

import argparse
import signal
import sys
import textwrap
from typing import NoReturn

USAGE = 2
COLUMNS = 80


def heeded(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those of the signals that are not ignored: what nohup or a shell, in the background, had us ignore stays so."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


class _Brief(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as of the other commands."""
        print(f"adit: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(USAGE)


class Parser(_Brief):
    """Of ``adit NAME``."""

    def __init__(self, name: str, purpose: str, *examples: str) -> None:
        lines = "\n".join(f"  {line}" for line in examples)
        super().__init__(
            prog=f"adit {name}",
            description=f"{textwrap.fill(purpose, COLUMNS)}\n\nExamples:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def actions(self, *names: str) -> list[argparse.ArgumentParser]:
        """The command has a second word, one of these, each ``"name: what it does"``; ``action`` in what is given."""
        pairs = [name.split(": ", 1) for name in names]
        every = " | ".join(name for name, _ in pairs)
        adding = self.add_subparsers(dest="action", required=True, metavar=every, parser_class=_Brief)
        return [adding.add_parser(name, help=text, description=text) for name, text in pairs]
