"""What happens to tunnels after they are open: told in a thread of each client's, to the log ``adit`` and to whoever
asked for it."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from . import _adit, _fork_warning, _registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._tunnel import Tunnel

log = logging.getLogger("adit")

_Kind = Literal["open", "reconnecting", "restored", "warning", "superseded", "closed"]

_KINDS: dict[int, tuple[_Kind, int]] = {
    _adit.EVENT_OPEN: ("open", logging.DEBUG),
    _adit.EVENT_RECONNECTING: ("reconnecting", logging.WARNING),
    _adit.EVENT_RESTORED: ("restored", logging.WARNING),  # like what it ends, so that whoever saw that sees this
    _adit.EVENT_WARNING: ("warning", logging.WARNING),
    _adit.EVENT_SUPERSEDED: ("superseded", logging.ERROR),
    _adit.EVENT_CLOSED: ("closed", logging.ERROR),
}
_NAMED_AT_MOST = 4  # tunnels in a line of the log


@dataclass(frozen=True)
class Event:
    """Something that has happened to a tunnel, or to the link that it shares with others."""

    kind: Literal["open", "reconnecting", "restored", "warning", "superseded", "closed"]
    """``"open"``: visitors can reach it, now or at a new address; ``"reconnecting"``: the link was lost, and who is
    connected stays so; ``"restored"``: it is back; ``"warning"``; ``"superseded"``, ``"closed"``: it has ended for
    good."""
    tunnel: Tunnel | None
    """None for what concerns a client without tunnels, or a tunnel that is not open yet."""
    reason: str | None
    """One word, such as ``"token_revoked"``."""
    text: str
    """What it is and, if there is something, what to do."""

    @property
    def final(self) -> bool:
        """Whether the tunnel has ended for good."""
        return self.kind in ("superseded", "closed")


class State:
    """What a client's threads share, its event thread among them, which must not keep the client itself alive. Without
    a lock, which a signal's handler or a forked child could find taken: each step is one of the interpreter's own."""

    def __init__(self, on_event: Callable[[Event], object] | None) -> None:
        self.on_event = on_event
        self.was_open = False
        self.failed = False  # for good: refused, or its embedded relay has ended, or its descriptors were closed
        self._warner: dict[str, object] = {}

    def take_warning(self) -> bool:
        """Whether it is still to be warned of, which whoever asks first does."""
        asks = object()
        return self._warner.setdefault("is", asks) is asks


def tell_events(core: _adit.Client, state: State) -> None:
    """Ends when the client closes. Between two events nothing here keeps a tunnel."""
    with contextlib.suppress(_adit.Failure):
        while (happened := core.next_event()) is not None:
            _tell(core, state, *happened)
            del happened


def _tell(
    core: _adit.Client,
    state: State,
    number: int,
    error: int,
    reason: str | None,
    text: str,
    tunnel: _adit.Tunnel | None,
    tag: int | None,
) -> None:
    kind, level = _KINDS.get(number, ("warning", logging.WARNING))
    if kind == "closed" and error == _adit.ECLOSED:
        return
    if kind == "closed" and (error == _adit.EAUTH or reason in ("embedded_relay", "descriptors_closed")):
        state.failed = True
    news, concerned = text, _registry.of_client(core)
    if tag is not None:
        concerned = [opening for opening in concerned if opening.number == tag]
    if kind == "open" and tunnel is not None and any([opening.moved(tunnel) for opening in concerned]):
        level, news = logging.WARNING, f"it has another address now: {text}"
    # Before anything was open, an exception tells the same.
    if tag is None:
        told_otherwise = not state.was_open and reason != "waiting"
    else:
        told_otherwise = kind != "warning" and not any(o.tunnel for o in concerned)
    names = ", ".join(opening.label for opening in concerned) if len(concerned) <= _NAMED_AT_MOST else "all tunnels"
    log.log(logging.DEBUG if told_otherwise else level, "%s%s", names and names + ": ", news)
    for opening in _registry.of_client(core):
        if opening.end() is not None:  # by what is: a program that holds us up for long loses events
            opening.tell_end()
    event = Event(kind, None, reason, text)
    for opening in concerned:
        _call(opening.request.on_event, replace(event, tunnel=opening.tunnel))
    _call(state.on_event, event if tag is None else replace(event, tunnel=next((o.tunnel for o in concerned), None)))


def _call(on_event: Callable[[Event], object] | None, event: Event) -> None:
    if on_event is None:
        return
    thread = threading.get_native_id()
    _fork_warning.busy.add(thread)
    try:
        on_event(event)
    except BaseException:
        log.exception("on_event: it has failed, told of %s", event.kind)
    finally:
        _fork_warning.busy.discard(thread)
