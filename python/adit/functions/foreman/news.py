"""What happens to an app: for any number of listeners, each at its own pace. The latest is kept, in a file, too, if the
app outlives its foreman."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

BYTES_KEPT = 8 << 20
FILE_MAX = 8 << 20  # of each of two files, the older of which goes


class News:
    """Of one app."""

    def __init__(self, path: str | None = None) -> None:
        self._kept: deque[bytes] = deque()
        self._count = self._bytes = 0  # of all that there were; of those that are kept
        self._changed = asyncio.Event()
        self._path, self._file = path, None if path is None else _open(path)
        self.ended = False
        self.holders = 0
        self.since = time.monotonic()  # when the last of them left
        self.last = 0.0  # when the latest was told, of the wall clock
        for line in _read(path) if path else ():
            self._keep(line)
            self.last = json.loads(line).get("at", 0.0)

    def tell(self, kind: str, **what: Any) -> None:
        """News for whoever listens. Of too many, the oldest go."""
        self.last = time.time()
        line = json.dumps({"kind": kind, "at": self.last, **what}).encode() + b"\n"
        self._keep(line)
        if self._file is not None:
            self._write(line)
        self._wake()

    def _keep(self, line: bytes) -> None:
        self._kept.append(line)
        self._count += 1
        self._bytes += len(line)
        while self._bytes > BYTES_KEPT:
            self._bytes -= len(self._kept.popleft())

    def _write(self, line: bytes) -> None:
        assert self._path is not None and self._file is not None
        with contextlib.suppress(OSError):  # a full disk ends no app
            self._file.write(line)
            if self._file.tell() > FILE_MAX:
                with contextlib.suppress(FileNotFoundError):  # moved before, when no other could be opened
                    os.replace(self._path, self._path + ".1")
                full, self._file = self._file, _open(self._path)
                full.close()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def listen(
        self, *, past: bool = True, follow: bool = True, holds: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """Lines of JSON: what there was, and what comes until the end. Who ``holds`` is whom the app is for."""
        self.holders += holds
        try:
            at = 0 if past else self._count
            while True:
                at = max(at, self._count - len(self._kept))
                for line in list(self._kept)[at - self._count + len(self._kept) :]:
                    at += 1
                    yield line
                if at == self._count:
                    if self.ended or not follow:
                        return
                    await self._changed.wait()
        finally:
            if holds:
                self.holders -= 1
                self.since = time.monotonic()

    def end(self) -> None:
        """There will be no more."""
        self.ended = True
        if self._file is not None:
            self._file.close()
            self._file = None
        self._wake()

    def forget(self) -> None:
        """Its files, too."""
        self.end()
        for path in (self._path, f"{self._path}.1") if self._path else ():
            with contextlib.suppress(OSError):
                os.unlink(path)


def _open(path: str) -> Any:
    return open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab", buffering=0)


def _read(path: str) -> list[bytes]:
    lines: list[bytes] = []
    for part in (path + ".1", path):
        with contextlib.suppress(OSError), open(part, "rb") as file:
            lines += filter(_is_whole, file)
    return lines


def _is_whole(line: bytes) -> bool:
    """It may have been written to a disk that was full."""
    try:
        return line.endswith(b"\n") and "kind" in json.loads(line)
    except (ValueError, TypeError):
        return False
