#!/usr/bin/env python3
"""Measures functions in containers: calls, their containers' starts, and POST to redirect of a hub, each against what
it cannot be without, a container that the engine starts and a round trip of HTTP over a Unix socket, in one run; and
how the foreman's memory grows.

It needs a Python with adit[functions] (make bench-functions has one). The engine is the one that DOCKER_HOST or the
usual places name; where there is none, as root, one of its own. Everything else lives in a scratch folder and ends with
this program."""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(ROOT, "bench", "functions_program.py")
ADIT = os.path.join(os.path.dirname(sys.executable), "adit")
READY_S = 120
CALLS, CONTAINERS, ITEMS, ITEM = 200, 50, 5000, b"x" * 1000
QUIET_S = 0.5  # for which a container that waits has done nothing


class Failed(Exception):
    pass


def until(condition, what, seconds=READY_S):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"{what} within {seconds} s")
        time.sleep(0.05)
    return found


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("here")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def say(connection, method, path, body=None):
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status >= 400:
        raise Failed(f"engine: {data.decode(errors='replace').strip()}")
    return json.loads(data) if data.startswith((b"{", b"[")) else None


class Engine:
    def __init__(self, host):
        self.path = host.removeprefix("unix://")

    def ask(self, method, path, body=None):
        with contextlib.closing(Unix(self.path)) as connection:
            return say(connection, method, path, json.dumps(body) if body is not None else None)

    def is_up(self):
        with contextlib.suppress(OSError, Failed):
            self.ask("GET", "/_ping")
            return True
        return False

    def of(self, function):
        """Containers of this foreman's; the engine may have others."""
        query = urllib.parse.urlencode(
            {"filters": json.dumps({"label": [f"adit.function={function}"], "status": ["running"]})}
        )
        return [
            c
            for c in self.ask("GET", f"/containers/json?{query}")
            if os.environ["ADIT_FOREMAN"] in c["Labels"]["adit.owner"]
        ]

    def cpu_ns(self, identity):
        """Of its processors; 0 when it is gone."""
        with contextlib.suppress(Failed, KeyError, TypeError):
            found = self.ask("GET", f"/containers/{identity}/stats?stream=false&one-shot=true")
            return found["cpu_stats"]["cpu_usage"]["total_usage"]
        return 0

    def run_ms(self, image):
        """What `docker run --network none IMAGE true` does: from nothing to its end."""
        began = time.perf_counter()
        with contextlib.closing(Unix(self.path)) as connection:
            made = say(
                connection,
                "POST",
                "/containers/create",
                json.dumps({"Image": image, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}),
            )
            say(connection, "POST", f"/containers/{made['Id']}/start")
            say(connection, "POST", f"/containers/{made['Id']}/wait")
            took = ms_since(began)
            say(connection, "DELETE", f"/containers/{made['Id']}?force=1")
        return took


def ms_since(began):
    return (time.perf_counter() - began) * 1e3


def start_engine(stack, scratch):
    """The one that there is, or one of our own with an image to begin with."""
    from adit.exception import Error
    from adit.functions.engine.find import find_host

    try:
        return Engine(find_host())
    except Error:
        if os.getuid() != 0:
            raise
    folder = os.path.join(scratch, "engine")
    with open(os.path.join(scratch, "engine.log"), "wb") as log:
        daemon = subprocess.Popen(
            [os.path.join(ROOT, "tools/engine"), folder, "0"], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    stack.callback(lambda: (daemon.stdin.close(), daemon.wait()))
    engine = Engine(f"unix://{folder}/docker.sock")
    until(engine.is_up, "the engine does not start")
    tar = subprocess.run(
        [os.path.join(ROOT, "tools/base-image")], check=True, capture_output=True, text=True
    ).stdout.strip()
    with contextlib.closing(Unix(engine.path)) as connection, open(tar, "rb") as file:
        connection.request("POST", "/images/create?fromSrc=-&repo=adit-base&tag=bench", file)
        connection.getresponse().read()
    os.environ |= {"DOCKER_HOST": f"unix://{engine.path}", "ADIT_BASE_IMAGE": "adit-base:bench"}
    return engine


def start(stack, scratch, name, argv, env=None, **options):
    with open(os.path.join(scratch, f"{name}.log"), "ab") as log:
        process = subprocess.Popen(
            argv, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stderr=log, **options
        )

    def end():
        process.terminate()
        process.wait()

    stack.callback(end)
    return process


def start_foreman(stack, scratch):
    path = os.path.join(scratch, "caller.sock")
    os.environ |= {"HOME": scratch, "XDG_STATE_HOME": os.path.join(scratch, "state"), "ADIT_FOREMAN": path}
    foreman = start(stack, scratch, "foreman", [ADIT, "foreman", "--socket", path])
    until(lambda: os.path.exists(path) or foreman.poll() is not None, "the foreman does not listen")
    if foreman.poll() is not None:
        with open(os.path.join(scratch, "foreman.log"), encoding="utf-8", errors="replace") as log:
            raise Failed(log.read().strip())
    return foreman


def run_app(stack, spare):
    """The program, with so many spares."""
    from adit.functions import bundle

    os.environ["ADIT_SPARE"] = str(spare)
    module = bundle.load(PROGRAM)
    stack.enter_context(module.app.run(show_progress=False))
    return module


class Spares:
    """Waits for one that has not been used, and has done what it does until it is."""

    def __init__(self, engine):
        self.engine, self.before = engine, set()

    def wait(self):
        self.before.add(until(self.find, "there is no spare"))

    def find(self):
        waiting = [c["Id"] for c in self.engine.of("(spare)") if c["Names"][0].startswith("/adit-spare-")]
        return next((identity for identity in waiting if identity not in self.before and self.is_quiet(identity)), None)

    def is_quiet(self, identity):
        before = self.engine.cpu_ns(identity)
        time.sleep(QUIET_S)
        return before > 0 and self.engine.cpu_ns(identity) == before


async def echo(path):
    """A server of the kind that the foreman is."""
    from aiohttp import web

    async def answer(request):
        return web.Response(body=await request.read())

    app = web.Application()
    app.router.add_post("/{verb}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    await asyncio.Event().wait()


def timed(call, *words):
    began = time.perf_counter()
    call(*words)
    return ms_since(began)


def measure_calls(engine, results, cold, ready, scratch, rounds, warm_calls, progress):
    def keep(name, *values):
        results.setdefault(name, []).extend(values)

    bare = Unix(os.path.join(scratch, "echo.sock"))
    spares = Spares(engine)
    progress("building the image, and first calls")
    for module in (cold, ready):
        module.warm.remote(0)
    image = engine.of("warm")[0]["ImageID"]
    for n in range(rounds):
        progress(f"calls, round {n + 1} of {rounds}")
        spares.wait()  # at once, so that its start is in nobody's way
        keep("bare round trip", *(timed(say, bare, "POST", "/echo", "x" * 100) for _ in range(warm_calls)))
        keep("warm call", *(timed(ready.warm.remote, i) for i in range(warm_calls)))
        keep("docker run", engine.run_ms(image))
        keep("call, cold", timed(cold.single.remote, n))
        keep("call, spare", timed(ready.single.remote, n))
    keep("own code, fresh Python", *(cold.by_hand.remote() / 1e6 for _ in range(rounds)))
    keep("own code, FastAPI loaded", *(cold.by_hand.remote(cold.LOADED) / 1e6 for _ in range(rounds)))


def serve(stack, scratch, spare):
    served = start(
        stack, scratch, "serve", [ADIT, "serve", PROGRAM], {"ADIT_SPARE": str(spare)}, stdout=subprocess.PIPE, text=True
    )
    for line in served.stdout:
        if line.startswith("hub => "):
            return line.split()[-1]
    with open(os.path.join(scratch, "serve.log"), encoding="utf-8", errors="replace") as log:
        raise Failed(f"adit serve: {log.read().strip()}")


STAGES = (
    "a visitor comes, and the hub's function is called",
    "it has a queue",
    "it has spawned the notebook's function",
    "a container has the program",
    "it has imported that *",
    "it has the call",
    "it has a URL *",
    "the hub has that",
    "the visitor has the redirect",
)


def post(url, authority):
    """How long each stage took, from nothing to the redirect."""
    at = urllib.parse.urlsplit(url)
    context = ssl.create_default_context(cafile=authority)
    reached = [time.monotonic_ns()]
    with socket.create_connection(("127.0.0.1", at.port)) as tcp:
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = http.client.HTTPConnection(at.hostname, at.port)
        connection.sock = context.wrap_socket(tcp, server_hostname=at.hostname)
        connection.request("POST", "/")
        answer = connection.getresponse()
        answer.read()
        ended = time.monotonic_ns()
    if answer.status != 303:
        raise Failed(f"the hub answers {answer.status}")
    reached += [*map(int, answer.headers["X-Reached-Ns"].split(",")), ended]
    return [(after - before) / 1e6 for before, after in zip(reached, reached[1:])]


def measure_hub(engine, results, scratch, rounds, progress):
    authority = os.path.join(scratch, "state", "adit", "embedded", "authority.pem")
    for spare, name in ((0, "POST to 303, cold"), (1, "POST to 303, spare")):
        with contextlib.ExitStack() as stack:
            progress(f"{name}: serving")
            url, spares = serve(stack, scratch, spare), Spares(engine)
            for n in range(rounds + 1):
                if spare:
                    spares.wait()
                progress(f"{name}, {n} of {rounds}")
                stages = post(url, authority)
                if n:  # the first finds a container of the notebook's, which showed that it can be imported
                    results.setdefault(name, []).append(sum(stages))
                    results.setdefault(f"{name}: stages", []).append(stages)


def memory_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def measure_growth(results, module, foreman, rounds, calls, progress):
    from adit import Queue

    grown = results["growth"] = {"at the beginning": memory_mib(foreman.pid), "calls": [], "items": []}
    with Queue.ephemeral() as there, Queue.ephemeral() as go:
        for n in range(rounds):
            progress(f"{calls} calls in flight, round {n + 1} of {rounds}")
            under_way = [module.wide.spawn(i, there, go) for i in range(calls)]
            for _ in range(calls):
                there.get(timeout=300)
            grown["calls"].append(memory_mib(foreman.pid))
            go.put_many([0] * calls)
            for call in under_way:
                call.get(timeout=300)
    with Queue.ephemeral() as queue:
        for n in range(rounds):
            progress(f"{ITEMS} items, round {n + 1} of {rounds}")
            for _ in range(ITEMS // 500):
                queue.put_many([ITEM] * 500)
            grown["items"].append(memory_mib(foreman.pid))
            got = 0
            while got < ITEMS:
                got += len(queue.get_many(500))


def print_table(head, rows):
    rows = [head, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for n, row in enumerate(rows):
        print(
            "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) + " |"
        )
        if n == 0:
            print("|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|")
    print()


ROWS = (  # what, against what, and what is expected
    ("bare round trip", None, ""),
    ("warm call", "bare round trip", ""),
    ("docker run", None, ""),
    ("call, cold", "docker run", ""),
    ("call, spare", "docker run", ""),
    ("own code, fresh Python", None, ""),
    ("own code, FastAPI loaded", None, ""),
    ("POST to 303, cold", "own code, fresh Python", ""),
    ("POST to 303, spare", "own code, fresh Python", "<= 1.5"),
    ("POST to 303, spare", "own code, FastAPI loaded", ""),
)


def print_times(results):
    rows = []
    for name, against, expected in ROWS:
        ms = statistics.median(results[name])
        ratio = "" if against is None else f"{ms / statistics.median(results[against]):.2f}"
        p90 = statistics.quantiles(results[name], n=10, method="inclusive")[8]
        rows.append([name, f"{ms:.2f}", f"{p90:.2f}", ratio, against or "", expected])
    print_table(["", "median ms", "p90 ms", "ratio", "to", "expected"], rows)
    stages = [statistics.median(column) for column in zip(*results["POST to 303, spare: stages"])]
    rows = [[name, f"{ms:.2f}"] for name, ms in zip(STAGES, stages)]
    print_table(["POST to 303, spare (* the program's own code)", "median ms"], rows)


def print_growth(grown, calls):
    rows = [
        [f"{calls} calls in {min(CONTAINERS, -(-calls // 4))} containers", *(f"{m:.1f}" for m in grown["calls"])],
        [f"{ITEMS} items of {len(ITEM)} bytes", *(f"{m:.1f}" for m in grown["items"])],
    ]
    print_table(
        [
            f"foreman, MiB ({grown['at the beginning']:.1f} before)",
            *(f"round {n + 1}" for n in range(len(grown["calls"]))),
        ],
        rows,
    )


def bench(quick):
    rounds, warm_calls, calls, results = (3, 50, 40, {}) if quick else (10, 200, CALLS, {})
    terminal, began, load = sys.stderr.isatty(), time.monotonic(), os.getloadavg()[0]

    def progress(text):
        if terminal:
            shown = f"\r\033[K{time.monotonic() - began:4.0f} s  {text}"
            print(shown, end="" if text else "\r", file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        scratch = tempfile.mkdtemp(prefix="adit-bench-")
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        engine = start_engine(stack, scratch)
        foreman = start_foreman(stack, scratch)
        start(
            stack,
            scratch,
            "echo",
            [sys.executable, os.path.abspath(__file__), "--echo", os.path.join(scratch, "echo.sock")],
        )
        with contextlib.ExitStack() as apps:
            cold, ready = run_app(apps, 0), run_app(apps, 1)
            measure_calls(engine, results, cold, ready, scratch, rounds, warm_calls, progress)
        measure_hub(engine, results, scratch, rounds, progress)
        with contextlib.ExitStack() as apps:
            measure_growth(results, run_app(apps, 0), foreman, 5, calls, progress)
    progress("")
    results |= {"cores": os.cpu_count(), "load": load, "rounds": rounds, "calls": calls}
    return results


def main():
    parser = argparse.ArgumentParser(description="Compare calls of functions with what the engine and HTTP take.")
    parser.add_argument("--quick", action="store_true", help="about a minute, and rougher")
    parser.add_argument("--json", action="store_true", help="every time that was measured, for programs")
    parser.add_argument("--echo", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        asyncio.run(echo(options.echo))
    try:
        results = bench(options.quick)
    except (Failed, ImportError) as failure:
        sys.exit(f"bench: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
    if options.json:
        print(json.dumps(results))
        return
    print(f"{results['cores']} cores, load {results['load']:.1f} before; medians of {results['rounds']} rounds\n")
    print_times(results)
    print_growth(results["growth"], results["calls"])


if __name__ == "__main__":
    main()
