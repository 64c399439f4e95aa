"""Control groups of this machine, in either version of the kernel's interface: what the processes in one have used,
those that have ended, too; and of a group above theirs that can be read when their own is gone."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

_MEMORY, _CPU = "memory", "cpuacct"  # as version 1 calls them


def _number(path: str, name: str | None = None) -> int:
    """In a file that has one, or behind a name in a file of lines of names and numbers."""
    with open(path, encoding="ascii") as file:
        if name is None:
            return int(file.read())
        for line in file:
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    raise FileNotFoundError(f"{path}: {name}")


@dataclass(frozen=True)
class Hierarchies:
    """Where groups are: one tree for all that is counted (version 2), or several with the same names in them."""

    roots: tuple[str, ...]
    cpu: str
    memory: str
    unified: bool

    @classmethod
    def find(cls, mounts: Iterable[str]) -> Hierarchies | None:
        """As /proc/self/mounts tells it; None when there are none that could be read."""
        split = [(words[1], words[3].split(",")) for words in map(str.split, mounts) if words[2] == "cgroup"]
        unified = [words[1] for words in map(str.split, mounts) if words[2] == "cgroup2"]
        by_name = {option: path for path, options in split for option in options}
        if _CPU in by_name and _MEMORY in by_name:
            roots = dict.fromkeys([*(path for path, _ in split), *unified])
            return cls(tuple(roots), by_name[_CPU], by_name[_MEMORY], False)
        return cls((unified[0],), unified[0], unified[0], True) if unified else None

    @classmethod
    def here(cls) -> Hierarchies | None:
        """This machine's."""
        try:
            with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
                return cls.find(file.readlines())
        except OSError:
            return None

    def of_process(self, pid: int) -> str | None:
        """The group of a process."""
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            for line in file:
                number, controllers, path = line.rstrip("\n").split(":", 2)
                if (number == "0") if self.unified else (_CPU in controllers.split(",")):
                    return path
        return None

    def usage(self, group: str) -> Usage | None:
        """Of a group; None when it is not there."""
        cpu, memory = self.cpu + group, self.memory + group
        try:
            if self.unified:
                nanoseconds = _number(f"{cpu}/cpu.stat", "usage_usec") * 1000
            else:
                nanoseconds = _number(f"{cpu}/cpuacct.usage")
        except (OSError, ValueError):
            return None
        used = 0
        with contextlib.suppress(OSError, ValueError):  # there may be no such controller
            if self.unified:
                used = _number(f"{memory}/memory.current") - _number(f"{memory}/memory.stat", "inactive_file")
            else:
                used = _number(f"{memory}/memory.usage_in_bytes")
                used -= _number(f"{memory}/memory.stat", "total_inactive_file")
        return Usage(nanoseconds, max(used, 0))

    def make(self, group: str) -> bool:
        """Makes one. False when this user may not."""
        try:
            for root in {self.cpu, self.memory}:
                os.makedirs(root + group, exist_ok=True)
        except OSError:
            self.remove(group)
            return False
        return True

    def remove(self, group: str) -> bool:
        """With those below it, which are empty; False when one is not yet."""
        for root in self.roots:
            for folder, _, _ in os.walk(root + group, topdown=False):
                with contextlib.suppress(FileNotFoundError):
                    try:
                        os.rmdir(folder)
                    except OSError:
                        return False
        return True
