"""``Volume``: files that outlive containers, and that several of them share. A volume of the container engine."""

from __future__ import annotations

import os
import re
import secrets
from typing import Any, ClassVar

from ..exception import InvalidError
from . import session
from .known import Telling
from .twin import in_thread, twin

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NOT_THERE = ("/proc", "/sys", "/dev", "/run/adit")
_OURS = ("/", "/tmp", "/home/adit")
_FILES = "mount it into a function, and use its files there"


class Volume(Telling):
    """A folder of files for ``@app.function(volumes={"/data": volume})``. Containers see each other's changes at
    once."""

    _instead: ClassVar[dict[str, str]] = {
        "new": "use Volume.ephemeral",
        "persisted": "use Volume.from_name(name, create_if_missing=True)",
        "lookup": "use Volume.from_name",
        "delete": "remove it with the engine: docker volume rm",
        "read_only": "it can be written to",
        **dict.fromkeys(("listdir", "iterdir", "read_file", "write_file", "remove_file", "copy_files"), _FILES),
        **dict.fromkeys(("batch_upload", "add_local_file", "add_local_dir"), _FILES),
    }

    def __init__(self) -> None:
        raise InvalidError("Volume: it has no constructor (use Volume.from_name() or Volume.ephemeral())")

    spec: dict[str, Any]

    @classmethod
    def _of(cls, spec: dict[str, Any]) -> Any:
        made = cls.__new__(cls)
        made.spec = spec
        return made

    def __repr__(self) -> str:
        return f"<adit.{type(self).__name__} {self.spec['name']}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._of, (self.spec,)

    @staticmethod
    def from_name(name: str, *, create_if_missing: bool = False) -> Volume:
        """The one of that name, for all apps of this user. NotFoundError when the app starts and there is none."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidError(f"Volume.from_name: {name!r} is no name (up to 64 letters, digits, and . _ -)")
        volume: Volume = Volume._of({"name": name, "create": create_if_missing})
        return volume

    @staticmethod
    def ephemeral() -> EphemeralVolume:
        """One that is gone with its ``with`` block or, without one, with the app that has it."""
        volume: EphemeralVolume = EphemeralVolume._of({"name": secrets.token_hex(16), "ephemeral": True})
        return volume

    @twin
    def commit(self) -> None:
        """Does nothing: what a container writes is there for all at once."""

    @twin
    def reload(self) -> None:
        """Does nothing: what others write is seen at once."""


class EphemeralVolume(Volume):
    """What ``Volume.ephemeral()`` gives."""

    def __enter__(self) -> EphemeralVolume:
        if session.is_local():
            session.channel().ask("volume_create", {"volume": self.spec})
        return self

    def __exit__(self, *_: object) -> None:
        if session.is_local():
            session.channel().ask("volume_end", {"volume": self.spec})

    async def __aenter__(self) -> EphemeralVolume:
        return await in_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await in_thread(self.__exit__)


NetworkFileSystem = Volume


def check_volumes(name: str, *given: Any) -> dict[str, dict[str, Any]]:
    """Where which volumes are, for what is called ``name``."""
    found: dict[str, dict[str, Any]] = {}
    for places in given:
        if not isinstance(places or {}, dict):
            raise InvalidError(f"{name}: volumes: it is a dict (such as {{'/data': Volume.from_name('data')}})")
        for path, volume in (places or {}).items():
            if not isinstance(volume, Volume):
                raise InvalidError(f"{name}: volumes: {volume!r} is no adit.Volume (such as Volume.from_name('data'))")
            found[_check_path(name, path, found)] = volume.spec
    return found


def _check_path(name: str, given: Any, others: dict[str, Any]) -> str:
    path = os.path.normpath(os.fspath(given)) if isinstance(given, (str, os.PathLike)) else ""
    if not path.startswith("/") or path.startswith("//") or set(path) & set("\n\0"):
        raise InvalidError(f"{name}: volumes: {given!r} is no full path (such as '/data')")
    if path in _OURS or any(_is_below(path, folder) for folder in _NOT_THERE):
        raise InvalidError(f"{name}: volumes: {path}: that is no place for one (such as '/data')")
    for other in others:
        if _is_below(path, other) or _is_below(other, path):
            raise InvalidError(f"{name}: volumes: {path} and {other}: one is inside of the other (use two folders)")
    return path


def _is_below(path: str, folder: str) -> bool:
    return (path + "/").startswith(folder + "/")
