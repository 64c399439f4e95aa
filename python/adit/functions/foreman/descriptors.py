"""How many files and sockets this process may still open: strangers must not take the last ones."""

from __future__ import annotations

import os
import resource

FEW = 16  # as many as each may have even when others need them


def are_short() -> bool:
    """Whether half of them are in use."""
    return len(os.listdir("/proc/self/fd")) > resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
