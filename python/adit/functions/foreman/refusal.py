"""What a visitor is told whom no container can take: HTTP, since that is what nearly all of them speak."""

from __future__ import annotations

import asyncio
import contextlib

RETRY_S = 5
REQUEST_S = 5.0  # for a first part of the visitor's request, and for its end
CHUNK = 1 << 16
BODY = b"Nothing is free to answer this. Try again in a moment.\n"
ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b"
)


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, again_s: float = RETRY_S) -> None:
    """Answers and closes; whoever it is may ask again after so long. What the visitor still sends is read for a moment,
    or the answer would be lost in a reset."""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(reader.read(CHUNK), REQUEST_S)
        writer.write(ANSWER % (again_s, len(BODY), BODY))
        writer.write_eof()
        await asyncio.wait_for(_drain(reader), REQUEST_S)
    writer.transport.abort()


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(CHUNK):
        pass
