#!/usr/bin/env python3
"""Measures what a flood of handshakes does to those who have done nothing: to an established download, and to newcomers
from other addresses. The flood is twice what the relay can do, which is measured first. It hits either the relay of the
download or another relay process beside it: both take the machine's time, and only the first can take the download's
turn."""
import argparse
import contextlib
import json
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import time

from box import ADIT, LOAD, Box, Failed
from table import cell, print_table
from tunnel import start_app, start_tunnel

NEWCOMER_DEADLINE_S = 10


@contextlib.contextmanager
def flood(subject, *options):
    """Yields a list that holds the flood's own figures afterwards."""
    figures = []
    process = subprocess.Popen([LOAD, "flood", "--port", str(subject.port), "--sni", subject.sni, *options],
                               stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(1)                    # until it flows evenly: this is a measurement
        yield figures
    finally:
        process.terminate()
        figures.append(json.loads(process.communicate()[0]))


def newcomer(subject, number):
    """A visitor from an address of its own: how long from before connect() to the answer's first byte, or None."""
    context = ssl.create_default_context(cafile=subject.ca)
    start = time.monotonic()
    try:
        with socket.create_connection((subject.host, subject.port), NEWCOMER_DEADLINE_S,
                                      (f"127.0.1.{number % 250 + 1}", 0)) as plain, \
                context.wrap_socket(plain, server_hostname=subject.sni) as visitor:
            visitor.sendall(b"B\n")
            return time.monotonic() - start if visitor.recv(1) else None
    except OSError:
        return None


def newcomers(subject, count):
    return [newcomer(subject, i) for i in range(count)]


def download(box, subject, size):
    return subject.measure(box, "down", "--streams", "1", "--bytes", str(size), "--source", "127.0.2.1")["gb_per_s"]


def bench(box, rounds, size, count, pump):
    app = start_app(box, "app")[0]
    argv = [ADIT, "forward", "--json"]
    subject = start_tunnel(box, app, pump, "measured", *argv)[0]
    other = start_tunnel(box, app, pump, "beside", *argv)[0]
    with flood(subject, "--streams", "64") as capacity:
        time.sleep(2)
    rate = int(2 * capacity[0]["answered_per_s"])
    speeds = {"none": [], "beside": [], "same": []}
    met = {"none": [], "same": []}
    figures = {"beside": [], "same": []}
    for _ in range(rounds):
        speeds["none"].append(download(box, subject, size))
        met["none"] += newcomers(subject, count // 4)
        for where, target in (("beside", other), ("same", subject)):
            with flood(target, "--rate", str(rate)) as of:
                speeds[where].append(download(box, subject, size))
                if where == "same":
                    met["same"] += newcomers(subject, count)
            figures[where] += of
    print(
        f"Pump {pump}; the relay alone answers {capacity[0]['answered_per_s']:.0f} handshakes a second, "
        f"the flood begins {rate}; "
        f"medians of {rounds} rounds\n"
    )
    rows = []
    for where, title in (("none", "no flood"), ("beside", "flood at another relay process"),
                         ("same", "flood at this relay")):
        good = [m for m in met.get(where, []) if m is not None]
        share = f"{len(good)} of {len(met[where])}" if where in met else "-"
        answered = statistics.median(f["answered_per_s"] for f in figures[where]) if where in figures else None
        rows.append([title, cell(statistics.median(speeds[where]), 3), share,
                     cell(statistics.median(good) * 1e3 if good else None, 1), cell(answered, 0)])
    print_table(["", "download GB/s", "newcomers served", "median ms", "flood answered/s"], rows)
    ratio = statistics.median(s / b for s, b in zip(speeds["same"], speeds["beside"]))
    print(f"download under the flood, against the same flood beside it (expected >= 0.9): {ratio:.2f}\n")


def main():
    parser = argparse.ArgumentParser(
        description="What a flood of handshakes does to an established download and to newcomers."
    )
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for pump in ("splice", "copy"):
        try:
            with contextlib.ExitStack() as stack:
                bench(Box(stack), 1 if options.quick else 5, (512 << 20) if options.quick else (1 << 30), 100, pump)
        except Failed as failure:
            sys.exit(f"flood: {failure}")


if __name__ == "__main__":
    main()
