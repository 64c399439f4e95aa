"""Whose a container is: labels that tell which process made it, so that what one that died has left can be removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from ...exception import ConfigError
from . import places

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import IO

    from ..engine import Engine

LABEL = "adit.owner"
_FILE = "owner"
_SERVICE = "service"


def boot() -> str:
    """Which one of this machine's."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _start_of(pid: int) -> str | None:
    """When a process began, if it still runs: a pid alone is given again to others. OSError when that cannot be
    told."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        with contextlib.suppress(ProcessLookupError, OverflowError):
            os.kill(pid, 0)  # /proc may hide those of other users
            raise
        return None
    return None if fields[0] == "Z" else fields[19]


def labels() -> dict[str, str]:
    """Of this process."""
    return {LABEL: " ".join((*_here(), str(os.getpid()), _start_of(os.getpid()) or ""))}


def service_labels(identity: str, path: str) -> dict[str, str]:
    """Of the foreman that listens there, whose machine is known by its state: what is its own stays so when it is
    another process."""
    return {LABEL: f"{_SERVICE} {identity} {path}"}


def _here() -> tuple[str, str, str]:
    """What makes a pid one: machine, by the user's state, as names of hosts are given twice; boot; namespace."""
    return places.state_identity(), boot(), os.readlink("/proc/self/ns/pid")


def is_alive(owner: str) -> bool:
    """Whether the process that these labels name may still run: one of another machine or namespace may, as far as can
    be told from here, one of another boot of this machine does not."""
    words = owner.split()
    if len(words) != len(_here()) + 2:
        return True
    machine, booted, space, pid, start = words
    here = _here()
    if booted != here[1]:
        return machine != here[0]
    if space != here[2]:
        return True
    try:
        return pid.isdecimal() and _start_of(int(pid)) == start
    except OSError:
        return True


def _open(folder: str, mode: str = "r") -> IO[str]:
    return open(os.path.join(folder, _FILE), mode, encoding="utf-8", errors="surrogateescape")  # as paths are


def mark(folder: str, labels: dict[str, str]) -> None:
    """Says whose a folder is."""
    with _open(folder, "w") as file:
        file.write(labels[LABEL])


def _owner_of(folder: str) -> str:
    with _open(folder) as file:
        return file.read()


def claim(folder: str, path: str, labels: dict[str, str]) -> None:
    """Makes the folder of the foreman that listens there, in which what containers have that live on stays, also while
    there is no foreman. ConfigError if there is one that is another's."""
    try:
        if os.path.lexists(folder):
            is_ours = not os.path.islink(folder) and os.path.isfile(os.path.join(folder, _FILE))
            if not is_ours and (not os.path.isdir(folder) or os.listdir(folder)):
                raise ConfigError(f"foreman: {folder} is there, and no foreman's (name another --socket)")
            kind, _, whose = _owner_of(folder).partition(" ") if is_ours else ("", "", "")
            at = whose.partition(" ")[2]
            if kind == _SERVICE and at != path:
                raise ConfigError(f"foreman: {folder} is of the one at {at} (remove it, or name another --socket)")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        mark(folder, labels)
    except OSError as error:
        raise ConfigError(f"foreman: {error} (name a socket in a folder of yours: --socket PATH)") from None


def clear(folder: str, but: set[str]) -> None:
    """What a foreman before has left in a service's folder."""
    for name in set(os.listdir(folder)) - but - {_FILE}:
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _sweep_folders() -> None:
    try:
        scanned = os.scandir(tempfile.gettempdir())
    except OSError:  # where there is none, there are none of ours
        return
    with scanned as entries:
        ours = [e for e in entries if e.name.startswith("adit-") and e.is_dir(follow_symlinks=False)]
    for entry in ours:
        with contextlib.suppress(OSError):
            if entry.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            if not is_alive(_owner_of(entry.path)):
                shutil.rmtree(entry.path, ignore_errors=True)


async def sweep(engine: Engine, own: dict[str, str] | None = None, but: Collection[str] = ()) -> None:
    """Removes containers, volumes and folders of callers that have died, and what a service of ours has left, but for
    these, which are in use."""

    def is_left(labels: dict[str, str]) -> bool:
        return (own is not None and labels.get(LABEL) == own[LABEL]) or not is_alive(labels.get(LABEL, ""))

    for container, found in await engine.leftovers(LABEL):
        if is_left(found) and container.id not in but:
            await container.remove()
    for volume, found in await engine.leftover_volumes(LABEL):
        if is_left(found) and volume not in but:
            await engine.remove_volume(volume)
    await asyncio.to_thread(_sweep_folders)
