#!/usr/bin/env python3
"""Upgrades a relay again and again under load, and prints what that cost: make upgrade-soak.

Connections of every kind (TLS 1.3, TLS 1.2, raw sealed, raw plain) stay through all of it: half of them send a random
kilobyte every few seconds and compare what comes back, one in sixteen has more on its way than anybody reads, one in
sixteen of the raw ones has ended its own side and is still sent to, and the others say nothing. Meanwhile visitors come
and go. Nothing is asserted but that nothing was lost: figures are printed.

How many can stay is the relay's limit of descriptors: of 20,000 it keeps parts for strangers, pipes, links and itself
(src/relay/shares.h), and a visitor takes two of the 12,000 to 13,000 that are left beside 200 agents with their ports
and the connections that they keep ready."""
import argparse
import asyncio
import concurrent.futures
import multiprocessing
import os
import resource
import signal
import socket
import ssl
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from kit import tls     # noqa: E402
from kit.process import descriptors, resident_bytes, wait_until     # noqa: E402
from kit.roles import Agent, Box, Relay     # noqa: E402

PIECE, BLOCKED_BYTES, SMALL_BUFFER, LIMIT_S = 1024, 1 << 20, 16384, 30
OPENING_MAX, STARTING_MAX = 32, 8
BEGIN, END = "<!-- upgrades: make upgrade-soak -->", "<!-- end of upgrades -->"
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


class Times:
    def __init__(self):
        self.exchanges, self.visits, self.late = [], [], []


class Load:
    def __init__(self, relay, agents, every_s):
        self.relay, self.agents, self.every_s = relay, agents, every_s
        self.contexts = [tls.context(relay.authority), tls.context(relay.authority, version=ssl.TLSVersion.TLSv1_2)]
        self.lost, self.wrong, self.ended = [], 0, asyncio.Event()
        self.ready, self.opening = 0, asyncio.Semaphore(OPENING_MAX)
        self.upgrades_begun = self.upgrades_done = 0
        self.quiet, self.upgrading = Times(), Times()

    def began(self):
        return time.monotonic(), self.upgrades_done

    def times(self, began):
        """Those of what an upgrade was part of, or of the others; and how long this one took."""
        then, done = began
        return self.upgrading if self.upgrades_begun > done else self.quiet, time.monotonic() - then

    async def open(self, n):
        """Sealed and plain agents stand in turn, and so do the kinds of visitors."""
        sealed, plain = self.agents[n // 4 * 2 % len(self.agents)], self.agents[(n // 4 * 2 + 1) % len(self.agents)]
        tls = {"ssl": self.contexts[n % 4], "server_hostname": sealed.host} if n % 4 < 2 else {}
        address = self.relay.address if tls else ("127.0.0.1", (sealed if n % 4 == 2 else plain).tcp_port)
        sock = socket.socket()
        sock.setblocking(False)
        if self.part(n) == self.blocked:        # or the kernel would hold all that is to be on its way
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
            return await asyncio.open_connection(sock=sock, **tls)
        except BaseException:
            sock.close()
            raise

    async def exchange(self, reader, writer, piece):
        writer.write(piece)
        await writer.drain()
        got = await asyncio.wait_for(reader.readexactly(len(piece)), LIMIT_S)
        self.wrong += got != piece

    async def stream(self, reader, writer):
        while not self.ended.is_set():
            began = self.began()
            await self.exchange(reader, writer, os.urandom(PIECE))
            times, took = self.times(began)
            times.exchanges.append(took)
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
            async with self.opening:
                reader, writer = await self.open(n)
            part = self.part(n)
            writer.write(TICK if part == self.half_closed else ECHO)
            self.ready += 1
            await part(reader, writer)
            writer.transport.abort()
        except Exception as e:          # whatever it is, it is lost
            self.lost.append(f"{n % 4} {self.part(n).__name__} {e!r}")

    async def visit(self, n):
        began = self.began()
        try:
            reader, writer = await self.open(n)
            writer.write(ECHO)
            await self.exchange(reader, writer, b"hello")
            writer.close()
            times, took = self.times(began)
            times.visits.append(took)
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


def row(name, times):
    times = sorted(times or [float("nan")])
    cells = (statistics.median(times), times[len(times) * 99 // 100], times[-1])
    return f"| {name} | {len(times):,} | " + " | ".join(f"{t * 1e3:.0f} ms" for t in cells) + " |"


def table(o, load, took, conditions, verdict):
    return "\n".join([
        f"{o.connections:,} connections, {o.agents} agents, {o.visitors:g} visitors a second, {o.upgrades} upgrades, "
        f"on {os.cpu_count()} processors: {verdict}.", "",
        "| | times | median | 99th percentile | longest |", "|---|---|---|---|---|",
        row("exchanges, no upgrade meanwhile", load.quiet.exchanges),
        row("exchanges, an upgrade meanwhile", load.upgrading.exchanges),
        row("visits, no upgrade meanwhile", load.quiet.visits),
        row("visits, an upgrade meanwhile", load.upgrading.visits),
        row("upgrades, to the old relay's end", took),
        row("the driver's own turns, no upgrade meanwhile", load.quiet.late),
        row("the driver's own turns, an upgrade meanwhile", load.upgrading.late), "",
        f"Relay before: {conditions[0]}; after: {conditions[1]}."])


def write_into(path, text):
    with open(path) as f:
        before, _, rest = f.read().partition(BEGIN)
    assert END in rest, f"{path}: has no lines {BEGIN} and {END}"
    with open(path, "w") as f:
        f.write(before + BEGIN + "\n" + text + "\n" + END + rest.partition(END)[2])


def condition(relay):
    pid = relay.process.pid
    return f"{resident_bytes(pid) >> 20} MiB, {descriptors(pid)} descriptors"


async def watch_driver(load):
    """How late a turn of our own comes: by so much all the others may be measured too long."""
    while not load.ended.is_set():
        began = load.began()
        await asyncio.sleep(0.01)
        times, took = load.times(began)
        times.late.append(took - 0.01)


async def come(o, load):
    stays = [asyncio.create_task(load.stay(n)) for n in range(o.connections)]
    shown = 0
    while load.ready + len(load.lost) < o.connections:
        await asyncio.sleep(0.1)
        if load.ready - shown >= 500:
            shown = load.ready
            print(f"{shown} connections")
    for line in load.lost[:10]:
        print("  ", line)
    return stays


async def upgrade(o, relay, load):
    load.upgrades_begun += 1
    began = time.monotonic()
    old = await asyncio.to_thread(relay.upgrade)
    await asyncio.to_thread(wait_until, lambda: not old.running, "the old relay does not end", 60)
    load.upgrades_done += 1
    took = time.monotonic() - began
    print(f"upgrade {load.upgrades_done}: {took:.2f} s, lost so far: {len(load.lost)}")
    await asyncio.sleep(o.between)
    return took


async def run(o, relay, agents):
    load = Load(relay, agents, o.every)
    stays = await come(o, load)
    others = [asyncio.create_task(load.visitors(o.visitors)), asyncio.create_task(watch_driver(load))]
    await asyncio.sleep(o.pause)
    conditions = [condition(relay)]
    took = [await upgrade(o, relay, load) for _ in range(o.upgrades)]
    conditions.append(condition(relay))
    load.ended.set()
    await asyncio.gather(*stays, *others)
    noticed = sum(bool(a.events.seen("reconnecting")) for a in agents)
    text = table(o, load, took, conditions,
                 f"lost or refused {len(load.lost)}, wrong {load.wrong}, agents that noticed {noticed}")
    print(text)
    for line in load.lost[:10]:
        print("  ", line)
    if o.write:
        write_into(o.write, text)
    return not load.lost and not load.wrong and not noticed


def start_agents(o, box, relay, port):
    """Each with a token of its own: one token may have but a part of a relay's descriptors."""
    with concurrent.futures.ThreadPoolExecutor(STARTING_MAX) as pool:
        tokens = list(pool.map(relay.create_token, [f"soak{n}" for n in range(o.agents)]))
    return [Agent(box, relay, [port], ["--unencrypted", *(["--link", "plain"] if n % 2 else [])], token=token)
            for n, token in enumerate(tokens)]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--connections", type=int, default=6000)
    p.add_argument("--agents", type=int, default=200)
    p.add_argument("--visitors", type=float, default=100, help="new ones a second")
    p.add_argument("--every", type=float, default=8, help="seconds between a connection's exchanges")
    p.add_argument("--upgrades", type=int, default=20)
    p.add_argument("--pause", type=float, default=10, help="seconds before the first")
    p.add_argument("--between", type=float, default=2, help="seconds after each")
    p.add_argument("--write", metavar="FILE", help="put the table into this document")
    o = p.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
    here, there = multiprocessing.Pipe()
    app = multiprocessing.Process(target=run_app, args=(there,), daemon=True)
    app.start()
    box = Box()
    try:
        port = here.recv()
        relay = Relay(box, options=["--link", "plain"])
        agents = start_agents(o, box, relay, port)
        print(f"{o.agents} agents")
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
