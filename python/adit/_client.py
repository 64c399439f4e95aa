"""A client: the link to a relay, shared by all tunnels of a process unless it makes several."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from . import _adit, _program
from ._failure import translated
from ._options import to_ms, to_words
from .exception import ConfigError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import SupportsIndex

    from typing_extensions import Unpack

    from ._forward import Forward
    from ._options import Options, Path, Seconds, Words

log = logging.getLogger("adit")
JOIN_S = 1.0  # how long close() waits for the event thread, at most: a log handler may want a lock that the closer has
_LEVELS = {
    _adit.EVENT_OPEN: logging.DEBUG,
    _adit.EVENT_RECONNECTING: logging.WARNING,
    _adit.EVENT_RESTORED: logging.WARNING,  # like what it ends, so that whoever saw that sees this
    _adit.EVENT_WARNING: logging.WARNING,
    _adit.EVENT_SUPERSEDED: logging.ERROR,
    _adit.EVENT_CLOSED: logging.ERROR,
}


class _State:
    """What a client's threads share, its event thread among them, which must not keep the client itself alive. Without
    a lock, which a signal's handler or a forked child could find taken: each step is one of the interpreter's own."""

    def __init__(self) -> None:
        self.was_open = False
        self.failed = False  # for good, as its embedded relay has ended, or somebody has closed its descriptors
        self.tunnels: set[_adit.Tunnel] = set()
        self._warner: dict[str, object] = {}

    def take_warning(self) -> bool:
        """Whether it is still to be warned of, which whoever asks first does."""
        asks = object()
        return self._warner.setdefault("is", asks) is asks


def _tell_events(core: _adit.Client, state: _State) -> None:
    """What happens to an open tunnel goes to the log ``adit``. Ends when the client closes."""
    try:
        while (event := core.next_event()) is not None:
            kind, error, reason, text = event
            if kind == _adit.EVENT_CLOSED and reason in ("embedded_relay", "descriptors_closed"):
                state.failed = True
            if kind == _adit.EVENT_CLOSED and error == _adit.ECLOSED:
                continue
            # Before anything was open, an exception tells the same.
            level = _LEVELS.get(kind, logging.WARNING) if state.was_open else logging.DEBUG
            log.log(level, "%s", text)
    except _adit.Failure:
        pass


def _check_token(given: str | Iterable[str] | None) -> list[str]:
    if given is None:
        return []
    try:
        tokens = to_words("token", given)
    except InvalidError:
        tokens = []
    if not tokens or not all(tokens):
        raise ConfigError("token: it is empty, or no string (it is the one word that adit token create printed)")
    return tokens


class Client:
    """A link to a relay. Most programs need none of their own: :func:`forward` makes one when it is first called.

    ``token`` is what ``adit token create`` printed, or several of them. Without one it comes from the environment
    variable ``ADIT_TOKEN`` or from ``adit login``; and if there is none at all, a relay is started on this machine,
    whose addresses work here only (``ADIT_EMBEDDED=0`` makes that an error). ``relays`` are addresses to dial instead
    of those in the token (and of that in the environment variable ``ADIT_RELAY``), ``ca_file`` a PEM file of
    authorities to trust for relays with a public certificate, instead of the system's.

    Connecting goes on in the background; errors of it show when a tunnel is opened.
    """

    def __init__(self, token: str | Iterable[str] | None = None, *, relays: Words = (), ca_file: Path = None) -> None:
        tokens, dials = _check_token(token), to_words("relays", relays)
        dialled = os.environ.get("ADIT_RELAY") if tokens and not dials else None  # else the library finds it
        allowed = os.environ.get("ADIT_EMBEDDED", "1") != "0"
        with translated():
            try:
                core = _adit.Client(
                    tokens,
                    [dialled] if dialled else dials,
                    not tokens,
                    _program.PATH if allowed else None,
                    ca_file=ca_file,
                )
            except _adit.Failure as failure:
                if dialled and failure.args[0] == _adit.EINVAL:
                    raise ConfigError(f"ADIT_RELAY: {failure.args[1]}") from None
                raise
        self._core, self._state = core, _State()
        self._teller = threading.Thread(target=_tell_events, args=(core, self._state), name="adit-events", daemon=True)
        # Not at exit, where close() waits for the thread, too; a collector may run with locks held that the thread
        # needs.
        self._end = weakref.finalize(self, core.close)
        self._end.atexit = False
        _clients.add(self)
        # Last: interrupted in here, it ends with what nobody holds any more. The thread cannot be had when the
        # interpreter ends: then there is only no log.
        with contextlib.suppress(RuntimeError):
            self._teller.start()

    @property
    def relay(self) -> str | None:
        """The name of the relay that was chosen; None before a tunnel is open."""
        with translated():
            return self._core.relay()

    @property
    def ca_file(self) -> str | None:
        """The certificate of the embedded relay's authority, for those who shall trust it; None with a real relay."""
        with translated():
            return self._core.ca_file()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return not self._end.alive

    def forward(self, port: SupportsIndex, **options: Unpack[Options]) -> Forward:
        """:func:`forward` through this client."""
        from ._forward import forward  # noqa: PLC0415

        return forward(port, client=self, **options)

    def close(self, drain: Seconds = 0.0) -> None:
        """Closes it with all its tunnels; their live visitors have ``drain`` seconds to finish."""
        drain_ms = to_ms("drain", drain)
        try:
            if drain_ms and self._end.alive:
                self._finish(drain_ms)
        finally:
            if self._end.detach() is not None:
                self._core.close()
                if self._teller is not threading.current_thread() and self._teller.is_alive():
                    self._teller.join(JOIN_S)

    def _finish(self, drain_ms: int) -> None:
        tunnels = list(self._state.tunnels)
        end = time.monotonic() + drain_ms / 1000
        for wait in (False, True):  # all of them let nobody in before one is waited for
            for tunnel in tunnels:
                with contextlib.suppress(_adit.Failure):
                    tunnel.finish(max(0, round((end - time.monotonic()) * 1000)) if wait else 0)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for client in list(_clients):
        client.close()
