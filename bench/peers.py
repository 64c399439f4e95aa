#!/usr/bin/env python3
"""Measures the tunnel beside others' tunnels, beside proxies that are none, and beside a direct connection, in one run.

Rounds alternate between the subjects. Those that are not to be had are named with the reason; whoever has them puts
them on PATH or into a folder that PEERS names."""
import argparse
import contextlib
import fnmatch
import json
import math
import os
import shlex
import signal
import sys
import time

from box import ADIT, EC, LOAD, Box, Failed
from field import begin, calls, crowd, document, far, http, machine, report, verdict, workloads
from field.results import Results
from field.sites import Sites
from field.ways import WAYS, Field
from field.workload import KINDS
from table import progress_printer
from tunnel import NAME

WORKLOADS = [w for module in (workloads, http, calls, crowd, begin, far) for w in module.WORKLOADS]
# Where everybody stands, and what is there in a quick run: setting up far places takes time for each.
SCENES = {"here": (lambda box: Sites(), "*"),
          "far": (lambda box: far.far_sites(box, 0), "direct,nginx,adit,adit-plain,rathole,bore"),
          "far-loss": (lambda box: far.far_sites(box, 1), "-")}


QUICK_MAX_S = 165                      # then come the tables; starting everybody is in it


class Run:
    """How much is asked, and of whom."""

    def __init__(self, box, options, progress):
        self.box, self.options, self.progress, self.quick = box, options, progress, options.quick
        self.seconds, self.rounds, self.quiet_s, self.idle_s = (0.2, 1, 0.2, 0.5) if self.quick else (1.0, 5, 2.0, 10.0)
        self.seconds = options.seconds or self.seconds
        self.rounds = options.rounds or self.rounds
        self.results, self.field, self.took = Results(), None, {}
        self.end = time.monotonic() + (QUICK_MAX_S if self.quick else math.inf)
        self.ca = box.certificate("authority", EC, "bench authority")
        self.certificate = (self.ca[0], *box.certificate("direct", EC, NAME, self.ca, f"subjectAltName=DNS:{NAME}\n"))

    def load(self, subject, what, *options):
        return subject.measure(self.box, what, *map(str, options), prefix=self.field.sites.visitor.prefix)

    def kinds(self):
        return [kind for kind in KINDS if kind in self.options.kinds.split(",")]

    def ways(self):
        """Those that start, by kind. One that does not is named once."""
        started = {kind: [] for kind in KINDS}
        for way in WAYS:
            for kind in self.kinds():
                if kind not in way.kinds or not chosen(self.options.subjects, (way.name,)) or \
                        way.name in self.results.missing:
                    continue
                self.progress(f"starting {way.name}")
                try:
                    started[kind].append(way(self.field, kind).start())
                except (Failed, OSError) as why:
                    self.results.missing[way.name] = str(why).removeprefix(f"{way.name}: ")
        return started

    def measure(self, workload, kind, subject, number):
        self.progress(f"round {number + 1} of {self.rounds}: {workload.name}, {subject.title}")
        if time.monotonic() > self.end:
            self.results.fail(kind, workload.name, subject.title, "no time was left in a quick run")
            return
        start = time.monotonic()
        try:
            figures = workload.run(self, subject)
            if number >= 0:
                self.results.keep(kind, workload.name, subject.title, number, figures)
        except (Failed, OSError) as why:
            self.results.fail(kind, workload.name, subject.title, why)
        self.took[workload.name] = self.took.get(workload.name, 0) + time.monotonic() - start

    def scene(self, name, all_workloads):
        """Rounds over what is asked there; each begins with another subject."""
        sites, quick_ways = SCENES[name]
        here = [w for w in all_workloads if w.scene == name]
        if not here or (self.quick and quick_ways == "-"):
            return
        try:
            self.field = Field(self.box, sites(self.box), self.certificate, self.progress)
        except Failed as why:
            self.results.missing[name] = str(why)
            return
        subjects = self.ways()
        for number in range(0 if self.options.cold or name != "here" else -1, self.rounds):
            for workload in here:
                most = self.rounds if workload.rounds_most is None else workload.rounds_most
                if number >= most or (number < 0 and (workload.rounds_most is not None or
                                                      (self.quick and not workload.warms))):
                    continue
                for kind in self.kinds():
                    there = [s for s in subjects[kind] if kind in workload.kinds and workload.takes(self, s) and
                             (not self.quick or chosen(quick_ways, (s.title,)))]
                    turn = number % len(there) if there else 0
                    for subject in there[turn:] + there[:turn]:
                        self.measure(workload, kind, subject, number)
        for kind in KINDS:
            for subject in subjects[kind]:
                subject.way.stop()


def chosen(patterns, names):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split(",") for name in names)


def bench(box, options):
    run = Run(box, options, progress_printer())
    asked = [w for w in WORKLOADS if chosen(options.only, (w.name, w.group))]
    for name in SCENES:
        run.scene(name, asked)
    run.results.sort([way.name for way in WAYS])
    run.progress("")
    return run


def options_parser():
    parser = argparse.ArgumentParser(description="Compare the tunnel with others' tunnels, on loopback.")
    groups = dict.fromkeys(w.group for w in WORKLOADS)
    parser.add_argument("--quick", action="store_true", help="at most three minutes, one round, rougher")
    parser.add_argument("--only", default="*", metavar="LIST",
                        help=f"workloads, or groups of them ({', '.join(groups)}): names with commas, * as in a shell")
    parser.add_argument("--subjects", default="*", metavar="LIST",
                        help="of " + ", ".join(way.name for way in WAYS) + ": names with commas, * as in a shell")
    parser.add_argument("--kinds", default=",".join(KINDS), metavar="LIST", help="tls, raw or both")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often (default: 5, or 1 with --quick)")
    parser.add_argument("--seconds", type=float, metavar="S",
                        help="how long a measurement is about (default: 1, or 0.2 with --quick)")
    parser.add_argument("--cold", action="store_true", help="without a first round that does not count")
    parser.add_argument("--visitors", type=int, metavar="N", help="how many are idle or slow")
    parser.add_argument("--agents", type=int, metavar="N", help="how many")
    parser.add_argument("--tunnels", type=int, metavar="N", help="how many one agent has, at most 1000")
    parser.add_argument("--json", metavar="FILE", help="write every round's figures there")
    parser.add_argument("--read", metavar="FILE", help="do not measure: tell of the figures that --json wrote there")
    parser.add_argument("--write", metavar="FILE", help="put figures and plots into this document")
    return parser


def read(path):
    with open(path, encoding="ascii") as f:
        return Results.of_plain(json.load(f))


def command(options):
    """What was asked, but for where it goes."""
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in vars(options).items()
             if name not in ("json", "read", "write") and value not in (None, False, True, "*", ",".join(KINDS))]
    flags = [f"--{name}" for name, value in vars(options).items() if value is True]
    return " ".join(["bench/peers.py", *flags, *words])


def measured(options):
    start, load = time.monotonic(), os.getloadavg()[0]
    try:
        with contextlib.ExitStack() as stack:
            run = bench(Box(stack), options)
    except Failed as failure:
        sys.exit(f"peers: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
    run.results.about = machine.about(run, command(options), time.monotonic() - start, load)
    return run.results


def tell(results, asked):
    print(document.run_section(results.about))
    for _, text in report.tables(results, asked):
        print(text)
    for text in (verdict.visitors_table(results, asked), *(text for _, text in verdict.contest_tables(results, asked)),
                 verdict.expected_table(results), report.not_measured(results)):
        if text:
            print(text)


def main():
    options = options_parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for program in (ADIT, LOAD):
        if not os.access(program, os.X_OK):
            sys.exit(f"peers: {program}: not built (run make)")
    results = read(options.read) if options.read else measured(options)
    asked = [w for w in WORKLOADS if chosen(options.only, (w.name, w.group))]
    if options.json:
        with open(options.json, "w", encoding="ascii") as f:
            json.dump(results.plain(), f, indent=1)
    if options.write:
        document.write(options.write, results, asked)
    tell(results, asked)


if __name__ == "__main__":
    main()
