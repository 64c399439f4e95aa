"""A web endpoint: one tunnel, whose visitors are joined to the web servers of a function's containers. The URL stays
when the containers are replaced."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from typing import TYPE_CHECKING

from . import descriptors
from .amounts import TUNNEL, Bill
from .places import state_path
from .refusal import refuse
from .relays import join

if TYPE_CHECKING:
    from ..._client import Client
    from ..._forward import Forward
    from ..._tunnel import Stats
    from .meter import Passing
    from .pool import Pool
    from .worker import Worker

NAME_SHOWN = 100  # of what a ticket is called
WAIT_S = 60.0  # of a visitor for a container
END_S = 5.0  # for a container that no longer listens
NAME_BYTES = 64
WAITING_MAX, REFUSING_MAX = 100, 100  # visitors who wait for one; who are being told that there is none


class Endpoint:
    """Of one function with a web side."""

    def __init__(self, pool: Pool, client: Client, path: str) -> None:
        """``path`` is for a socket of its own."""
        self.pool, self._path, self._client = pool, path, client
        self._server: asyncio.Server | None = None
        self._forward: Forward | None = None
        self._passing: Passing | None = None
        self._waiting = self._refusing = 0
        self._visits: set[asyncio.Task[None]] = set()
        self.url = ""

    async def open(self) -> str:
        """Its URL, once visitors get in."""
        self._server = await asyncio.start_unix_server(self._visit, self._path)
        spec = self.pool.spec
        assert spec.web is not None
        keep = ticket_path(self.pool.app.name, spec.name, spec.web.label, stays=self.pool.app.stays)
        self._forward = self._client.forward(f"unix:{self._path}", keep=keep, name=_short(spec.name))
        tunnel = await self._forward.__aenter__()
        self.url = tunnel.url
        app = self.pool.app
        bill = Bill(app.spec.name, self.pool.spec.name, kind=TUNNEL)
        self._passing = app.foreman.meter.watch(f"{app.id}-{self.pool.spec.name}", bill, lambda: _passed(tunnel.stats))
        return self.url

    def point(self, pool: Pool) -> None:
        """New visitors go to another version."""
        self.pool = pool

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._visits.add(task)
        try:
            while (worker := await self._find()) is not None:
                with worker.visit():
                    other = await _dial(worker)
                    if other is not None:
                        await join(reader, writer, *other)
                        return
                if not worker.ending:
                    break
            await self._refuse(reader, writer)
        finally:
            self._visits.discard(task)
            writer.close()

    async def _find(self) -> Worker | None:
        if self._waiting >= WAITING_MAX or (len(self._visits) > descriptors.FEW and descriptors.are_short()):
            return None
        self._waiting += 1
        try:
            while True:
                pool = self.pool
                worker, _ = await pool.up(WAIT_S)
                if worker is not None or pool is self.pool:  # else its version went while we waited
                    return worker
        finally:
            self._waiting -= 1

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing >= REFUSING_MAX:
            writer.transport.abort()
            return
        self._refusing += 1
        try:
            await refuse(reader, writer, self.pool.app.foreman.admission.again_s)
        finally:
            self._refusing -= 1

    async def close(self) -> None:
        """No more visitors."""
        if self._server is not None:
            self._server.close()
        if self._forward is not None:
            await self._forward.__aexit__(None, None, None)
        if self._passing is not None:
            await self._passing.close()
        for task in list(self._visits):
            task.cancel()


def _short(name: str) -> str:
    """As long as a tunnel's may be."""
    return name.encode()[:NAME_BYTES].decode(errors="ignore")


def _passed(stats: Stats) -> tuple[int, int]:
    return stats.visitors_total, stats.bytes_to_app + stats.bytes_from_app


async def _dial(worker: Worker) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """None when that cannot be: it has as many as it takes, or it ends, which is then waited for."""
    try:
        return await asyncio.open_connection(sock=worker.connect_web())
    except BlockingIOError:
        return None
    except OSError:
        await asyncio.wait({worker.task}, timeout=END_S)
        return None


def ticket_path(app: str, function: str, label: str | None, *, stays: bool) -> str:
    """Where the address of an endpoint is kept for the next time: what is tried has another than what is deployed."""
    folder = state_path("endpoints")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    names = [label] if label else [app, function]
    if not stays:
        names.append("dev")
    shown = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in "-".join(names))[:NAME_SHOWN]
    which = hashlib.sha256(json.dumps([names, stays, label is None]).encode())
    return os.path.join(folder, f"{shown}-{which.hexdigest()[:16]}")  # others may look the same
