"""The log of a Pod, read over connections that may break: each line of it comes with its time, by which what was read
already is left out when the next connection begins at that second again. Lines may be without an end for long."""

from __future__ import annotations

import calendar
import re
import time

_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT[0-9:]+)(\.\d+)?(?:Z|([+-]\d\d):(\d\d))")


class Log:
    """What was read of one. ``since`` is when somebody else had read all of it, of the wall clock."""

    def __init__(self, since: float = 0.0) -> None:
        self._since = since
        self._time = b""  # of the line that was read last
        self._read = 0  # bytes of it
        self.begin()

    def begin(self) -> None:
        """Another connection."""
        self._head = b""
        self._is_in_line = self._is_known = False
        self._at = 0  # bytes of the present line, on this connection
        self._repeats = bool(self._time)

    @property
    def since(self) -> str:
        """Where it is to begin, to the second; empty: where the log does."""
        if not self._time and self._since:
            return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._since))
        return re.sub(r"\.\d+", "", self._time.decode("ascii"))

    def feed(self, data: bytes) -> bytes:
        """What is new in it."""
        new = bytearray()
        while data:
            if not self._is_in_line:
                head, space, data = data.partition(b" ")
                self._head += head
                if space:
                    new += self._begin_line(self._head)
                    self._head = b""
                continue
            line, end, data = data.partition(b"\n")
            if not self._is_known:
                line += end
                new += line[max(0, self._read - self._at) :]
                self._at += len(line)
                self._read = max(self._read, self._at)
            self._is_in_line = not end
        return bytes(new)

    def _begin_line(self, head: bytes) -> bytes:
        """What of its head belongs to it: all, where the cluster itself says something."""
        self._is_in_line, self._is_known, self._at = True, False, 0
        written = _TIME.fullmatch(head)
        if not written:
            self._at = self._read
            return head + b" "
        if self._repeats and head <= self._time:
            self._is_known = head < self._time
            self._repeats = self._is_known
            return b""
        if not self._time and _seconds(written) <= self._since:
            self._is_known = True
            return b""
        self._repeats, self._time, self._read = False, head, 0
        return b""


def _seconds(written: re.Match[bytes]) -> float:
    """Of the wall clock."""
    at, fraction, hours, minutes = ((part or b"0").decode("ascii") for part in written.groups())
    ahead = int(hours) * 60 + int(hours[0] + minutes if hours[0] in "+-" else minutes)
    return calendar.timegm(time.strptime(at, "%Y-%m-%dT%H:%M:%S")) + float(fraction) - ahead * 60
