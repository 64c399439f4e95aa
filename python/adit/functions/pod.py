"""The first process of a function's Pod. It gives the runner what a container on the foreman's own machine has by
mounts: the foreman's sockets, of which each connection is carried through a tunnel of that one, and a standard
input that ends with the foreman. It has the Pod's meter, as no engine is there to be asked.

What it may do there it shows by 256 bits of its own, which it finds in a file: they are in no variable of the
environment, and good for this Pod's sockets only."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from . import carried, way_out
from .session import CONTAINER_SOCKET
from .web_runner import SOCKET as WEB_SOCKET

if TYPE_CHECKING:
    from .carried import Pair

SETTINGS = "/run/secrets/adit/settings"
VISITORS = "/run/adit/visitors.sock"
FOREMAN, OUTLET, HOLD, VISITOR = "foreman", "outlet", "hold", "visitor"  # what a connection is for
GO = b"!"  # to one that waits for a visitor
WAITING = 4  # of these, so that a visitor need not wait for one
DIAL_S = 10.0
AGAIN_S = 0.3
REACH_S = 10.0
HELD_S = 15.0  # without a word of the foreman's, after which it counts as gone, unless that is to come back
TELL_S = 3.0
END_S = 2.0  # for a runner whose input has ended
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SIGNALLED = 128


class Pod:
    """This one."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from .engine.groups import Hierarchies

        self._settings = settings
        self._trust = ssl.create_default_context(cadata=settings["ca"])
        self._meter = Hierarchies.here()
        self._heard = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._hold: asyncio.StreamWriter | None = None
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._runner: subprocess.Popen[bytes] | None = None

    def _begin(self, command: list[str]) -> None:
        self._runner = subprocess.Popen(command, stdin=subprocess.PIPE)

    def _reap(self) -> None:
        """The runner's end, and that of orphans that others leave."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self._runner is not None and pid == self._runner.pid and not self._ended.done():
                    code = os.waitstatus_to_exitcode(status)
                    self._ended.set_result(code if code >= 0 else _SIGNALLED - code)

    def _signal(self, number: int) -> None:
        if self._runner is not None and not self._ended.done():
            os.kill(self._runner.pid, number)

    async def live(self, command: list[str]) -> int:
        """Until the runner has ended; its status."""
        loop = asyncio.get_running_loop()
        for number in _PASSED_ON:
            loop.add_signal_handler(number, self._signal, number)
        await asyncio.start_unix_server(functools.partial(self._carry, FOREMAN), CONTAINER_SOCKET)
        await asyncio.start_unix_server(functools.partial(self._carry, OUTLET), way_out.OUTLET)
        await asyncio.start_unix_server(self._hand_over, WEB_SOCKET)
        self._do(self._hold_on())
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._begin(command)
        try:
            return await self._ended
        finally:
            await self._tell_end()

    def _do(self, job: Any) -> None:
        task = asyncio.ensure_future(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, purpose: str) -> Pair:
        host, port = self._settings["dial"]
        about = f"{self._settings['id']} {self._settings['bearer']} {purpose}\n"
        dialling = asyncio.open_connection(host, port, ssl=self._trust, server_hostname=self._settings["name"])
        reader, writer = await asyncio.wait_for(dialling, DIAL_S)
        writer.write(about.encode())
        return reader, writer

    async def _carry(self, purpose: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            carrier = await self._reach(purpose)
        except (OSError, asyncio.TimeoutError):
            writer.transport.abort()
            return
        await carried.join((reader, writer), carrier)

    async def _reach(self, purpose: str) -> Pair:
        """Tried again for a moment: whoever asks the foreman for the first time would take it for gone."""
        last = time.monotonic() + REACH_S
        while True:
            try:
                return await self._dial(purpose)
            except (OSError, asyncio.TimeoutError):
                if time.monotonic() >= last:
                    raise
            await asyncio.sleep(AGAIN_S)

    # --- the foreman's hold ---

    async def _hold_on(self) -> None:
        """Has one connection to the foreman at all times; when that cannot be for long, the runner ends."""
        watching = asyncio.ensure_future(self._watch())
        while not watching.done():
            with contextlib.suppress(OSError, EOFError, ValueError, asyncio.TimeoutError):
                reader, self._hold = await self._dial(HOLD)
                telling = asyncio.ensure_future(self._keep_telling(self._hold))
                try:
                    while line := await reader.readline():
                        self._heard = time.monotonic()
                        self._answer(json.loads(line))
                finally:
                    telling.cancel()
                    self._hold.close()
                    self._hold = None
            await asyncio.sleep(AGAIN_S)

    async def _watch(self) -> None:
        while (left := self._heard + self._settings["patience"] - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
        host, port = self._settings["dial"]
        print(f"adit: the foreman cannot be reached through the relay at {host}:{port}", file=sys.stderr, flush=True)
        if self._runner is not None and self._runner.stdin is not None:
            self._runner.stdin.close()
        await asyncio.sleep(END_S)
        self._signal(signal.SIGKILL)

    def _say(self, said: dict[str, Any]) -> None:
        if self._hold is not None:
            used = self._meter.usage("") if self._meter is not None else None
            told = {**said, "used": used and [used.cpu_ns, used.memory_bytes]}
            self._hold.write(json.dumps(told).encode() + b"\n")

    async def _keep_telling(self, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            self._say({})
            await asyncio.sleep(TELL_S)

    def _answer(self, asked: dict[str, Any]) -> None:
        if "signal" in asked:
            self._signal(signal.Signals[asked["signal"]])
        elif "ask" in asked:
            self._say({"answer": asked["ask"]})

    async def _tell_end(self) -> None:
        """So that the last reading is of all that was used."""
        self._say({"end": self._ended.result()})
        if self._hold is not None:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(self._hold.drain(), AGAIN_S)
                self._hold.close()
                await asyncio.wait_for(self._hold.wait_closed(), AGAIN_S)

    # --- visitors of a web endpoint ---

    async def _hand_over(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Where visitors come, to the runner's web server; from then on some are waited for."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(VISITORS)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(VISITORS)
            listener.listen()
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as way:
                socket.send_fds(way, [b"."], [listener.fileno()])
        writer.close()
        for _n in range(WAITING):
            self._do(self._take_visitors())

    async def _take_visitors(self) -> None:
        while True:
            with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError):
                carrier = await self._dial(VISITOR)
                await carrier[0].readexactly(len(GO))
                self._do(self._take(carrier))
                continue
            await asyncio.sleep(AGAIN_S)

    async def _take(self, carrier: Pair) -> None:
        try:
            plain = await asyncio.open_unix_connection(VISITORS)
        except OSError:
            carrier[1].transport.abort()
            return
        await carried.join(plain, carrier)


def _read_settings() -> dict[str, Any]:
    with open(SETTINGS, encoding="utf-8") as file:
        settings: dict[str, Any] = json.load(file)
    return settings


async def _live(command: list[str]) -> int:
    return await Pod(_read_settings()).live(command)


def main() -> None:
    """``python -m adit.functions.pod COMMAND...``."""
    status = asyncio.run(_live(sys.argv[1:]))
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
