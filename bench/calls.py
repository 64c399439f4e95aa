#!/usr/bin/env python3
"""Counts what relay and agent ask of the kernel for each new connection, by strace: a number that hardly depends on
what else the machine does. Each visitor comes, says two bytes, reads one and leaves."""
import argparse
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from box import ADIT, LOAD, Box, Failed
from table import print_table
from tunnel import Relay, host_of, start_agent, start_app

ATTACH_S = 10
FORWARD = (ADIT, "forward", "--json")


class Counter:
    """Of one process, its threads included, while it is in the block."""

    def __init__(self, box, pid, name):
        self.out, self.counts = box.file(f"{name}.calls"), {}
        self.argv = ["strace", "-f", "-c", "-U", "time,avg-time,calls,errors,name", "-o", self.out, "-p", str(pid)]

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        if "attached" not in line:
            raise Failed(f"strace: {line.strip()}")
        # What it says of further threads must not fill the pipe.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(ATTACH_S)
        with open(self.out, encoding="ascii") as f:
            for line in f:
                fields = line.split()
                if len(fields) >= 4 and fields[-1] != "total" and fields[2].isdigit():
                    self.counts[fields[-1]] = int(fields[2])


def visit_raw(port, count):
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(b"B\n")
            if s.recv(1) == b"":
                raise Failed("a raw visitor was turned away")


def visit_tls(box, relay, host, streams, count):
    box.run(LOAD, "connect", "--host", "127.0.0.1", "--port", str(relay.port), "--sni", host, "--ca", relay.ca,
            "--streams", str(streams), "--count", str(count))


def count(box, name, relay, agent, visit, visits):
    visit(64)                      # everybody's first pages and warm connections
    time.sleep(1)
    with Counter(box, relay.process.pid, f"{name}-relay") as r, Counter(box, agent.pid, f"{name}-agent") as a:
        visit(visits)
        time.sleep(0.2)            # their ends are part of it
    return {side: {call: n / visits for call, n in counter.counts.items()} for side, counter in
            (("relay", r), ("agent", a))}


def measure(box, visits, pump):
    app = str(start_app(box, "app")[0])
    relay = Relay(box, "relay", "--pump", pump, "--link", "plain")
    tls, line = start_agent(box, "agent-tls", relay, *FORWARD, app)
    host = host_of(line["url"])
    found = {"TLS": count(box, "tls", relay, tls, lambda n: visit_tls(box, relay, host, 1, n), visits),
             "TLS, 8 at a time": count(box, "tls8", relay, tls, lambda n: visit_tls(box, relay, host, 8, n), visits)}
    for title, options in (("raw, sealed", ["--unencrypted"]), ("raw, plain", ["--unencrypted", "--link", "plain"])):
        agent, line = start_agent(box, f"agent-{title}", relay, *FORWARD, *options, app)
        port = line["tcp_socket"][1]
        found[title] = count(box, title, relay, agent, lambda n, port=port: visit_raw(port, n), visits)
    return found


def print_counts(found):
    names = sorted({k for sides in found.values() for calls in sides.values() for k, n in calls.items() if n >= 0.05},
                   key=lambda k: -max(calls.get(k, 0) for sides in found.values() for calls in sides.values()))
    head = ["calls a connection", *(f"{title}: {side}" for title, sides in found.items() for side in sides)]
    columns = [calls for sides in found.values() for calls in sides.values()]
    rows = [["all", *(f"{sum(calls.values()):.1f}" for calls in columns)]]
    rows += [[name, *(f"{calls[name]:.1f}" if name in calls else "-" for calls in columns)] for name in names]
    print_table(head, rows)


def main():
    parser = argparse.ArgumentParser(description="Count system calls for each new connection, on loopback.")
    parser.add_argument("--visits", type=int, default=400)
    parser.add_argument("--pump", choices=("splice", "copy"), default="splice")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if shutil.which("strace") is None:
        sys.exit("bench: strace is not here (install it)")
    try:
        with contextlib.ExitStack() as stack:
            found = measure(Box(stack), options.visits, options.pump)
    except Failed as failure:
        sys.exit(f"bench: {failure}")
    if options.json:
        print(json.dumps(found))
    else:
        print_counts(found)


if __name__ == "__main__":
    main()
