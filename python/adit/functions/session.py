"""Where this process stands: in a function's container, or outside, with a foreman of its own or another's; and which
apps run."""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ..exception import ConfigError, InvalidError
from .remote import Channel

if TYPE_CHECKING:
    from .foreman.embedded import EmbeddedForeman

CONTAINER_SOCKET = "/run/adit/foreman.sock"
RELAY = "unix:/run/adit/relay.sock"


_call: ContextVar[str | None] = ContextVar("call", default=None)


class _Session:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.foreman: EmbeddedForeman | None = None
        self.channel: Channel | None = None
        self.container: dict[str, str] | None = None  # of the runner: app id, function, call


_session = _Session()


def is_local() -> bool:
    """False in a function's container."""
    return _session.container is None


def enter_container(channel: Channel, about: dict[str, str]) -> None:
    """This process is a runner."""
    _session.channel, _session.container = channel, about


def container() -> dict[str, str] | None:
    """What the runner is about; None outside."""
    return _session.container


def current_function_call_id() -> str | None:
    """Of the call that this is part of; None outside of containers."""
    return _call.get() or (_session.container or {}).get("call")


def begin_call(identity: str) -> None:
    """From here on, in this thread."""
    _call.set(identity)


def channel() -> Channel:
    """To the foreman, which is started if need be."""
    with _session.lock:
        if _session.channel is None:
            path = os.environ.get("ADIT_FOREMAN")
            if path is None:
                try:
                    from .foreman.embedded import EmbeddedForeman
                except ImportError as error:
                    raise ConfigError(f"functions: {error} (pip install 'adit[functions]')") from None
                _session.foreman = EmbeddedForeman()
                path = _session.foreman.path
            elif not os.path.exists(path):
                raise InvalidError(f"ADIT_FOREMAN: {path}: there is no such socket")
            _session.channel = Channel(path)
        return _session.channel


def close() -> None:
    """Ends the foreman that was started here, with all of its containers."""
    with _session.lock:
        foreman, _session.foreman, _session.channel = _session.foreman, None, None
    if foreman is not None:
        foreman.close()
