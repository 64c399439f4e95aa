"""Patterns of files to be left out, as ``.dockerignore`` has them: the last that fits decides, ``!`` takes one back,
and a folder's rule is for all below it."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PARTS = re.compile(r"\*\*/?|\*|\?|\[[^]]+\]|\\.|.", re.DOTALL)


def _expression(pattern: str) -> str:
    out = ""
    for part in _PARTS.findall(pattern):
        if part == "**/":
            out += "(?:.*/)?"
        elif part == "**":
            out += ".*"
        elif part == "*":
            out += "[^/]*"
        elif part == "?":
            out += "[^/]"
        elif part.startswith("[") and len(part) > 1:
            out += part
        else:
            out += re.escape(part[-1])
    return out


class Ignore:
    """Which paths are left out."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in lines:
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            back = text.startswith("!")
            text = os.path.normpath(text[back:].strip()).lstrip("/")
            if text != ".":
                self._rules.append((back, re.compile(f"{_expression(text)}(?:/.*)?", re.DOTALL)))
        self._takes_back = any(back for back, _ in self._rules)

    def __call__(self, path: str) -> bool:
        """Of a path below the folder that the patterns are for."""
        ignored = False
        for back, rule in self._rules:
            if ignored == back and rule.fullmatch(path):
                ignored = not back
        return ignored

    def walk(self, folder: str) -> Iterator[tuple[str, str]]:
        """What is left of a folder, in the same order each time: path here, and path below the folder. Links and empty
        folders, too; nothing that is neither file, folder nor link."""
        for here, folders, names in os.walk(folder):
            below = os.path.relpath(here, folder)
            folders.sort()
            for name in sorted([*folders, *names]):
                path, relative = os.path.join(here, name), os.path.normpath(os.path.join(below, name))
                if self(relative):
                    if name in folders and not self._takes_back:
                        folders.remove(name)
                elif stat.S_IFMT(os.lstat(path).st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                    yield path, relative
