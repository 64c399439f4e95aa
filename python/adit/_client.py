"""A client: the link to a relay, shared by all tunnels of a process unless it makes several."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from . import _adit, _program, _registry
from ._events import State, tell_events
from ._failure import translated
from ._narrow import to_seconds, to_wish
from ._options import to_callback, to_ms, to_word, to_words
from .exception import ClosedError, ConfigError, InvalidError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import SupportsIndex

    from typing_extensions import Unpack

    from ._events import Event
    from ._forward import Forward
    from ._opening import Opening
    from ._options import Options
    from ._tunnel import Tunnel

JOIN_S = 1.0  # how long close() waits for the event thread, at most: a log handler may want a lock that the closer has


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


def _variable(name: str) -> str | None:
    """Its value; None when it is not set. One that is set but empty is a secret, or a setting, that is missing."""
    value = os.environ.get(name)
    if value == "":
        raise ConfigError(
            f"{name}: it is set but empty, as of a secret or setting that is missing (set it, or unset it)"
        )
    return value


def _embedded_allowed() -> bool:
    value = _variable("ADIT_EMBEDDED") or "1"
    if value not in ("0", "1"):
        raise ConfigError(f"ADIT_EMBEDDED: {value!r} is neither 0 nor 1 (0 forbids a relay on this machine)")
    return value == "1"


class Client:
    """A link to a relay. Most programs need none of their own: :func:`forward` makes one when it is first called.

    ``token`` is what ``adit token create`` printed, or several of them. Without one it comes from the environment
    variable ``ADIT_TOKEN`` or from ``adit login``; and if there is none at all, a relay is started on this machine,
    whose addresses work here only (``ADIT_EMBEDDED=0`` makes that an error). ``relays`` are addresses to dial instead
    of those in the token (and of that in the environment variable ``ADIT_RELAY``), ``"HOST:PORT"`` or ``"unix:PATH"``,
    ``ca_file`` a PEM file of authorities to trust for relays with a public certificate, instead of the system's.
    ``proxy`` is the URL of an HTTP proxy through which they are reached (``"http://USER:PASSWORD@HOST:PORT"``), instead
    of what ``HTTPS_PROXY`` or ``ALL_PROXY`` says, or ``"none"``. ``data`` is how visitors' data goes to the relay:
    ``"plain"``, ``"tls"``, or ``"auto"``, which is plain unless that does not get through, or goes through a proxy or
    a Unix socket. ``on_event`` is called with each :class:`Event` of the client and its tunnels, in a thread of its
    own.

    Connecting goes on in the background; errors of it show when a tunnel is opened.
    """

    def __init__(
        self,
        token: str | Iterable[str] | None = None,
        *,
        relays: str | Iterable[str] = (),
        ca_file: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        data: str | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        tokens, dials = _check_token(token), to_words("relays", relays)
        dialled = _variable("ADIT_RELAY") if tokens and not dials else None  # else the library finds it
        allowed = _embedded_allowed()
        with translated():
            try:
                core = _adit.Client(
                    tokens,
                    [dialled] if dialled else dials,
                    not tokens,
                    _program.PATH if allowed else None,
                    ca_file=ca_file,
                    proxy=to_word("proxy", proxy),
                    data=to_word("data", data),
                )
            except _adit.Failure as failure:
                if dialled and failure.args[0] == _adit.EINVAL:
                    raise ConfigError(f"ADIT_RELAY: {failure.args[1]}") from None
                raise
        self._core, self._state = core, State(to_callback("on_event", on_event))
        self._tellers: dict[str, threading.Thread] = {}  # at most one
        # Not at exit, where close() waits for the thread, too; a collector may run with locks held that the thread
        # needs.
        self._end = weakref.finalize(self, core.close)
        self._end.atexit = False
        _clients.add(self)
        # Last: interrupted in here, it ends with what nobody holds any more. The thread cannot be had when the
        # interpreter ends: then there is only no log.
        with contextlib.suppress(RuntimeError):
            self._listen()

    def _listen(self) -> None:
        """Has events told from now on."""
        made = threading.Thread(target=tell_events, args=(self._core, self._state), name="adit-events", daemon=True)
        if self._tellers.setdefault("thread", made) is made:
            try:
                made.start()
            except BaseException:
                self._tellers.clear()
                raise

    @property
    def relay(self) -> str | None:
        """The name of the relay that was chosen; None before a tunnel is open."""
        with translated():
            return self._core.relay()

    @property
    def relay_socket(self) -> str | None:
        """Where the relay that was started on this machine takes others of it, with a token from :meth:`narrow`: as
        ``Client(relays=...)`` has it, ``"unix:/PATH"``. None before it has started, on Linux before 6.16, and with a
        real relay."""
        with translated():
            return self._core.relay_socket()

    @property
    def ca_file(self) -> str | None:
        """The certificate of the embedded relay's authority, for those who shall trust it; None with a real relay."""
        with translated():
            return self._core.ca_file()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return not self._end.alive

    def forward(self, port: SupportsIndex | str, **options: Unpack[Options]) -> Forward:
        """:func:`forward` through this client."""
        from ._forward import forward  # noqa: PLC0415

        return forward(port, client=self, **options)

    def narrow(
        self,
        *,
        expires: float | None = None,
        max_tunnels: SupportsIndex | None = None,
        max_streams: SupportsIndex | None = None,
        max_visitors_per_s: SupportsIndex | None = None,
        max_rate: SupportsIndex | None = None,
        raw: bool = True,
        allow: str | Iterable[str] = (),
        name: str | None = None,
    ) -> str:
        """A token for somebody who is to do less than this client's, made here, without asking a relay.

        It is good for ``expires`` seconds, opens no raw ports with ``raw=False``, lets in only visitors from the
        address blocks ``allow``, and has the limits that are given, ``max_rate`` in bytes per second; in all else it is
        as the client's own token. What is opened with it counts for that one, too, and ends when that is revoked.
        ``name`` is for the relay's log. A token made so can be narrowed once more, and then no further.

        Raises :class:`InvalidError` for what would be wider than the client's token. Where the client has started a
        relay on this machine, waits for that.
        """
        wish = to_wish(
            expires=expires,
            max_tunnels=max_tunnels,
            max_streams=max_streams,
            max_visitors_per_s=max_visitors_per_s,
            max_rate=max_rate,
            raw=raw,
            allow=allow,
            name=name,
        )
        with translated():
            return self._core.narrow(**wish)

    def revoke(self, narrowed: str, timeout: float = 10.0, *, expires: float | None = None) -> None:
        """Ends a token that was made by :meth:`narrow`, or one that was narrowed from such a one, before its time.

        ``narrowed`` is the token, or its id. When this returns the client's relay has it on its disk: it refuses the
        token from then on and ends what is open with it. Of several relays the others are not told: there it is good
        until it expires. A relay keeps 4096 of them for a token of its operator's, each until the revoked token would
        have expired: of an id ``expires`` says in how many seconds that is, at the latest (None: it is not known, so
        for as long as the client's own token is good).

        Raises :class:`InvalidError` for what is not from the client's token, and :class:`RemoteError` when the relay
        refuses, or has not answered within ``timeout`` seconds.
        """
        if not isinstance(narrowed, str):
            raise InvalidError(f"narrowed: {narrowed!r} is no string (give the token, or its id)")
        timeout_ms = to_ms("timeout", timeout)
        expires_s = to_seconds(expires) or 0
        with translated():
            try:
                self._core.revoke(narrowed, expires_s, timeout_ms)
            except _adit.Failure as failure:
                if failure.args[0] != _adit.ETIMEDOUT:
                    raise
                raise RemoteError(f"relay: it has not revoked the token within {timeout} s (try again)") from None

    @property
    def tunnels(self) -> list[Tunnel]:
        """Those that are open through it, the oldest first."""
        return _registry.open_ones(_registry.of_client(self._core))

    def close(self, drain: float = 0.0) -> None:
        """Closes it with all its tunnels; their live visitors have ``drain`` seconds to finish."""
        drain_ms = to_ms("drain", drain)
        openings = _registry.of_client(self._core)
        try:
            if drain_ms and self._end.alive:
                _finish(openings, drain_ms)
        finally:
            for opening in openings:
                opening.note()
            if self._end.detach() is not None:
                self._core.close()
                teller = self._tellers.get("thread")
                if teller is not None and teller is not threading.current_thread() and teller.is_alive():
                    teller.join(JOIN_S)
            for opening in _registry.of_client(self._core):
                opening.close(0)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "<adit.Client closed>"
        relay, n = None, len(self.tunnels)
        with contextlib.suppress(ClosedError):
            relay = self.relay
        return f"<adit.Client {relay or 'not connected'}, {n} tunnel{'' if n == 1 else 's'}>"


def _finish(openings: list[Opening], drain_ms: int) -> None:
    end = time.monotonic() + drain_ms / 1000
    for wait in (False, True):  # all of them let nobody in before one is waited for
        for opening in openings:
            opening.finish(max(0, round((end - time.monotonic()) * 1000)) if wait else 0)


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for client in list(_clients):
        client.close()
