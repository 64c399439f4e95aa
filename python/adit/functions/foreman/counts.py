"""What a relay has counted of narrowed tokens' tunnels: its ``GET /status``, where the foreman may ask for that. A
container has no part in it, so what it says of its tunnels is not needed then."""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.parse
from typing import TYPE_CHECKING

from ...exception import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from .ways import Pair, Way

    Passed = tuple[int, int]
    """Streams, and bytes both ways."""

ADMIN = "ADIT_RELAY_ADMIN"
LOOK_S = 2.0  # at most so often, but for a container's end
AGAIN_S = 30.0  # after it could not be asked
ANSWER_S = 2.0
ANSWER_MAX = 1 << 24  # as `adit status` takes
REQUEST = b"GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n"


class Counts:
    """Of one relay."""

    def __init__(self, dial: Callable[[], Awaitable[Pair]] | None, root: str) -> None:
        """``root`` is a token's id that the right relay knows; with no way to ask it is never reached."""
        self._dial, self._root = dial, root
        self._lock = asyncio.Lock()
        self._begun, self._next, self._fails = 0, 0.0, False
        self._rows: dict[str, Passed] | None = None

    async def of(self, tokens: Iterable[str], *, last: bool = False) -> dict[str, Passed] | None:
        """By their ids, of those that the relay knows; ``last``: as they are now. None: it was never reached."""
        if self._dial is not None and (time.monotonic() >= self._next or (last and not self._fails)):
            await self._look(self._dial)
        return None if self._rows is None else {id: self._rows[id] for id in tokens if id in self._rows}

    async def _look(self, dial: Callable[[], Awaitable[Pair]]) -> None:
        begun = self._begun
        async with self._lock:
            if self._begun > begun:  # somebody else's look has begun since, and is over
                return
            self._begun += 1
            try:
                status = json.loads(await asyncio.wait_for(_ask(dial), ANSWER_S))
                rows = {row["id"]: _passed(row) for row in status["narrowed"]}
                if any(token["id"] == self._root for token in status["tokens"]):  # else another relay, or not there yet
                    self._rows = rows
                self._fails, self._next = False, time.monotonic() + LOOK_S
            except (OSError, ValueError, LookupError, TypeError, asyncio.TimeoutError):
                self._fails, self._next = True, time.monotonic() + AGAIN_S


def _passed(row: dict[str, int]) -> Passed:
    return int(row["streams_total"]), int(row["bytes_from_visitors"]) + int(row["bytes_to_visitors"])


async def _ask(dial: Callable[[], Awaitable[Pair]]) -> bytes:
    reader, writer = await dial()
    try:
        writer.write(REQUEST)
        answer = bytearray()
        while piece := await reader.read(1 << 16):
            answer += piece
            if len(answer) > ANSWER_MAX:
                raise ValueError("the answer does not end")
    finally:
        writer.close()
    return bytes(answer).partition(b"\r\n\r\n")[2]


def place(ways: list[Way], ca_file: str | None) -> Callable[[], Awaitable[Pair]] | None:
    """How the relay that these ways lead to is asked: at what ``ADIT_RELAY_ADMIN`` says, or, if it is the one that was
    started for this user, at its socket. Of several relays one cannot be asked for all."""
    if len(ways) != 1:
        return None
    if named := os.environ.get(ADMIN):
        host, port = _address(named)
        return lambda: asyncio.open_connection(host, port)
    if ca_file is None:
        return None
    path = os.path.join(os.path.dirname(ca_file), f"status-{ways[0].port}.sock")
    return lambda: asyncio.open_unix_connection(path)


def _address(text: str) -> tuple[str, int]:
    """A bare port means this machine."""
    try:
        at = urllib.parse.urlsplit(f"//127.0.0.1:{text}" if text.isdigit() else f"//{text}")
        host, port = at.hostname, at.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ConfigError(f"{ADMIN}: {text!r} is no address and port (such as 127.0.0.1:9090)")
    return host, port
