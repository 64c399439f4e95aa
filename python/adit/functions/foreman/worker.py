"""One container of a function: its folder with its sockets, its runner, its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import secrets
import shutil
import signal
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...exception import Error, ImageError, NotFoundError, RemoteError
from .. import hosts, wire
from ..engine import GONE, Container, Ended, Place, Resources
from ..spec import FOREMAN_GONE
from . import descriptors, unix, volumes
from .admission import MEMORY_LEFT_MIB
from .amounts import SPARE, Amounts, Bill
from .calls import CONTAINER_BYTES
from .images import FOLDER
from .outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from ..engine import Gpu, Running
    from ..spec import FunctionSpec
    from ..wire import Meta
    from .book import Posted
    from .calls import Call
    from .meter import Metered
    from .pool import Pool

USERS = range(20_000, 60_000)
MEMORY_LIMIT_MIB = 4096
CPU_BEYOND_REQUEST = 4.0
SPARE_LIFE_S = 300  # of a token, beyond the function's timeout
STOP_S = 5.0
VISITORS = "visitors.sock"
SHARED = "agents"  # the folder of a shared relay's own socket, as its source calls it, and so do we
CARRIED_MAX = 240  # of its connections to a relay that is elsewhere, one for each visitor of its tunnels
ACCEPTED = 16  # at once, before the first of them counts
LABEL = "adit.worker"
PATIENCE_S = 30.0  # of a container whose foreman is to come back
BY_SIGNAL = 128
KILLED = BY_SIGNAL + signal.SIGKILL
START_S = 60
LOOK_AGAIN_S = 1.0
REMOVE_AGAIN_S = 5.0  # while the engine does not answer


def _printed(name: str) -> str:
    """A function's name where an engine and a control group take only some characters."""
    return re.sub("[^A-Za-z0-9]", "-", name[:40])


def _limits(spec: FunctionSpec, there: Resources) -> Resources:
    cpus = spec.cpu[1] or spec.cpu[0] + CPU_BEYOND_REQUEST
    memory = spec.memory[1] or max(MEMORY_LIMIT_MIB, spec.memory[0])
    most = max(there.memory_bytes - (MEMORY_LEFT_MIB << 20), spec.memory[0] << 20)
    return Resources(min(cpus, there.cpus), min(memory << 20, most))


def _reason(ended: Ended, limits: Resources) -> str:
    limit = f"out of memory (limit {limits.memory_bytes >> 20} MiB)"
    if ended.out_of_memory:
        return limit
    if ended.why:
        return ended.why
    if ended.status == KILLED:  # not by us; the engine does not always see why
        return f"its container was killed, most likely {limit}"
    if ended.status in (GONE, FOREMAN_GONE):  # of the latter: its standard input ended, which the engine holds for us
        return "its container is gone (was the engine restarted, or the container removed?)"
    with contextlib.suppress(ValueError):
        name = signal.Signals(ended.status - BY_SIGNAL).name
        return f"its container was ended by {name} (was the engine stopped, or the container?)"
    return f"its container ended with status {ended.status}" if ended.status else "its container ended"


@dataclass(frozen=True)
class Taken:
    """A container of the foreman before, which lives on."""

    id: str
    folder: str
    running: Metered
    gpus: list[Gpu]
    inputs: int


class Worker:
    """One container: its folder with its sockets, its runner, its end."""

    def __init__(self, pool: Pool, taken: Taken | None = None) -> None:
        self.id = secrets.token_hex(6)
        self.pool = pool
        self.calls: dict[int, Call] = {}  # by the slot of the runner that has it: one, or as many as it may at once
        self.inputs = 0
        self.ending = False  # no slot gets another call
        self.over: list[str] = []  # calls that nobody wants any more, for runners that go on
        self.news = asyncio.Event()  # of these
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.budget = pool.app.budget.share("inputs that one container has made", CONTAINER_BYTES)
        self.ready = asyncio.Event()
        self.waits = False  # a spare, whose runner asks what it is to be
        self.is_there = False  # it has been admitted
        self.is_fresh = False  # it was one, and is not known to have begun as another
        self.refused = ""  # why its program cannot be imported
        self.connections = 0  # of visitors, with a web endpoint
        self.idle_since = time.monotonic()
        self.gpus: list[Gpu] = []
        self._running: Metered | None = None
        self._started = asyncio.Event()
        self._chosen = asyncio.Event()
        self._settling: asyncio.Task[None] | None = None
        self._is_written = taken is not None
        self._began = 0.0
        self._folder = ""
        self._why: tuple[str, str] | None = None
        self._servers: list[asyncio.Server] = []
        self._runner: web.AppRunner | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._start_timer: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.is_taken = taken is not None
        self._is_heard = asyncio.Event()  # what it asks is understood: all that the foreman before knew is known
        self._is_left = False  # it goes on without this foreman
        if taken is not None:
            self.id, self._folder, self.gpus, self.inputs = taken.id, taken.folder, taken.gpus, taken.inputs
            self._running = taken.running
            self.ready.set()
        else:
            self._is_heard.set()
        self.task = asyncio.create_task(self._live(), name=f"worker {self.id}")
        self.task.add_done_callback(self._is_over)

    @property
    def engine_id(self) -> str:
        """What the engine calls it; empty until it runs."""
        return "" if self._running is None else self._running.id

    @property
    def call(self) -> Call | None:
        """What it does, or some of that."""
        return next(iter(self.calls.values()), None)

    @property
    def room(self) -> int:
        """How many calls more it would take."""
        return 0 if self.ending else self.pool.spec.concurrent - len(self.calls)

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for what it does: not for a thread that goes on when its call is over."""
        return bool(self.connections) or any(not call.done for call in self.calls.values())

    @property
    def is_dispensable(self) -> bool:
        """Whether it has nothing to do, and is not one of those that are to be there in any case."""
        if self.pool.spare:
            return not self.ending
        used = self.is_busy or self.pool.spec.web is not None
        return self.ready.is_set() and not used and len(self.pool.workers) > self.pool.spec.keep_warm

    async def _live(self) -> None:
        text = ""
        try:
            text = await self._run()
        except asyncio.CancelledError:
            text = "its container was stopped"
        except Error as error:
            text, self._why = str(error), self._why or (wire.kind_of(error), str(error))
        except Exception as error:  # of the engine's, whatever it is: whoever waits is told
            text = f"{type(error).__name__}: {error}"
        finally:
            self.ending = True
            for timer in self._timers.values():  # a call that is tried again has its time anew
                timer.cancel()
            if self._settling is not None:
                self._settling.cancel()
            await self._let_go(text)

    async def _let_go(self, text: str) -> None:
        if self._is_left:
            await self._close_sockets()
        else:
            kind, reason = self._why or ("ExecutionError", f"{self.pool.spec.name}: {text}")
            self.pool.died(self, kind, reason)  # before what is left is cleared, which an engine may be slow at
            clearing = asyncio.ensure_future(self._clear())
            while not clearing.done():  # however often it is told to end
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({clearing})
            if not clearing.cancelled() and (failure := clearing.exception()) is not None:
                text = f"{self.pool.spec.name}: not all of a container is cleared: {failure!r}"
                self.pool.app.tell("note", text=text)

    def _is_over(self, _: asyncio.Task[None]) -> None:
        """Whatever ended it, and if it was before it began."""
        self.pool.app.foreman.admission.release(self)
        self.pool.gone(self)

    async def _run(self) -> str:
        limits, self._began = _limits(self.pool.spec, await self.pool.app.foreman.resources()), time.monotonic()
        listening = None
        try:
            if self._running is None:
                self._running = await self._begin(limits)
            else:
                await self._is_heard.wait()
                await self._open()
                if self.pool.spec.web is not None:
                    if self.pool.app.foreman.engine.has_machines:  # what it got there, it has by the foreman
                        await self._open_web()
                    self._look_idle()
            self._running.counted = functools.partial(self.pool.app.foreman.relay.counted, self)
            self._started.set()
            listening = asyncio.create_task(self._listen(self._running))
            ended = await self._running.ended()
            await asyncio.wait({listening}, timeout=STOP_S)
        finally:
            self._may_be_late(False)
            if listening is not None:
                listening.cancel()
        return _reason(ended, limits)

    async def _begin(self, limits: Resources) -> Metered:
        """A new container."""
        pool, app = self.pool, self.pool.app
        await app.foreman.admission.check(self)
        image = await app.foreman.images.ensure(
            volumes.image_with_places(pool.spec), pool.bundle, app.version_id(pool.version)
        )
        await app.foreman.admission.admit(self)
        self.is_there = True
        self.gpus = await app.foreman.gpus.take(pool.spec)
        self._began = time.monotonic()
        return await self._start(image, limits)

    async def _start(self, image: str, limits: Resources) -> Metered:
        pool, foreman = self.pool, self.pool.app.foreman
        self._may_be_late(True)
        await self._write_down()
        container = Container(
            image=image,
            command=["python3", "-u", "-m", "adit.functions.runner", *([str(PATIENCE_S)] if foreman.returns else [])],
            name=self._name,
            labels={**foreman.labels, "adit.app": pool.app.id, "adit.function": self._function, LABEL: self.id},
            places=await self._open(),
            limits=limits,
            requests=Resources(pool.spec.cpu[0], pool.spec.memory[0] << 20),
            within=pool.spec.startup_timeout or START_S,
            volumes=volumes.places(pool.spec),
            user=volumes.USER if pool.spec.volumes else USERS.start + secrets.randbelow(len(USERS)),
            env={"HOME": "/home/adit", "ADIT_CONTAINER": self.id, **pool.spec.env},
            network=pool.spec.network,
            gpus=self.gpus,
            held=not foreman.returns,
        )
        bill = self._bill()
        try:
            return await foreman.meter.start(container, bill)
        except ImageError:  # somebody has removed it since it was built
            self._may_be_late(False)
            version, spec = pool.app.version_id(pool.version), volumes.image_with_places(pool.spec)
            image = await foreman.images.ensure(spec, pool.bundle, version, anew=True)
            self._may_be_late(True)
            return await foreman.meter.start(replace(container, image=image), bill)

    async def _write_down(self) -> None:
        """So that the next foreman takes it over. Nobody misses a spare."""
        if not self.pool.spare and not self._is_written:
            self._is_written = True
            await self.pool.app.foreman.ledger.worker_starts(self)

    @property
    def _function(self) -> str:
        return "(spare)" if self.pool.spare else self.pool.spec.name

    @property
    def _name(self) -> str:
        """Of its container, for people."""
        return f"adit-{_printed(self._function.strip('()'))}-{self.id}"

    def _bill(self) -> Bill:
        spec, app = self.pool.spec, self.pool.app
        return Bill.of_spare(app.spec.name) if self.pool.spare else Bill.of(spec, app.spec.name, app.id, self.gpus)

    async def _open(self) -> list[Place]:
        """The folder that the container sees as /run/adit. Only it does: what is above is closed to other users. Of one
        that was taken over the sockets are made anew in it, but for that of its visitors, which the container has."""
        if not self.is_taken:
            self._folder = os.path.join(self.pool.app.foreman.folder, self.id)
            os.mkdir(self._folder)
            os.chmod(self._folder, 0o755)
        self._runner = await self.pool.app.foreman.serve(os.path.join(self._folder, "foreman.sock"), self)
        if self.pool.spec.hosts:
            outlet = Outlet(hosts.read_rules(self.pool.spec.hosts))
            self._servers.append(await outlet.listen(os.path.join(self._folder, "outlet.sock")))
        return [Place(self._folder, FOLDER, read_only=False), *await self._open_relay()]

    async def _open_relay(self) -> list[Place]:
        """Its way to the relay: the relay's own socket, if that is on this machine and lives as long as we do, else one
        of ours, behind which there may be another relay one day."""
        foreman, path = self.pool.app.foreman, os.path.join(self._folder, "relay.sock")
        relay = foreman.relay
        if not foreman.returns and (its_own := await relay.socket()):
            return [self._mount_relay(its_own, path)]
        carried = 0

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal carried
            if carried >= CARRIED_MAX or (carried >= descriptors.FEW and descriptors.are_short()):
                writer.transport.abort()
                return
            carried += 1
            try:
                await relay.carry(self, reader, writer)
            finally:
                carried -= 1

        own = unix.bind(path)
        self._servers.append(await asyncio.start_unix_server(carry, sock=own, backlog=ACCEPTED))
        return []

    def _mount_relay(self, its_own: str, path: str) -> Place:
        """A shared relay's folder, in which one follows on another that died, and which has nothing else in it; or the
        socket alone."""
        folder, name = os.path.split(its_own)
        if os.path.basename(folder) != SHARED:
            os.close(os.open(path, os.O_CREAT))  # what it is mounted on
            return Place(its_own, os.path.join(FOLDER, "relay.sock"), read_only=False)
        os.mkdir(os.path.join(self._folder, SHARED))
        os.symlink(os.path.join(SHARED, name), path)
        return Place(folder, os.path.join(FOLDER, SHARED))

    async def _open_web(self) -> None:
        listener = unix.bind(os.path.join(self._folder, VISITORS), 0o600)
        listener.listen()

        def hand_over(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Once: then it ends with the container."""
            if listener.fileno() >= 0:
                with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as way:
                    socket.send_fds(way, [b"."], [listener.fileno()])
                listener.close()
            writer.close()

        path = os.path.join(self._folder, "web.sock")
        self._servers.append(await asyncio.start_unix_server(hand_over, sock=unix.bind(path)))

    async def _listen(self, running: Running) -> None:
        app = self.pool.app
        telling = asyncio.create_task(self._tell_ready(running))
        try:
            async for stream, data in running.output():
                if self.pool.spare:  # it has nothing to say, to nobody
                    continue
                text = data.decode("latin-1")
                about = {"function": self.pool.spec.name, "worker": self.id, "version": self.pool.version}
                app.tell("output", **about, stream=stream, data=text)
        finally:
            telling.cancel()

    async def _tell_ready(self, running: Running) -> None:
        if self.is_taken:  # which was told long ago
            return
        await self.ready.wait()
        seconds = time.monotonic() - self._began
        self.pool.app.tell("started", function=self.pool.spec.name, worker=self.id, seconds=seconds)
        if self._chosen.is_set():
            with contextlib.suppress(Error):
                await running.rename(self._name)

    def _may_be_late(self, may: bool) -> None:
        """Its time to start begins; or does not go on, as while an image is made."""
        if self._start_timer is not None:
            self._start_timer.cancel()
        seconds = self.pool.spec.startup_timeout or START_S
        self._start_timer = asyncio.get_running_loop().call_later(seconds, self._late) if may else None

    def _late(self) -> None:
        if not self.ready.is_set():
            self.is_fresh = self.is_fresh and self._settling is None
            self.end("ExecutionError", f"{self.pool.spec.name}: it did not start in time (see startup_timeout=)")

    async def _clear(self) -> None:
        foreman, is_left = self.pool.app.foreman, False
        try:
            if self._running is not None:
                is_left = not await self._remove(self._running)
                for call in self.calls.values():
                    call.add_used(self._running.call_used(call.id), self._running.bill.gpu)
                    if call.lasts and call.done:
                        foreman.ledger.used(call)
        finally:
            foreman.ledger.worker_gone(self.id)
            foreman.relay.revoke(self.id)
            if is_left:
                foreman.later(self._remove_later())
            else:
                self._give_back()
            await self._close_sockets()

    async def _remove(self, running: Metered) -> bool:
        """False when the engine does not do it: then the container may go on with what it has."""
        try:
            await running.remove()
        except RemoteError:
            return False
        return True

    async def _remove_later(self) -> None:
        assert self._running is not None
        while True:
            if await self._remove(self._running):
                self._give_back()
                self.pool.app.foreman.relay.revoke(self.id)  # what it was given while it went on
                return
            await asyncio.sleep(REMOVE_AGAIN_S)

    def _give_back(self) -> None:
        """What it had, which is nobody else's before it is gone."""
        self.pool.app.foreman.gpus.give(self.gpus)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _close_sockets(self) -> None:
        for server in self._servers:
            server.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # --- spares ---

    async def find_work(self, seconds: float) -> bool:
        """Whether it knows what it is to do; a spare waits for that. Its runner's connection breaks off when it dies,
        before the engine tells."""
        if self.pool.spare:
            self.waits = True
            self._may_be_late(False)
            self.pool.arrived()
            try:
                await asyncio.wait_for(self._chosen.wait(), seconds)
            except asyncio.TimeoutError:
                return False
            finally:
                self.waits = False
        return True

    def become(self, pool: Pool) -> None:
        """A spare is one of this pool from now on."""
        self.pool.workers.remove(self)
        self.pool, self.is_fresh = pool, True
        self._began = self.idle_since = time.monotonic()
        self._may_be_late(True)
        self._chosen.set()

    async def settle_in(self) -> None:
        """Before it is told what it is to do: once, whoever asks again, and whether or not he waits for it."""
        if self.is_taken:
            return
        if self._settling is None:
            self._settling = asyncio.create_task(self._settle_in(), name=f"worker {self.id} settles in")
        await asyncio.shield(self._settling)

    async def _settle_in(self) -> None:
        await self._write_down()
        if self.pool.spec.web is not None:
            await self._open_web()
        if (metered := await self.metered()).bill.kind == SPARE:
            await metered.become(self._bill())

    # --- what the runner asks ---

    async def metered(self) -> Metered:
        """Its meter. The runner may ask before the engine has said that it runs."""
        await self._started.wait()
        assert self._running is not None
        return self._running

    def is_ready(self) -> None:
        """Its function can be called."""
        self.is_fresh = False
        if not self.ready.is_set():
            self.idle_since = time.monotonic()
            self.ready.set()
            self.pool.app.foreman.ledger.worker_is_ready(self)
            self.pool.is_up(self)
            if self.pool.spec.web is not None:
                self._look_idle()

    def begin(self, call: Call, slot: int) -> None:
        """It takes this call."""
        self.calls[slot], call.began = call, True
        self.inputs += 1
        if call.lasts:
            mark = Amounts() if self._running is None else self._running.total
            self.pool.app.foreman.ledger.began(call, self, slot, time.monotonic(), mark)
        self._count_down(call, self.pool.spec.timeout)
        self.pool.scale()

    def _count_down(self, call: Call, seconds: float) -> None:
        if self.pool.spec.max_inputs and self.inputs >= self.pool.spec.max_inputs:
            self.pool.end(self)
        loop = asyncio.get_running_loop()
        self._timers[call.id] = loop.call_later(seconds, self._timed_out, call, call.saved)

    def wait_with(self, call: Call) -> None:
        """It has done this call, and keeps what came of it until there is room for that."""
        self._timers.pop(call.id).cancel()
        self._count_down(call, self.pool.spec.timeout)

    def hear(self) -> None:
        """It may ask from now on, and say what has become of the calls that it was given."""
        self._is_heard.set()

    def resume(self, call: Call, slot: int, began: float, mark: Amounts) -> None:
        """It has this call since then, from a foreman before."""
        assert self._running is not None
        self.calls[slot] = call
        self._running.resume_call(call.id, mark)
        self._count_down(call, max(0.0, began + self.pool.spec.timeout - time.monotonic()))

    def _timed_out(self, call: Call, told: Posted = None) -> None:
        if not call.done and told is not None and not told.done():  # it has not been given to its runner yet
            self._count_down(call, self.pool.spec.timeout)
        elif not call.done:
            seconds = self.pool.spec.timeout
            text = f"{self.pool.spec.name}: it took longer than {seconds} s (see timeout= of @app.function)"
            call.fail("FunctionTimeoutError", text)
            if self.pool.spec.concurrent == 1:
                self.end("FunctionTimeoutError", text)
            else:
                self._leave(call)

    def finish(self, identity: str, meta: Meta, payload: bytes) -> None:
        """It has done the call that it was given, and only that."""
        slot, call = self.find(identity)
        self._timers.pop(identity).cancel()
        del self.calls[slot]
        self.idle_since = time.monotonic()
        if meta.get("status") == "ok" or not self.pool.retry(call):
            call.settle(meta, payload)
        self.look_stuck()
        self.pool.changed()

    @contextlib.contextmanager
    def visit(self) -> Iterator[None]:
        """A visitor's connection, for which it stays."""
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1
            self.idle_since = time.monotonic()
            self.pool.changed()
            self._look_idle()

    def _look_idle(self) -> None:
        """One that serves the web fetches no calls, by which others are told to end: it is looked at."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self.ending or self.connections:
            return
        if self.pool.may_end(self):
            self.retire()
            return
        left = max(self.idle_since + self.pool.spec.idle_timeout - time.monotonic(), LOOK_AGAIN_S)
        self._idle_timer = asyncio.get_running_loop().call_later(left, self._look_idle)

    def retire(self) -> None:
        """It has nothing to do, and is not needed."""
        if self._stopping is None:
            self.ending = True
            self._stopping = asyncio.create_task(self.stop())

    def end(self, kind: str, reason: str) -> None:
        """At once."""
        self._why = self._why or (kind, reason)
        self.task.cancel()

    def give(self, call: Call, piece: bytes) -> None:
        """The next value of a call that is its own."""
        number = call.given
        call.give(piece, self.budget)
        if call.lasts and not call.done:
            self.pool.app.foreman.ledger.gave(call, number, piece)

    def find(self, identity: str) -> tuple[int, Call]:
        """The call that was given to it, and only such a one, and the slot that has it."""
        for slot, call in self.calls.items():
            if call.id == identity:
                return slot, call
        raise NotFoundError(f"call {identity}: it is not this container's")

    def cancel(self, call: Call) -> None:
        """This call is not wanted any more; the function may clean up."""
        if self.pool.spec.concurrent == 1:
            self._stopping = asyncio.create_task(self.stop())
        else:
            self._leave(call)

    def _leave(self, call: Call) -> None:
        """Of several calls, to one that is over."""
        self.over.append(call.id)
        self.news.set()
        self.idle_since = time.monotonic()
        self.look_stuck()
        self.pool.changed()

    def look_stuck(self) -> None:
        """A thread cannot be ended, but has a moment to: where then none is left for others, or none is needed any
        more, its container is."""
        if self.calls and not self.is_busy:
            asyncio.get_running_loop().call_later(STOP_S, self._end_if_stuck)

    def _end_if_stuck(self) -> None:
        if self.calls and not self.room and not self.is_busy:
            self.end("ExecutionError", f"{self.pool.spec.name}: all that it runs is over, and does not end")

    async def stop(self) -> None:
        """Lets it end by itself for a moment: Ctrl-C."""
        self.ending = True
        if self._running is not None and self.ready.is_set() and not self.task.done():
            with contextlib.suppress(RemoteError):
                await self._running.signal("SIGINT")
            await asyncio.wait({self.task}, timeout=STOP_S)
        self.task.cancel()
        await asyncio.wait({self.task})

    def leave(self) -> None:
        """It goes on without this foreman."""
        self._is_left = True
        self.task.cancel()

    def connect_web(self) -> socket.socket:
        """To its web server. The container may write to no folder of this machine: it could fill it, and put links
        where sockets are to be. So the socket that it listens at is made here, and handed to it. How many may
        wait there is then the container's choice: BlockingIOError is for those beyond, for whom nobody stands still."""
        end = unix.make()
        end.setblocking(False)
        try:
            end.connect(os.path.join(self._folder, VISITORS))
        except OSError:
            end.close()
            raise
        return end
