"""How the commands of functions read their words: as the program's own commands do, with examples in their help and one
sentence for what is wrong."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import textwrap
from typing import NoReturn

from ..exception import ConfigError, InvalidError
from . import engines
from .spec import SPARES_MAX

USAGE = 2
COLUMNS = 80


def heeded(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those of the signals that are not ignored: what nohup or a shell, in the background, had us ignore stays so."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def _is_count(text: str) -> bool:
    return text.isdecimal() and int(text) <= SPARES_MAX


def spares_wanted() -> int:
    """By default one of each kind."""
    given = os.environ.get("ADIT_SPARE") or "1"
    if not _is_count(given):
        raise ConfigError(f"ADIT_SPARE: {given!r} is no number from 0 to {SPARES_MAX}")
    return int(given)


class Brief(argparse.ArgumentParser):
    """Says in a line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """One line, as of the other commands."""
        print(f"adit: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(USAGE)


class Parser(Brief):
    """Of ``adit NAME``."""

    def __init__(self, name: str, purpose: str, *examples: str) -> None:
        lines = "\n".join(f"  {line}" for line in examples)
        super().__init__(
            prog=f"adit {name}",
            description=f"{textwrap.fill(purpose, COLUMNS)}\n\nExamples:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def takes_spare(self) -> None:
        """It has ``--spare``, which holds for whatever this process describes, and its children."""

        def count(text: str) -> None:
            if not _is_count(text):
                raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {SPARES_MAX}")
            os.environ["ADIT_SPARE"] = text

        what = f"containers of each kind that wait for calls, 0 to {SPARES_MAX} (1, or what ADIT_SPARE says)"
        self.add_argument("--spare", type=count, metavar="N", help=what)

    def takes_budget(self, *, is_foreman: bool = False) -> None:
        """It has ``--budget``, which holds for the foreman of this process."""

        def budget(text: str) -> str:
            from .foreman.spending import read

            if not is_foreman and os.environ.get("ADIT_FOREMAN"):
                raise argparse.ArgumentTypeError(
                    "the foreman that ADIT_FOREMAN names has its own (adit foreman --budget)"
                )
            try:
                read(text)
            except InvalidError as error:
                raise argparse.ArgumentTypeError(str(error)) from None
            os.environ["ADIT_BUDGET"] = text
            return text

        what = "no new containers when so much is spent: 20/day (hour, week, month); 5 is for all in all (ADIT_BUDGET)"
        self.add_argument("--budget", type=budget, metavar="SUM[/PERIOD]", help=what)

    def takes_engine(self) -> None:
        """It has ``--engine`` and ``--registry``, for a foreman that it may start."""

        def engine(text: str) -> None:
            if text not in engines.ALL:
                raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(engines.ALL)}")
            os.environ[engines.VARIABLE] = text

        def registry(text: str) -> None:
            os.environ[engines.REGISTRY] = text

        what = f"docker (or podman), or kubernetes (docker, or what {engines.VARIABLE} says)"
        self.add_argument("--engine", type=engine, metavar="NAME", help=what)
        what = f"HOST/PATH, from where a cluster's nodes get images (what {engines.REGISTRY} says)"
        self.add_argument("--registry", type=registry, metavar="REGISTRY", help=what)

    def actions(self, *names: str) -> list[argparse.ArgumentParser]:
        """The command has a second word, one of these, each ``"name: what it does"``; ``action`` in what is given."""
        pairs = [name.split(": ", 1) for name in names]
        every = " | ".join(name for name, _ in pairs)
        adding = self.add_subparsers(dest="action", required=True, metavar=every, parser_class=Brief)
        return [adding.add_parser(name, help=text, description=text) for name, text in pairs]
