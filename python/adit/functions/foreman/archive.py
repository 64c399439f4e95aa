"""Tar archives of this machine's files, the same for the same files."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from typing import TYPE_CHECKING, Any

from ...exception import ImageError
from ..ignore import Ignore
from ..image import local_files

if TYPE_CHECKING:
    from typing import IO


def _add(tar: tarfile.TarFile, path: str, name: str, more_mode: int = 0) -> None:
    with contextlib.suppress(FileNotFoundError):  # gone in the meantime, or a link that leads nowhere
        info = tar.gettarinfo(path, name)
        info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
        info.mode |= more_mode & (0o777 if info.isdir() else 0o666)
        if not info.isreg():
            tar.addfile(info)
            return
        with open(path, "rb") as file:
            info.type, info.size = tarfile.REGTYPE, os.fstat(file.fileno()).st_size
            tar.addfile(info, file)


def _check_is_there(path: str) -> None:
    """An image may have to be built long after its program was read, such as one that somebody has removed."""
    if not os.path.exists(path):
        raise ImageError(f"image: {path}: it is no longer there, and belongs into the image (put it back)")


def of_copy(step: dict[str, Any]) -> bytes:
    """The files of a copy step, from the image's root. Everybody may read them: functions have ids of their own."""
    _check_is_there(step["local"])
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        if os.path.normpath(os.path.join("/root", step["remote"])).startswith("/root/"):
            home = tarfile.TarInfo("root")  # which Debian closes
            home.type, home.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(home)
        for local, remote in local_files(step):
            _add(tar, local, remote.lstrip("/"), 0o555)
    return out.getvalue()


def of_context(dockerfile: dict[str, Any], out: IO[bytes], name: str) -> None:
    """What a Dockerfile may copy from, and itself under that name."""
    file, folder = dockerfile["file"], dockerfile["folder"]
    _check_is_there(file)
    _check_is_there(folder)
    lines: list[str] = []
    for candidate in (f"{file}.dockerignore", os.path.join(folder, ".dockerignore")):
        with contextlib.suppress(OSError), open(candidate, encoding="utf-8") as patterns:
            lines = patterns.read().splitlines()
            break
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, below in Ignore(lines).walk(folder):
            _add(tar, path, below)
        _add(tar, file, name)
