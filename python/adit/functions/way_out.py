"""What a function that may reach some hosts finds as its proxy: a port of its container, which leads to the foreman's
socket. Programs know no proxy at a Unix socket, and all know these variables."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

OUTLET = "/run/adit/outlet.sock"
CHUNK = 1 << 16
_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_HERE = "localhost,127.0.0.1,::1"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    ends = [writer]
    try:
        far_reader, far_writer = await asyncio.open_unix_connection(OUTLET)
        ends.append(far_writer)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
    except OSError:
        writer.transport.abort()
    finally:
        for end in ends:
            end.close()


def start(environment: MutableMapping[str, str] = os.environ) -> None:
    """In a thread of its own. What the function says of proxies itself stays."""
    ready = threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        server = await asyncio.start_server(_carry, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            ready.set()

    threading.Thread(target=run, name="adit-way-out", daemon=True).start()
    ready.wait()
    if ports:
        for name in _VARIABLES:
            for spelled in (name, name.upper()):
                environment.setdefault(spelled, f"http://127.0.0.1:{ports[0]}")
        for spelled in ("no_proxy", "NO_PROXY"):
            environment.setdefault(spelled, _HERE)
