"""Connections that are carried inside of others, between a Pod and its foreman. What carries them is TLS, which Python
cannot end in one direction only; so bytes come in pieces, each with its length before it, and one without any is an
end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PIECE = 1 << 16
_SIZE = 4


async def join(plain: Pair, carrier: Pair) -> None:
    """Copies between a connection and the one that carries it, each direction to its own end; then both are closed, or
    cut off if either was."""
    (plain_reader, plain_writer), (reader, writer) = plain, carrier

    async def send() -> None:
        while data := await plain_reader.read(PIECE):
            writer.write(len(data).to_bytes(_SIZE, "big") + data)
            await writer.drain()
        writer.write(bytes(_SIZE))
        await writer.drain()

    async def receive() -> None:
        while size := int.from_bytes(await reader.readexactly(_SIZE), "big"):
            if size > PIECE:
                raise ConnectionError(f"a piece of {size} bytes")
            plain_writer.write(await reader.readexactly(size))
            await plain_writer.drain()
        plain_writer.write_eof()

    both = asyncio.gather(send(), receive())
    try:
        await both
    except (OSError, EOFError, RuntimeError):
        plain_writer.transport.abort()
    finally:
        both.cancel()
        plain_writer.close()
        writer.close()
