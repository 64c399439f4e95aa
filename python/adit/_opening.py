"""One time that a tunnel is opened and closed, by whatever threads and signal handlers.

There is no lock, which a handler, in the same thread, or a forked child could find taken. What only one of them may do
is decided by one step of the interpreter's own: a setdefault, where the first to say so is right, or the pop of a
list's only element, by which one takes what is to be done."""

from __future__ import annotations

import _thread
import contextlib
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from . import _adit, _registry
from ._asynchronous import Call, Signal, is_cancelled, undisturbed
from ._default import default_client, release
from ._failure import to_exception, translated
from ._tunnel import Stats, of_opening
from .exception import AuthError, ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._client import Client
    from ._options import Request
    from ._tunnel import Tunnel

_T = TypeVar("_T")
LABEL_CHARS = 8  # of a public name, which is a secret of sorts: as many as the relay's log has


class End(NamedTuple):
    """Why a tunnel is over."""

    error: int
    reason: str
    text: str


class Opening:
    """It is in the registry from its beginning until it is closed, and so is its client held."""

    def __init__(self, request: Request, places: dict[str, Opening]) -> None:
        self.request, self.number = request, next(_registry.numbers)
        self.tunnel: Tunnel | None = None
        self.core_client: _adit.Client | None = None
        self._shares = False  # the process's client, not one of the user's own
        self._cores: list[_adit.Tunnel] = []  # at most one; it may be closed more than once
        self._clients: list[Client] = []  # to be released
        self._drains = [True]  # the first to close it waits for its visitors, and is called back by a second
        self._places = [places]  # the Forward's, to be left when it is closed
        self._outcome: dict[str, bool] = {}
        self._ended: dict[str, End] = {}
        self._counts = Stats(0, 0, 0, 0, 0)
        self._watchers: list[Callable[[], None]] = []
        for tell in list(_registry.watchers):
            tell(self)

    @property
    def label(self) -> str:
        """For people, in the log."""
        if self.tunnel is None:
            return self.request.label
        return f"{self.request.label} ({self.tunnel.host[:LABEL_CHARS]})"

    # --- opening ---

    def open(self, given: Client | None) -> str | None:
        """A warning for whoever opens it. Leaves nothing open when it fails."""
        try:
            self._shares = given is None
            client = default_client() if given is None else given
            self._clients.append(client)
            self.core_client = client._core
            _registry.openings[self.number] = self
            core = self._forward(client)
            self._cores.append(core)
            if not self.given_up:  # and closed, it may be, just before the line above
                with translated(conflict=ClosedError):
                    retries = self.request.retries
                    core.wait_open(
                        sys.maxsize if retries else self.request.timeout_ms, retries or client._state.was_open
                    )
                    self._look(core)
                client._state.was_open = True
            if not self.settle(True):
                raise ClosedError(f"{self.request.label}: closed before it was open")
            if (end := self.end()) is not None:  # since: whose event may have found no tunnel yet
                raise to_exception(end.error, end.text, conflict=ClosedError)
            return self._warning(client)
        except BaseException as error:
            self.close(0, refused=isinstance(error, AuthError))
            raise

    async def open_async(self, given: Client | None) -> str | None:
        try:
            opened = Call(self.open, given)
        except BaseException:  # no event loop, or no thread
            self.close(0)
            raise
        try:
            return await opened.outcome()
        except BaseException as left:
            if opened.failed:
                raise
            given_up = self.give_up()
            if is_cancelled(left):
                # Cancelled again, it closes without being waited for.
                with undisturbed(), contextlib.suppress(Exception):
                    await (opened if given_up else self.closing(0)).outcome()
            elif not given_up:  # the coroutine is dropped, perhaps with its event loop
                self.close(0)
            raise

    def _forward(self, client: Client) -> _adit.Tunnel:
        with translated():
            try:
                return client._core.forward(self.number, self.request.app, **self.request.options)
            except _adit.Failure as failure:
                code, text = failure.args
                if code != _adit.ECONFLICT or (rival := self._rival()) is None:
                    raise
                remedy = f"close that one first: {_registry.expression(rival)}.close()"
                raise _adit.Failure(code, f"{text.partition(' (')[0]}, at {rival.url} ({remedy})") from None

    def _rival(self) -> Tunnel | None:
        """The open tunnel of the same app."""
        others = _registry.of_client(self.core_client)
        mine = self.request
        same = [o for o in others if o.request.is_called(mine.app_name) or mine.is_called(o.request.app_name)]
        return next(iter(_registry.open_ones(same)), None)

    def moved(self, core: _adit.Tunnel | None) -> bool:
        """Takes note of its addresses. Whether it has had others before."""
        before = self.tunnel
        with contextlib.suppress(_adit.Failure):  # it is being closed
            if core is not None:
                self._look(core)
        return before is not None and before != self.tunnel

    def _look(self, core: _adit.Tunnel) -> None:
        assert self.core_client is not None
        host, port, tcp_host, tcp_port = core.addresses()
        if tcp_host is not None and self.core_client.ca_file() is not None:
            # The embedded relay listens on loopback; its name means nothing to programs that do not know .localhost.
            tcp_host = "127.0.0.1"
        now = of_opening(self, host, port, tcp_host or "", tcp_port)
        if now != self.tunnel:
            self.tunnel = now

    def _warning(self, client: Client) -> str | None:
        ca_file, url = client.ca_file, "" if self.tunnel is None else self.tunnel.url
        if ca_file is None or not client._state.take_warning():
            return None
        return (
            "no token is configured, so this URL works on this machine only, through a relay that this program has "
            f"started (set ADIT_TOKEN for public addresses; to visit: curl --cacert {ca_file} {url})"
        )

    def settle(self, opened: bool) -> bool:
        """Says that it has opened, or that it is given up. Returns what was said first."""
        return self._outcome.setdefault("opened", opened)

    @property
    def given_up(self) -> bool:
        return self._outcome.get("opened") is False

    def give_up(self) -> bool:
        """Calls whoever opens it back, who then closes it. False when that is too late: it is open."""
        if self.settle(False):
            return False
        self.hurry()
        return True

    def hurry(self) -> None:
        """Calls back whoever opens it, or waits for its visitors. Only close() may follow."""
        self.stats()  # which cannot be asked any more then
        for core in list(self._cores):
            core.stop_waiting()

    # --- what becomes of it ---

    def end(self) -> End | None:
        """None while it goes on, or is being opened."""
        for core in [] if self._ended else list(self._cores):
            try:
                found = core.end()
            except _adit.Failure as failure:
                code, text = failure.args
                found = code, "forked" if code == _adit.EFORKED else "closed", text
            if found is not None:
                self._ended.setdefault("end", End(*found))
        return self._ended.get("end")

    def stats(self) -> Stats:
        """The last known when it is closed."""
        for core in list(self._cores):
            with contextlib.suppress(_adit.Failure):
                self._counts = Stats(*core.stats())
        return self._counts

    def wait(self, timeout_s: float | None) -> str | None:
        told = _thread.allocate_lock()
        told.acquire()
        with self._watched(told.release):
            if self.end() is None:  # which a signal's handler may change meanwhile
                told.acquire(timeout=-1 if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX))
        end = self.end()
        return None if end is None else end.reason

    async def wait_async(self) -> str:
        told = Signal()
        with self._watched(told.set):
            while (end := self.end()) is None:
                await told.wait()
        return end.reason

    @contextlib.contextmanager
    def _watched(self, tell: Callable[[], None]) -> Iterator[None]:
        """Told once, from another thread, of the end: of one that comes from here on."""
        for client in list(self._clients):
            client._listen()
        self._watchers.append(tell)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):
                self._watchers.remove(tell)

    def tell_end(self) -> None:
        while (tell := _take(self._watchers)) is not None:
            tell()

    # --- closing ---

    def close(self, drain_ms: int, refused: bool = False) -> None:
        opened = self.settle(False)
        try:
            for core in list(self._cores):
                self._close(core, drain_ms if _take(self._drains) else 0)
        finally:
            _registry.openings.pop(self.number, None)
            if (places := _take(self._places)) is not None:
                places.clear()
            if (used := _take(self._clients)) is not None and self._shares:
                release(used, failed=refused or not (opened or used._state.was_open))

    def finish(self, drain_ms: int) -> None:
        """Lets nobody in any more, and waits for its visitors. Only close() may follow."""
        for core in list(self._cores):
            with contextlib.suppress(_adit.Failure):
                core.finish(drain_ms)

    def _close(self, core: _adit.Tunnel, drain_ms: int) -> None:
        try:
            if drain_ms:
                self.finish(drain_ms)
        finally:
            _registry.openings.pop(self.number, None)  # first, as an interrupt may end what follows
            self.note()
            core.close()
            self.end()  # of which there now is one
            self.tell_end()

    def note(self) -> None:
        """While it can still be asked."""
        self.end()
        self._counts = replace(self.stats(), visitors_now=0)

    async def close_async(self, drain_ms: int) -> None:
        closing = self.closing(drain_ms)
        try:
            await closing.outcome()
        except BaseException as left:
            self.hurry()
            if is_cancelled(left):
                with undisturbed():
                    await closing.outcome()
            raise

    def closing(self, drain_ms: int) -> Call[None]:
        try:
            return Call(self.close, drain_ms)
        except BaseException:  # without a thread it cannot wait for a drain
            self.close(0)
            raise


def _take(some: list[_T]) -> _T | None:
    """What is in the list, for one caller alone."""
    try:
        return some.pop()
    except IndexError:
        return None
