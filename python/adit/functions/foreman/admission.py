"""Who may start a container now: no app, whoever calls it, makes the machine fall over. What is short is waited for a
while, by ending containers that have nothing to do, and then told. Nothing is begun for what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ...exception import RemoteError
from ..spec import CONTAINERS_MAX
from .refusal import RETRY_S

if TYPE_CHECKING:
    from .apps import App
    from .foreman import Foreman
    from .pool import Pool
    from .spending import Spending
    from .worker import Worker

STARTS_MAX, WITHIN_S = 100, 60.0  # of an app, for visitors and for calls that its containers make
MEMORY_LEFT_MIB = 1024  # for the machine itself
DISK_LEFT_MIB, FOLDER_LEFT_MIB = (
    256,
    16,
)  # where the engine has its images and containers; where the foreman's sockets are
PATIENCE_S = 30.0  # of a call; a visitor is refused at once, and may come again
LOOK_AGAIN_S = 0.5


def _meminfo() -> dict[str, int]:
    """In bytes; empty where there is none."""
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", encoding="ascii") as file:
        return {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in file)}
    return {}


def _available(total: int) -> int | None:
    """What this machine has left, if it is the engine's, which tells it by how much there is in all."""
    there = _meminfo()
    same = abs(there.get("MemTotal", 0) - total) < total >> 4
    return there.get("MemAvailable") if same else None


def _free_mib(folder: str) -> int | None:
    """None where that cannot be seen: an engine may be in a virtual machine, or keep its folder to itself."""
    with contextlib.suppress(OSError):
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize >> 20
    return None


class Admission:
    """Of one foreman."""

    def __init__(self, foreman: Foreman) -> None:
        self._foreman = foreman
        self._held: dict[Worker, int] = {}  # the memory that each asked for
        self._starts: WeakKeyDictionary[App, deque[float]] = WeakKeyDictionary()
        self._changed = asyncio.Event()
        self.spending: Spending | None = None  # without a budget

    @property
    def again_s(self) -> float:
        """After which a visitor may ask again."""
        return self.spending.again_s if self.spending is not None and self.spending.why_not() is not None else RETRY_S

    async def check(self, worker: Worker) -> None:
        """Before its image is made: what need not be waited for."""
        if self.spending is not None and (why := self.spending.why_not()) is not None:
            raise RemoteError(f"{worker.pool.spec.name}: {why}")
        spec, total = worker.pool.spec, (await self._foreman.resources()).memory_bytes
        if spec.memory[0] > (total >> 20) - MEMORY_LEFT_MIB:
            raise RemoteError(
                f"{spec.name}: memory: it asks for {spec.memory[0]} MiB, and the machine has {total >> 20}, of which "
                f"{MEMORY_LEFT_MIB} are left to itself (ask for less with memory=)"
            )
        data = await self._foreman.engine.data_folder()
        for folder, least in ((data, DISK_LEFT_MIB), (self._foreman.folder, FOLDER_LEFT_MIB)):
            free = _free_mib(folder) if folder else None
            if free is not None and free < least:
                raise RemoteError(
                    f"{spec.name}: disk: {folder} has {free} MiB left, and {least} are needed (remove what nobody "
                    "needs there, such as images)"
                )

    async def admit(self, worker: Worker) -> None:
        """Before anything of a container is made. RemoteError says what is missing."""
        spec = worker.pool.spec
        memory, total = spec.memory[0] << 20, (await self._foreman.resources()).memory_bytes
        until = time.monotonic() + (0 if spec.web or worker.pool.spare else PATIENCE_S)
        while why := self._missing(worker, memory, total):
            goes = not worker.pool.spare and self._make_room(worker)
            left = until - time.monotonic()
            if left <= 0 and not goes:
                raise RemoteError(f"{spec.name}: {why}")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_AGAIN_S if goes else min(left, LOOK_AGAIN_S))
        self._held[worker] = memory
        self._count(worker.pool)

    def pass_on(self, pool: Pool) -> bool:
        """Whether a spare, which has its memory already, may become a container of this pool."""
        if self._beyond_share(pool) is not None or (self.spending is not None and self.spending.why_not() is not None):
            return False
        self._count(pool)
        return True

    def _count(self, pool: Pool) -> None:
        if self._is_paced(pool):
            self._starts.setdefault(pool.app, deque()).append(time.monotonic())

    def keep(self, worker: Worker) -> None:
        """It is there already."""
        self._held[worker] = worker.pool.spec.memory[0] << 20

    def release(self, worker: Worker) -> None:
        """Nothing is left of its container."""
        self._held.pop(worker, None)
        self._changed.set()
        self._changed = asyncio.Event()

    def _is_paced(self, pool: Pool) -> bool:
        """Not what the caller itself calls for, nor spares, which count when they are taken."""
        return not pool.spare and (not pool.waiting or pool.waiting[0].inside)

    def _beyond_share(self, pool: Pool) -> str | None:
        """Why its app may have no container more."""
        app = pool.app
        others = [worker for worker in self._held if worker.pool.app is app and (pool.spare or not worker.pool.spare)]
        if len(others) >= CONTAINERS_MAX:
            return f"containers: its app has {CONTAINERS_MAX}, as many as one may (see concurrency_limit=)"
        starts = self._starts.get(app, deque())
        while starts and starts[0] < time.monotonic() - WITHIN_S:
            starts.popleft()
        if len(starts) >= STARTS_MAX and self._is_paced(pool):
            return f"containers: {STARTS_MAX} were started within a minute, as many as may be (try again later)"
        return None

    def _missing(self, worker: Worker, memory: int, total: int) -> str | None:
        if (why := self._beyond_share(worker.pool)) is not None:
            return why
        left, promised = MEMORY_LEFT_MIB << 20, sum(self._held.values())
        if promised + memory > total - left:
            return (
                f"memory: it asks for {memory >> 20} MiB, and other containers for {promised >> 20} of the machine's "
                f"{total >> 20} MiB, of which {MEMORY_LEFT_MIB} are left to itself (try again later)"
            )
        available = _available(total)
        if available is not None and available < memory + left:
            return (
                f"memory: it asks for {memory >> 20} MiB, and the machine has {available >> 20} MiB left, of which "
                f"{MEMORY_LEFT_MIB} are for itself (try again later)"
            )
        return None

    def _make_room(self, worker: Worker) -> bool:
        """A spare ends, or else the container that has had nothing to do for longest, unless one will be gone in a
        moment already. Whether it is a spare, for which it is worth to wait, as there would be room without it."""
        going = [w for w in self._held if w.ending and not w.is_busy]
        idle = [w for w in self._held if w.pool is not worker.pool and w.is_dispensable]
        if idle and not going:
            going = [min(idle, key=lambda w: (not w.pool.spare, w.idle_since))]
            going[0].retire()
        return any(w.pool.spare for w in going)
