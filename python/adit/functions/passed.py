"""How much has come through a container's tunnels, for the report of a foreman that cannot ask the relay. It costs
nothing, so the container's word is good enough then."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from .. import _registry
from ..exception import Error

if TYPE_CHECKING:
    from .._opening import Opening
    from .remote import Channel

TELL_S = 5.0


class Passed:
    """Of all tunnels that this process opens."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._lock = channel, threading.Lock()
        self._openings: list[Opening] = []
        self._streams = self._bytes = 0  # of those that are closed
        self._told = (0, 0)
        self._opened = threading.Event()
        _registry.watchers.append(self._open)
        threading.Thread(target=self._keep_telling, name="adit-passed", daemon=True).start()

    def _open(self, opening: Opening) -> None:
        self._openings.append(opening)
        self._opened.set()

    def _keep_telling(self) -> None:
        self._opened.wait()
        while True:
            threading.Event().wait(TELL_S)
            self.tell()

    def _total(self) -> tuple[int, int]:
        streams, count = self._streams, self._bytes
        for opening in list(self._openings):
            over = opening.number not in _registry.openings
            stats = opening.stats()
            streams += stats.visitors_total
            count += stats.bytes_to_app + stats.bytes_from_app
            if over:
                self._openings.remove(opening)
                self._streams += stats.visitors_total
                self._bytes += stats.bytes_to_app + stats.bytes_from_app
        return streams, count

    def tell(self) -> None:
        """If there is anything new."""
        with self._lock, contextlib.suppress(Error):
            total = self._total()
            if total != self._told:
                self._channel.ask("passed", {"streams": total[0], "bytes": total[1]})
                self._told = total
