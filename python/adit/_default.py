"""The client that a process's tunnels share unless they name one. Made when first needed; lives until the process ends,
so that the next tunnel finds the link up. A forked child makes its own."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from ._client import Client

if TYPE_CHECKING:
    from collections.abc import Callable


class _Shared:
    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal's handler may come here in the thread that has it
        self.client: Client | None = None
        self.users = 0
        self.former: dict[Client, int] = {}  # that others have followed, and how many use them still


_shared = _Shared()
_make: Callable[[], Client] = Client


def _forget() -> None:
    global _shared  # noqa: PLW0603
    _shared = _Shared()


os.register_at_fork(after_in_child=_forget)


def _usable() -> Client | None:
    client = _shared.client
    return None if client is None or client.closed or client._state.failed else client


def use(make: Callable[[], Client]) -> None:
    """How the shared client is made from now on, in a process that somebody has configured."""
    global _make  # noqa: PLW0603
    _make = make


def renew() -> None:
    """Whoever asks next gets a new one; those who have the present one keep it."""
    with _shared.lock:
        client, users = _shared.client, _shared.users
        _shared.client = None
        if client is not None and users:
            _shared.former[client] = users
    if client is not None and not users:
        client.close()


def shut() -> None:
    """Closes the shared client, if there is one, and those before it."""
    for client in [*_shared.former, *([_shared.client] if _shared.client is not None else [])]:
        client.close()


def default_client() -> Client:
    """The shared client, with one user more: release() it. One that failed for good stays with those who have it."""
    with _shared.lock:
        client = _usable()
        if client is None:
            made = _make()
            client = _usable()  # when a handler has made another meanwhile
            if client is None:
                client = _shared.client = made
                _shared.users = 0
        _shared.users += 1
        return client


def release(client: Client, *, failed: bool) -> None:
    """A client that never opened anything, or was refused, is given up with its last user: the next one is made from
    the configuration as it is then."""
    with _shared.lock:
        if client in _shared.former:
            _shared.former[client] -= 1
            if _shared.former[client] > 0:
                return
            del _shared.former[client]
        elif client is not _shared.client:
            return
        else:
            _shared.users -= 1
            if not failed or _shared.users > 0:
                return
            _shared.client = None
    client.close()
