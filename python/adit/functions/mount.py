"""``Mount``: files of this machine for functions. They become the last layers of the function's image."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from ..exception import InvalidError
from . import session
from .image import copy_file, copy_folder
from .known import Telling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Mount(Telling):
    """Files and folders of this machine, as they are when the app starts: ``@app.function(mounts=[...])``."""

    _instead: ClassVar[dict[str, str]] = {"from_name": "use from_local_dir", "lookup": "use from_local_dir"}

    def __init__(self) -> None:
        raise InvalidError("Mount: it has no constructor (use Mount.from_local_dir() or Mount.from_local_file())")

    steps: list[dict[str, Any]]

    @classmethod
    def _of(cls, steps: list[dict[str, Any]]) -> Mount:
        made = cls.__new__(cls)
        made.steps = steps
        return made

    def __repr__(self) -> str:
        return f"<adit.Mount of {', '.join(step['local'] for step in self.steps)}>"

    @staticmethod
    def from_local_dir(
        local_path: str | Path,
        *,
        condition: Callable[[str], bool] | None = None,
        recursive: bool = True,
        remote_path: str | Path | None = None,
    ) -> Mount:
        """A folder, at ``remote_path`` or else below ``/root``; of it, the files whose paths fit ``condition``."""
        return Mount._of([]).add_local_dir(
            local_path, condition=condition, recursive=recursive, remote_path=remote_path
        )

    @staticmethod
    def from_local_file(local_path: str | Path, remote_path: str | Path | None = None) -> Mount:
        """A file, at ``remote_path`` or else below ``/root``."""
        return Mount._of([]).add_local_file(local_path, remote_path)

    @staticmethod
    def from_local_python_packages(*module_names: str) -> Mount:
        """Packages and modules as they are imported here; those of the program's folder come by themselves."""
        mount = Mount._of([])
        for name in module_names if session.is_local() else ():
            try:
                found = importlib.util.find_spec(name)
            except (ImportError, ValueError):
                found = None
            if found is None or found.origin is None or not os.path.isfile(found.origin):
                raise InvalidError(f"Mount.from_local_python_packages: {name}: it is not installed here")
            target = "/root/" + name.replace(".", "/")
            if found.submodule_search_locations:
                step = copy_folder("Mount", os.path.dirname(found.origin), target, ["**/__pycache__"])
            else:
                step = copy_file("Mount", found.origin, target + ".py")
            mount.steps.append(step)
        return mount

    def add_local_dir(
        self,
        local_path: str | Path,
        *,
        condition: Callable[[str], bool] | None = None,
        recursive: bool = True,
        remote_path: str | Path | None = None,
    ) -> Mount:
        """A mount with that folder, too."""
        local = os.path.abspath(os.path.expanduser(local_path))
        remote = os.fspath(remote_path) if remote_path is not None else os.path.basename(local)
        step = copy_folder("Mount.from_local_dir", local, remote)
        if session.is_local():
            step["ignore"] = [_pattern(path, local) for path in _left_out(local, condition, recursive)]
        return Mount._of([*self.steps, step])

    def add_local_file(self, local_path: str | Path, remote_path: str | Path | None = None) -> Mount:
        """A mount with that file, too."""
        local = os.fspath(local_path)
        remote = os.fspath(remote_path) if remote_path is not None else os.path.basename(local)
        return Mount._of([*self.steps, copy_file("Mount.from_local_file", local, remote)])


def _left_out(folder: str, condition: Callable[[str], bool] | None, recursive: bool) -> list[str]:
    """What is not wanted, and with it the folders of which nothing is."""
    out: list[str] = []
    with os.scandir(folder) as entries:
        there = list(entries)
    for entry in there:
        if entry.is_dir(follow_symlinks=False):
            below = _left_out(entry.path, condition, recursive) if recursive else []
            children = [os.path.join(entry.path, name) for name in os.listdir(entry.path)]
            gone = not recursive or (condition is not None and set(below) >= set(children))
            out += [entry.path] if gone else below
        elif condition is not None and not condition(entry.path):
            out.append(entry.path)
    return out


def _pattern(path: str, folder: str) -> str:
    """That fits this one only."""
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in "/" + os.path.relpath(path, folder))


def check_mounts(name: str, given: Any) -> list[dict[str, Any]]:
    """The steps of several, for what is called ``name``."""
    steps: list[dict[str, Any]] = []
    for mount in [given] if isinstance(given, Mount) or not isinstance(given or (), Iterable) else list(given or ()):
        if not isinstance(mount, Mount):
            raise InvalidError(f"{name}: mounts: {mount!r} is no adit.Mount (such as [Mount.from_local_dir('data')])")
        steps += [{"kind": "copy", **step} for step in mount.steps]
    return steps
