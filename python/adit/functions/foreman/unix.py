"""Unix sockets towards containers. Bytes may have descriptors with them, and some of those take their time when they
are closed, as a TCP socket that lingers does: a container could make whoever reads stand still. Linux 6.16 and later
can keep them out."""

from __future__ import annotations

import contextlib
import os
import socket

SO_PASSRIGHTS = getattr(socket, "SO_PASSRIGHTS", 83)


def make() -> socket.socket:
    """One that takes no descriptors, if that can be had; what it accepts does not, either."""
    made = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    return made


def bind(path: str, mode: int = 0o666) -> socket.socket:
    """One for a server, in a folder that nobody else may write to; in place of a server's before that has died."""
    made = make()
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        made.bind(path)
        os.chmod(path, mode)
    except OSError:
        made.close()
        raise
    return made
