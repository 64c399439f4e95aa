"""Where this user's files are that outlive a process."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import tempfile

from ...exception import ConfigError

_SOCKET_MAX = 107  # bytes of a path at which one may listen
_LONGEST = "/0123456789ab/visitors.sock"  # of a container, in the folder of its foreman
FOLDER_MAX = _SOCKET_MAX - len(_LONGEST)
_RANDOM = "x" * 8  # what mkdtemp adds


def check_length(folder: str, remedy: str) -> None:
    """ConfigError where sockets would not fit."""
    if len(os.fsencode(folder)) > FOLDER_MAX:
        raise ConfigError(f"foreman: {folder}: the path is too long for sockets, {FOLDER_MAX} bytes at most ({remedy})")


def temporary_folder(prefix: str) -> str:
    """A new one, for this user alone."""
    try:
        check_length(os.path.join(tempfile.gettempdir(), prefix + _RANDOM), "name a shorter one: TMPDIR=FOLDER")
        return tempfile.mkdtemp(prefix=prefix)  # 0700
    except OSError as error:
        text = f"foreman: there is no folder for temporary files: {error.strerror or error} (name one: TMPDIR=FOLDER)"
        raise ConfigError(text) from None


def state_path(*names: str) -> str:
    """Of what adit remembers. Folders on the way may have to be made, for this user alone."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "adit", *names)


def configuration_path(name: str) -> str:
    """Of what the user may have written."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "adit", name)


def state_identity() -> str:
    """Of the state folder, so that what it marks is of no other machine, whatever that is called."""
    return kept_bits(state_path("id"), 16)


@functools.cache
def kept_bits(path: str, size: int) -> str:
    """So many random bytes, in hex, made once and kept there for this user alone. Where they cannot be kept they are
    this process's."""
    own = secrets.token_hex(size)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(path), encoding="ascii") as file:
            file.write(own)
            file.flush()
            with contextlib.suppress(FileExistsError):  # the first one's, and whole
                os.link(file.name, path)
        with open(path, encoding="ascii", errors="replace") as file:
            found = file.read()
        return found if re.fullmatch(f"[0-9a-f]{{{2 * size}}}", found) else own
    return own
