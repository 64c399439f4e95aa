"""Where this user's files are that outlive a process."""

from __future__ import annotations

import os


def state_path(*names: str) -> str:
    """Of what adit remembers. Folders on the way may have to be made, for this user alone."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "adit", *names)


def configuration_path(name: str) -> str:
    """Of what the user may have written."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "adit", name)
