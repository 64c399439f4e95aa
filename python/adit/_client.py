"""A client: the link to a relay, shared by all tunnels of a process unless it makes several."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Union

from . import _adit, _program
from ._failure import translated
from .exception import ConfigError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from ._forward import Forward

Path = Union[str, "os.PathLike[str]", None]

log = logging.getLogger("adit")
_LEVELS = {
    _adit.EVENT_OPEN: logging.DEBUG,
    _adit.EVENT_RECONNECTING: logging.WARNING,
    _adit.EVENT_RESTORED: logging.INFO,
    _adit.EVENT_WARNING: logging.WARNING,
    _adit.EVENT_SUPERSEDED: logging.ERROR,
    _adit.EVENT_CLOSED: logging.ERROR,
}
_CLOSED_HERE = {_adit.ECLOSED}


def _tell_events(core: _adit.Client) -> None:
    """What happens to an open tunnel goes to the log ``adit``. Ends when the client closes."""
    try:
        while (event := core.next_event()) is not None:
            kind, _, error, _, text = event
            if kind == _adit.EVENT_CLOSED and error in _CLOSED_HERE:
                continue
            if text:
                log.log(_LEVELS[kind], "%s", text)
    except _adit.Failure:
        pass


def _shut(core: _adit.Client, teller: threading.Thread, pid: int, drain_ms: int = 0) -> None:
    core.close(drain_ms)
    if os.getpid() == pid and teller is not threading.current_thread():
        teller.join()


def to_ms(name: str, seconds: float) -> int:
    """A duration as users give it, in the library's unit."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds < 2**31 / 1000:
        raise InvalidError(f"{name}: {seconds!r} is not a number of seconds from 0 on (such as {name}=10)")
    return round(seconds * 1000)


class Client:
    """A link to a relay. Most programs need none of their own: :func:`forward` makes one when it is first called.

    ``token`` is what ``adit token create`` printed, or several of them. Without one it comes from the environment variable
    ``ADIT_TOKEN`` or from ``adit login``; and if there is none at all, a relay is started on this machine, whose addresses work here
    only (``ADIT_EMBEDDED=0`` makes that an error). ``relays`` are addresses to dial instead of those in the token, ``ca_file`` a PEM
    file of authorities to trust for relays with a public certificate, instead of the system's.

    Connecting goes on in the background; errors of it show when a tunnel is opened.
    """

    def __init__(
        self, token: str | Iterable[str] | None = None, *, relays: Sequence[str] = (), ca_file: Path = None
    ) -> None:
        tokens = [] if token is None else [token] if isinstance(token, str) else list(token)
        allowed = os.environ.get("ADIT_EMBEDDED", "1") != "0"
        if not all(isinstance(word, str) and word for word in tokens) or (token is not None and not tokens):
            raise ConfigError("token: it is empty, or no string (it is the one word that adit token create printed)")
        if token is None and not allowed and relays:
            raise ConfigError("token: a relay is given but no token (set ADIT_TOKEN, or use Client(token))")
        with translated():
            core = _adit.Client(
                tokens, list(relays), ca_file, not tokens, _program.PATH if allowed and not relays else None
            )
        teller = threading.Thread(target=_tell_events, args=(core,), name="adit-events", daemon=True)
        teller.start()
        self._core = core
        self._was_open = self._warned = False
        self._end = weakref.finalize(self, _shut, core, teller, os.getpid())

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

    def forward(self, port: int, **options: object) -> Forward:
        """:func:`forward` through this client."""
        from ._forward import Forward  # noqa: PLC0415

        return Forward(port, client=self, **options)  # type: ignore[arg-type]

    def close(self, drain: float = 0.0) -> None:
        """Closes it with all its tunnels; their live visitors have ``drain`` seconds to finish."""
        drain_ms = to_ms("drain", drain)
        end = self._end.detach()
        if end is not None:
            _, shut, args, _ = end
            shut(*args, drain_ms)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
