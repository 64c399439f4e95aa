#!/usr/bin/env python3
"""Measures the tunnel beside others' tunnels, beside proxies that are none, and beside a direct connection, in one run.

Rounds alternate between the subjects. Those that are not to be had are named with the reason; whoever has them puts them
on PATH or into a folder that PEERS names."""
import argparse
import contextlib
import fnmatch
import json
import os
import signal
import sys
import time

from box import ADIT, EC, LOAD, Box, Failed
from field import report
from field.results import Results
from field.sites import Sites
from field.ways import WAYS, Field
from field.workloads import KINDS, WORKLOADS
from table import progress_printer
from tunnel import NAME


class Run:
    """How much is asked, and of whom."""

    def __init__(self, box, options, progress):
        self.box, self.options, self.progress = box, options, progress
        self.seconds, self.rounds, self.quiet_s = (0.2, 1, 0.2) if options.quick else (1.0, 5, 2.0)
        self.seconds = options.seconds or self.seconds
        self.rounds = options.rounds or self.rounds
        self.results, self.field = Results(), None

    def load(self, subject, what, *options):
        return subject.measure(self.box, what, *map(str, options), prefix=self.field.sites.visitor.prefix)


def chosen(patterns, names):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split(",") for name in names)


def start_ways(run, ways):
    """Those that start, by kind."""
    started = {kind: [] for kind in KINDS}
    for way in ways:
        for kind in KINDS:
            if kind not in way.kinds or kind not in run.options.kinds.split(",") or way.name in run.results.missing:
                continue
            run.progress(f"starting {way.name}")
            try:
                one = way(run.field, kind)
                started[kind].append((one, one.start()))
            except (Failed, OSError) as why:
                run.results.missing[way.name] = str(why).removeprefix(f"{way.name}: ")
    return started


def measure(run, workloads, started):
    for number in range(-1 if run.options.warm else 0, run.rounds):
        for workload in workloads:
            for kind in workload.kinds:
                subjects = [subject for _, subject in started[kind] if workload.takes(subject)]
                turn = number % len(subjects) if subjects else 0
                for subject in subjects[turn:] + subjects[:turn]:
                    run.progress(f"round {number + 1} of {run.rounds}: {workload.name}, {subject.title}")
                    try:
                        figures = workload.run(run, subject)
                        if number >= 0:
                            run.results.keep(kind, workload.name, subject.title, number, figures)
                    except Failed as why:
                        run.results.fail(kind, workload.name, subject.title, why)


def in_order(results, started):
    """Rounds begin with another subject each time; tables do not."""
    for (kind, _), subjects in results.rounds.items():
        order = [subject.title for _, subject in started[kind] if subject.title in subjects]
        for name in order:
            subjects[name] = subjects.pop(name)


def bench(box, options):
    progress = progress_printer()
    run = Run(box, options, progress)
    ca = box.certificate("authority", EC, "bench authority")
    cert, key = box.certificate("direct", EC, NAME, ca, f"subjectAltName=DNS:{NAME}\n")
    run.field = Field(box, Sites(), (ca[0], cert, key), progress)
    workloads = [w for w in WORKLOADS if chosen(options.only, (w.name, w.group))]
    started = start_ways(run, [way for way in WAYS if chosen(options.subjects, (way.name,))])
    measure(run, workloads, started)
    in_order(run.results, started)
    progress("")
    return run, workloads


def main():
    parser = argparse.ArgumentParser(description="Compare the tunnel with others' tunnels, on loopback.")
    groups = sorted({w.group for w in WORKLOADS})
    parser.add_argument("--quick", action="store_true", help="at most three minutes, one round, rougher")
    parser.add_argument("--only", default="*", metavar="LIST",
                        help=f"workloads or groups of them ({', '.join(groups)}); names with commas, * as in a shell")
    parser.add_argument("--subjects", default="*", metavar="LIST",
                        help="of " + ", ".join(way.name for way in WAYS) + "; names with commas, * as in a shell")
    parser.add_argument("--kinds", default=",".join(KINDS), metavar="LIST", help="tls, raw or both")
    parser.add_argument("--rounds", type=int, help="how often (default: 5, or 1 with --quick)")
    parser.add_argument("--seconds", type=float, help="how long one measurement is about")
    parser.add_argument("--cold", dest="warm", action="store_false", help="without a first round that does not count")
    parser.add_argument("--json", metavar="FILE", help="write every round's figures there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for program in (ADIT, LOAD):
        if not os.access(program, os.X_OK):
            sys.exit(f"peers: {program}: not built (run make)")
    start, load = time.monotonic(), os.getloadavg()[0]
    try:
        with contextlib.ExitStack() as stack:
            run, workloads = bench(Box(stack), options)
    except Failed as failure:
        sys.exit(f"peers: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{os.cpu_count()} cores, load {load:.1f} before; {run.rounds} rounds, {time.monotonic() - start:.0f} s; "
          f"medians (quartiles)\n")
    for _, text in report.tables(run.results, workloads, KINDS):
        print(text)
    print(report.not_measured(run.results))
    if options.json:
        with open(options.json, "w", encoding="ascii") as f:
            json.dump(run.results.plain(), f, indent=1)


if __name__ == "__main__":
    main()
