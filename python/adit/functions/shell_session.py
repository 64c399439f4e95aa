"""``adit shell`` in the container: a program on a terminal, or on pipes, whose other ends are in queues. So it needs
nothing of the engine, and has all that the function would have."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .queue import Queue

CHUNK = 1 << 16
NOT_FOUND, NOT_RUN, SIGNALLED = 127, 126, 128


def _set_size(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _command(given: list[str]) -> list[str]:
    """Without the files of a shell that would ask who we are: the user of a container has no name."""
    return given or (["bash", "--norc"] if shutil.which("bash") else ["sh"])


def _environment(name: str, terminal: dict[str, Any] | None) -> dict[str, str]:
    path = os.pathsep.join([*sys.path[:1], *filter(None, [os.environ.get("PYTHONPATH")])])  # the program's own modules
    shown = {"TERM": terminal["kind"], "PS1": f"{name}:\\w$ "} if terminal else {}
    return {**os.environ, "PYTHONPATH": path, **shown}


def _start(command: list[str], name: str, terminal: dict[str, Any] | None) -> tuple[subprocess.Popen[bytes], int, int]:
    """The program, where it reads from, and where what it says can be read."""
    options: dict[str, Any] = {"env": _environment(name, terminal), "start_new_session": True}
    if terminal is None:
        options |= {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        program = subprocess.Popen(command, **options)
        assert program.stdin is not None and program.stdout is not None
        return program, os.dup(program.stdin.fileno()), os.dup(program.stdout.fileno())
    ours, its = os.openpty()
    try:
        _set_size(ours, *terminal["size"])
        options |= {"stdin": its, "stdout": its, "stderr": its, "preexec_fn": _own_terminal}
        return subprocess.Popen(command, **options), ours, ours
    finally:
        os.close(its)


def _type(typed: Queue, to: int) -> None:
    """Bytes as they are; a pair is the window's new size; None is the end of what is typed."""
    with contextlib.suppress(Exception):  # the program or the queue has ended
        while (item := typed.get()) is not None:
            if isinstance(item, bytes):
                while item:
                    item = item[os.write(to, item) :]
            else:
                _set_size(to, *item)
    os.close(to)


def _show(program: subprocess.Popen[bytes], said: int, shown: Queue) -> None:
    """To the program's end, whoever else may still hold its terminal."""
    ended = os.pidfd_open(program.pid)
    try:
        while True:
            ready, _, _ = select.select([said, ended], [], [])
            if said not in ready:
                return
            data = b""
            with contextlib.suppress(OSError):  # a terminal's end
                data = os.read(said, CHUNK)
            if not data:
                return
            shown.put(data)
    finally:
        os.close(ended)


def session(typed: Queue, shown: Queue, given: list[str], name: str, terminal: dict[str, Any] | None) -> int:
    """Runs a command, or a shell; its exit status. ``terminal`` is what kind and size the caller's has. The first item
    that is shown is None, when it has begun, and the last is empty."""
    command = _command(given)
    shown.put(None)
    try:
        program, to, said = _start(command, name, terminal)
    except OSError as error:
        shown.put_many([f"adit: {command[0]}: {error.strerror}\n".encode(), b""])
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN
    threading.Thread(target=_type, args=(typed, os.dup(to)), daemon=True).start()
    if program.stdin is not None:
        program.stdin.close()
        os.close(to)
    try:
        _show(program, said, shown)
        status = program.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGHUP)
    shown.put(b"")
    return status if status >= 0 else SIGNALLED - status
