"""What happens to tunnels after they are open: told in a thread of each client's, to the log ``adit`` and to whoever
asked for it."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from . import _adit, _fork_warning, _registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._opening import Opening
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


class _Happened(NamedTuple):
    """In the library's words."""

    kind: int
    error: int
    reason: str | None
    text: str
    tunnel: _adit.Tunnel | None
    number: int | None  # of its opening


def tell_events(core: _adit.Client, state: State) -> None:
    """Ends when the client closes. Between two events nothing here keeps a tunnel."""
    with contextlib.suppress(_adit.Failure):
        while (next_one := core.next_event()) is not None:
            try:
                _tell(core, state, _Happened(*next_one))
            except Exception:  # of a filter of the log, say, which may be the program's
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
            del next_one


def _tell(core: _adit.Client, state: State, happened: _Happened) -> None:
    concerned = _registry.of_client(core)
    if happened.number is not None:
        concerned = [opening for opening in concerned if opening.number == happened.number]
        if not concerned:  # it is being closed
            return
    kind, level = _KINDS.get(happened.kind, ("warning", logging.WARNING))
    if kind == "closed":
        if happened.error == _adit.ECLOSED:
            return
        state.failed |= happened.error == _adit.EAUTH or happened.reason in ("embedded_relay", "descriptors_closed")
    text = happened.text
    if kind == "open" and any([opening.moved(happened.tunnel) for opening in concerned]):
        level, text = logging.WARNING, f"it has another address now: {text}"
    try:
        _log(logging.DEBUG if _is_told_otherwise(state, happened, kind, concerned) else level, concerned, text)
    finally:
        for opening in _registry.of_client(core):
            if opening.end() is not None:  # by what is: a program that holds us up for long loses events
                opening.tell_end()
    for opening in concerned:
        _call(opening.request.on_event, Event(kind, opening.tunnel, happened.reason, happened.text))
    tunnel = None if happened.number is None else concerned[0].tunnel
    _call(state.on_event, Event(kind, tunnel, happened.reason, happened.text))


def _is_told_otherwise(state: State, happened: _Happened, kind: str, concerned: list[Opening]) -> bool:
    """By the exception of whoever opens one."""
    if happened.number is None:
        return not state.was_open and happened.reason != "waiting"
    return kind != "warning" and concerned[0].tunnel is None


def _log(level: int, concerned: list[Opening], text: str) -> None:
    names = ", ".join(opening.label for opening in concerned) if len(concerned) <= _NAMED_AT_MOST else "all tunnels"
    log.log(level, "%s%s", names and names + ": ", text)


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
