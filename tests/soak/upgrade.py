#!/usr/bin/env python3
"""Upgrades a relay again and again under load, and prints what that cost: make upgrade-soak.

Connections of every kind (TLS 1.3, TLS 1.2, raw sealed, raw plain) stay through all of it: half of them send a random
kilobyte every few seconds and compare what comes back, one in sixteen has more on its way than anybody reads, one in
sixteen of the raw ones has ended its own side and is still sent to, and the others say nothing. Meanwhile visitors come
and go. Nothing is asserted but that nothing was lost: figures are printed."""
import argparse
import asyncio
import multiprocessing
import os
import resource
import signal
import ssl
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from kit import tls     # noqa: E402
from kit.process import descriptors, resident_bytes, wait_until     # noqa: E402
from kit.roles import Agent, Box, Relay     # noqa: E402

PIECE, BLOCKED_BYTES, LIMIT_S = 1024, 4 << 20, 30
ECHO, TICK = b"E", b"T"


async def serve_one(reader, writer):
    """ECHO: sends back what comes. TICK: counts, a byte ten times a second, also after the visitor's end."""
    try:
        if await reader.readexactly(1) == TICK:
            for n in range(1 << 30):
                writer.write(bytes([n % 256]))
                await writer.drain()
                await asyncio.sleep(0.1)
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def run_app(port):
    async def main():
        server = await asyncio.start_server(serve_one, "127.0.0.1", 0, backlog=4096)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()
    asyncio.run(main())


class Load:
    def __init__(self, relay, agents, every_s):
        self.relay, self.agents, self.every_s = relay, agents, every_s
        self.contexts = [tls.context(relay.authority), tls.context(relay.authority, version=ssl.TLSVersion.TLSv1_2)]
        self.lost, self.wrong, self.times, self.visits, self.ended = [], 0, [], [], asyncio.Event()
        self.ready = 0

    async def open(self, n):
        """Sealed and plain agents stand in turn, and so do the kinds of visitors."""
        sealed, plain = self.agents[n // 4 * 2 % len(self.agents)], self.agents[(n // 4 * 2 + 1) % len(self.agents)]
        if n % 4 < 2:
            return await asyncio.open_connection(*self.relay.address, ssl=self.contexts[n % 4],
                                                 server_hostname=sealed.host)
        return await asyncio.open_connection("127.0.0.1", (sealed if n % 4 == 2 else plain).tcp_port)

    async def exchange(self, reader, writer, piece):
        began = time.monotonic()
        writer.write(piece)
        await writer.drain()
        got = await asyncio.wait_for(reader.readexactly(len(piece)), LIMIT_S)
        self.wrong += got != piece
        return time.monotonic() - began

    async def stream(self, reader, writer):
        while not self.ended.is_set():
            self.times.append(await self.exchange(reader, writer, os.urandom(PIECE)))
            await asyncio.sleep(self.every_s)

    async def idle(self, reader, writer):
        await self.ended.wait()
        await self.exchange(reader, writer, os.urandom(PIECE))

    async def blocked(self, reader, writer):
        sent = os.urandom(BLOCKED_BYTES)
        writer.write(sent)
        await self.ended.wait()
        self.wrong += await asyncio.wait_for(reader.readexactly(len(sent)), LIMIT_S) != sent

    async def half_closed(self, reader, writer):
        writer.write_eof()
        n = 0
        while not self.ended.is_set():
            got = await asyncio.wait_for(reader.readexactly(1), LIMIT_S)
            self.wrong += got[0] != n % 256
            n += 1

    def part(self, n):
        if n // 4 % 2 == 0:
            return self.stream
        return self.blocked if n // 4 % 16 == 1 else self.half_closed if n // 4 % 16 == 3 and n % 4 > 1 else self.idle

    async def stay(self, n):
        try:
            reader, writer = await self.open(n)
            part = self.part(n)
            writer.write(TICK if part == self.half_closed else ECHO)
            self.ready += 1
            await part(reader, writer)
            writer.transport.abort()
        except Exception as e:          # whatever it is, it is lost
            self.lost.append(f"{n % 4} {self.part(n).__name__} {e!r}")

    async def visit(self, n):
        began = time.monotonic()
        try:
            reader, writer = await self.open(n)
            writer.write(ECHO)
            await self.exchange(reader, writer, b"hello")
            writer.close()
            self.visits.append(time.monotonic() - began)
        except Exception as e:          # and so is this
            self.lost.append(f"visitor {n % 4} {e!r}")

    async def visitors(self, per_s):
        tasks, n, began = set(), 0, time.monotonic()
        while not self.ended.is_set():
            task = asyncio.create_task(self.visit(n))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            n += 1
            await asyncio.sleep(max(0, began + n / per_s - time.monotonic()))
        await asyncio.gather(*tasks)


def figures(name, times):
    times = sorted(times or [float("nan")])
    print(f"{name}: n {len(times)}, median {statistics.median(times) * 1e3:.1f} ms, "
          f"99th {times[len(times) * 99 // 100] * 1e3:.1f} ms, longest {times[-1] * 1e3:.1f} ms")


def condition(relay):
    pid = relay.process.pid
    return f"{resident_bytes(pid) >> 20} MiB, {descriptors(pid)} descriptors"


async def run(o, relay, agents):
    load = Load(relay, agents, o.every)
    stays = []
    for n in range(o.connections):
        stays.append(asyncio.create_task(load.stay(n)))
        if n % 50 == 49:
            await asyncio.sleep(0.2)
    while load.ready + len(load.lost) < o.connections:
        await asyncio.sleep(0.1)
    comers = asyncio.create_task(load.visitors(o.visitors))
    await asyncio.sleep(o.pause)
    print("before:", condition(relay))
    figures("exchanges, without upgrades", load.times)
    figures("visits, without upgrades", load.visits)
    load.times, load.visits, took = [], [], []
    for _ in range(o.upgrades):
        began = time.monotonic()
        old = await asyncio.to_thread(relay.upgrade)
        await asyncio.to_thread(wait_until, lambda: not old.running, "the old relay does not end", 60)
        took.append(time.monotonic() - began)
        await asyncio.sleep(o.between)
    figures("exchanges, with upgrades", load.times)
    figures("visits, with upgrades", load.visits)
    figures("upgrades, to the old one's end", took)
    print("after:", condition(relay))
    load.ended.set()
    await asyncio.gather(*stays, comers)
    noticed = sum(bool(a.events.seen("reconnecting")) for a in agents)
    print(f"lost or refused: {len(load.lost)}, wrong: {load.wrong}, agents that noticed: {noticed}")
    for line in load.lost[:10]:
        print("  ", line)
    return not load.lost and not load.wrong and not noticed


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--connections", type=int, default=8000)
    p.add_argument("--agents", type=int, default=200)
    p.add_argument("--visitors", type=float, default=100, help="new ones a second")
    p.add_argument("--every", type=float, default=8, help="seconds between a connection's exchanges")
    p.add_argument("--upgrades", type=int, default=20)
    p.add_argument("--pause", type=float, default=10, help="seconds before the first")
    p.add_argument("--between", type=float, default=2, help="seconds after each")
    o = p.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
    here, there = multiprocessing.Pipe()
    app = multiprocessing.Process(target=run_app, args=(there,), daemon=True)
    app.start()
    box = Box()
    try:
        port = here.recv()
        relay = Relay(box, options=["--link", "plain"])
        agents = [Agent(box, relay, [port], ["--unencrypted", *(["--link", "plain"] if n % 2 else [])],
                        token=relay.create_token(f"soak{n}")) for n in range(o.agents)]
        good = asyncio.run(run(o, relay, agents))
    finally:
        app.kill()
        for closer in reversed(box.closers):
            closer()
        for program in box.programs:
            program.kill(signal.SIGKILL)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
