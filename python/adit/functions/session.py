"""Where this process stands: in a function's container, or outside, with a foreman of its own or another's; and which
apps run."""

from __future__ import annotations

import contextlib
import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ..exception import ConfigError
from .remote import Channel

if TYPE_CHECKING:
    from .foreman.embedded import EmbeddedForeman
    from .wire import Meta

CONTAINER_SOCKET = "/run/adit/foreman.sock"
RELAY = "/run/adit/relay.sock"
PATIENCE_S = 30.0  # with a foreman that is to come back
SERVICE_SOCKET = "adit/foreman/caller.sock"  # below the user's runtime folder, or the machine's


_call: ContextVar[str | None] = ContextVar("call", default=None)


class _Session:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.foreman: EmbeddedForeman | None = None
        self.channel: Channel | None = None
        self.container: dict[str, str] | None = None  # of the runner: app id, function, call


_session = _Session()


def relay() -> tuple[str, ...]:
    """A container's way to the relay; none, where it has a network to reach it by."""
    return (f"unix:{RELAY}",) if os.path.lexists(RELAY) else ()


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


def channel(*, own: bool = False) -> Channel:
    """To the foreman: the one that this process has to do with already, or that ADIT_FOREMAN names; else the one that
    runs as a service, or with ``own`` one of this process, which is started."""
    with _session.lock:
        if _session.channel is None and not own and not os.environ.get("ADIT_FOREMAN"):
            with contextlib.suppress(ConfigError):
                _session.channel = service()
        if _session.channel is None:
            if not os.environ.get("ADIT_FOREMAN"):
                try:
                    from .foreman.embedded import EmbeddedForeman
                except ImportError as error:
                    raise ConfigError(f"functions: {error} (pip install 'adit[functions]')") from None
                _session.foreman = EmbeddedForeman()
                _session.channel = Channel(_session.foreman.path)
            else:
                _session.channel = service()
        return _session.channel


def service_sockets() -> list[str]:
    """Where the foreman of this user, or of the machine, listens unless it is told otherwise."""
    folders = [os.environ.get("XDG_RUNTIME_DIR") or (f"/run/user/{os.getuid()}" if os.getuid() else None), "/run"]
    return [os.path.join(folder, SERVICE_SOCKET) for folder in folders if folder]


def service() -> Channel:
    """To the foreman that goes on when this process has ended: ``adit foreman``."""
    named = os.environ.get("ADIT_FOREMAN")
    for path in [named] if named else service_sockets():
        channel = Channel(path, PATIENCE_S)
        if channel.is_answered():
            return channel
    where = f"ADIT_FOREMAN: {named}: no foreman listens there" if named else "foreman: none runs"
    raise ConfigError(f"{where} (start one: adit foreman)")


def end_app(channel: Channel, app: str, told: Meta) -> None:
    """Ends it, which takes some seconds if a function needs them; Ctrl-C meanwhile has it be at once. ``told`` gets
    what is told of it."""
    try:
        told.update(channel.ask("app_close", {"app": app})[0])
    except KeyboardInterrupt:
        told.update(channel.ask("app_close", {"app": app, "now": True})[0])
        raise


def use(channel: Channel) -> None:
    """This process has another foreman from now on."""
    _session.channel = channel


def close() -> None:
    """Ends the foreman that was started here, with all of its containers."""
    with _session.lock:
        foreman, _session.foreman, _session.channel = _session.foreman, None, None
    if foreman is not None:
        foreman.close()
