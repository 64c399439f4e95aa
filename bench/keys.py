#!/usr/bin/env python3
"""Measures what it costs that the certificate's key is in a process of its own: how many handshakes a relay answers as
it is, and how many with the key in its own memory (the hidden --keys here), in rounds that alternate."""
import argparse
import contextlib
import signal
import statistics
import sys
import time

from box import ADIT, EC, EC384, Box, Failed
from flood import flood
from subject import Subject
from table import cell, print_table
from tunnel import DOMAIN, Relay, host_of, start_agent, start_app

VISITORS = 2000
KEYS = (("ECDSA P-256", EC), ("ECDSA P-384", EC384), ("RSA 2048", ["rsa:2048"]))


def start(box, app, cert, key, where):
    relay = Relay(box, f"relay-{where}", "--cert", cert, "--key", key, "--keys", where)
    agent, line = start_agent(box, f"agent-{where}", relay, ADIT, "forward", "--json", str(app))
    return Subject(where, (relay.host, relay.port), host_of(line["url"]), cert,
                   {"front": [relay.process.pid], "agent": [agent.pid]})


def answered(subject, seconds):
    with flood(subject, "--streams", "64") as figures:
        time.sleep(seconds)
    return figures[0]["answered_per_s"]


def bench(box, title, kind, rounds, seconds):
    """One row: medians of what each answers a second, of the relay's processor time for a visitor, the key process's
    included, and of the time to the first byte; and of the ratios of the rounds."""
    stem = title.replace(" ", "-")
    cert, key = box.certificate(stem, [*kind, "-addext", f"subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}"], DOMAIN)
    app = start_app(box, f"app-{stem}")[0]
    subjects = [start(box, app, cert, key, where) for where in ("here", "apart")]
    rates, costs, waits = [[], []], [[], []], [[], []]
    for _ in range(rounds):
        for i, subject in enumerate(subjects):
            rates[i].append(answered(subject, seconds))
            many = subject.measure(box, "connect", "--streams", "8", "--count", str(VISITORS))
            costs[i].append(many["roles_s"]["front"] / VISITORS * 1e6)
            waits[i].append(subject.measure(box, "connect", "--count", "100")["p50_us"])
    row = [title]
    for figures in (rates, costs, waits):
        ratio = statistics.median(apart / here for here, apart in zip(*figures))
        row += [*(cell(statistics.median(f), 0) for f in figures), cell(ratio, 2)]
    return row


def main():
    parser = argparse.ArgumentParser(description="What a process of its own for the certificate's key costs.")
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = []
    for title, kind in KEYS:
        try:
            with contextlib.ExitStack() as stack:
                rows.append(bench(Box(stack), title, kind, 1 if options.quick else 5, 2))
        except Failed as failure:
            sys.exit(f"keys: {failure}")
    print_table(["", "answered/s, key here", "apart", "ratio", "CPU us a visitor, here", "apart", "ratio",
                 "first byte us, here", "apart", "ratio"], rows)


if __name__ == "__main__":
    main()
