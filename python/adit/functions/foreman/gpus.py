"""The GPUs of this machine, each of which one container has at a time."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING

from ...exception import InvalidError
from ..engine import Gpu
from ..gpu import ANY

if TYPE_CHECKING:
    from ..engine import Engine
    from ..spec import FunctionSpec

_PROGRAM = "nvidia-smi"  # of the driver: it names them as NVML does


async def _list() -> list[Gpu]:
    try:
        program = await asyncio.create_subprocess_exec(
            *(_PROGRAM, "--query-gpu=index,uuid,name", "--format=csv,noheader"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return []
    said, _ = await program.communicate()
    rows = [[word.strip() for word in line.split(",", 2)] for line in said.decode(errors="replace").splitlines()]
    return [Gpu(*row) for row in rows if len(row) == len(Gpu._fields) and row[0].isdigit()]


def is_of(name: str, kind: str) -> bool:
    """Whether each word of the type is one of a GPU's name: L4 is no L40S, A100-80GB an NVIDIA A100-SXM4-80GB."""
    if kind == ANY:
        return True
    words = set(re.split(r"[^A-Z0-9]+", name.upper()))
    return words.issuperset(re.split(r"[^A-Z0-9]+", kind.upper()))


class Gpus:
    """All of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._all: list[Gpu] | None = None
        self._free: list[Gpu] = []
        self._changed = asyncio.Event()

    async def _look(self) -> list[Gpu]:
        if self._all is None:
            found = await _list()
            if self._all is None:
                self._all, self._free = found, list(found)
        return self._all

    async def check(self, spec: FunctionSpec) -> None:
        """InvalidError unless the function's can be had on this machine, once they are free."""
        if not spec.gpus or self._engine.has_machines:
            return
        there = await self._look()
        asked = ", ".join(kind if count == 1 else f"{kind}:{count}" for kind, count in spec.gpus)
        if not there:
            raise InvalidError(
                f"{spec.name}: gpu: {asked}: this machine has no GPU (nvidia-smi, which comes with NVIDIA's driver, "
                "finds none)"
            )
        if not await self._engine.gives_gpus():
            raise InvalidError(
                f"{spec.name}: gpu: {asked}: the container engine cannot give GPUs to containers (install "
                "nvidia-container-toolkit and run `nvidia-ctk runtime configure`, or `nvidia-ctk cdi generate`)"
            )
        if not any(self._choose(there, kind, count) for kind, count in spec.gpus):
            has = ", ".join(f"{n} x {name}" for name, n in Counter(gpu.name for gpu in there).items())
            raise InvalidError(f"{spec.name}: gpu: {asked}: this machine has not so many of that type (it has {has})")

    @staticmethod
    def _choose(among: list[Gpu], kind: str, count: int) -> list[Gpu]:
        found = [gpu for gpu in among if is_of(gpu.name, kind)]
        return found[:count] if len(found) >= count else []

    async def take(self, spec: FunctionSpec) -> list[Gpu]:
        """Those that a container of the function is to have, once they are free."""
        if not spec.gpus:
            return []
        if self._engine.has_machines:  # the first, whatever there is: none is known here
            kind, count = spec.gpus[0]
            return [Gpu("", "", kind)] * count
        await self._look()
        while True:
            for kind, count in spec.gpus:
                if chosen := self._choose(self._free, kind, count):
                    self._free = [gpu for gpu in self._free if gpu not in chosen]
                    return chosen
            self._changed.clear()
            await self._changed.wait()

    async def keep(self, gpus: list[Gpu]) -> None:
        """A container has these already."""
        await self._look()
        self._free = [gpu for gpu in self._free if gpu not in gpus]

    def give(self, gpus: list[Gpu]) -> None:
        """Back."""
        self._free += [] if self._engine.has_machines else gpus
        self._changed.set()
