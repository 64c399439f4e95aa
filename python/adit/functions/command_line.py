"""How the commands of functions read their words: as the program's own commands do, with examples in their help and one
sentence for what is wrong."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

USAGE = 2


class Parser(argparse.ArgumentParser):
    """Of ``adit NAME``."""

    def __init__(self, name: str, purpose: str, *examples: str) -> None:
        lines = "\n".join(f"  {line}" for line in examples)
        super().__init__(
            prog=f"adit {name}",
            description=f"{purpose}\n\nExamples:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """One line, as of the other commands."""
        print(f"adit: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(USAGE)
