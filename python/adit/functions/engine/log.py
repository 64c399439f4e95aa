"""The log of a Pod, read over connections that may break: each line of it comes with its time, by which what was read
already is left out when the next connection begins at that second again. Lines may be without an end for long."""

from __future__ import annotations

import re

_TIME = re.compile(rb"\d{4}-\d\d-\d\dT[0-9:]+(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")


class Log:
    """What was read of one."""

    def __init__(self) -> None:
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

    def _begin_line(self, time: bytes) -> bytes:
        """What of its head belongs to it: all, where the cluster itself says something."""
        self._is_in_line, self._is_known, self._at = True, False, 0
        if not _TIME.fullmatch(time):
            self._at = self._read
            return time + b" "
        if self._repeats and time <= self._time:
            self._is_known = time < self._time
            self._repeats = self._is_known
            return b""
        self._repeats, self._time, self._read = False, time, 0
        return b""
