"""Puts a run into the document: machine, versions, verdict, plots and tables between two lines of it. All else in it is
people's."""
import contextlib
import os

from table import table

from . import plot, report, verdict
from .results import BASE

BEGIN, END = "<!-- figures of bench/peers.py, written by it -->", "<!-- end of the figures -->"
GROUPS = {
    "bulk": "Bulk", "ping": "Messages", "under": "Messages while bulk goes on", "new": "New connections",
    "http": "HTTP, by others' load generators", "calls": "System calls", "idle": "Idle visitors",
    "slow": "Slow visitors", "agents": "Agents", "tunnels": "Tunnels", "start": "Start", "far": "Far away",
}
TO_DIRECT = f"to {BASE} = 1"
# File, title, and panels: (kind, workload, key, title, digits, whether to the direct connection's).
PLOTS = [
    ("bulk-tls", f"TLS: bulk, {TO_DIRECT}; more is better",
     [("tls", f"{way}{n}", "gb_per_s", f"{way}, {n}", 2, True) for way in ("down", "up") for n in (8, 64)]),
    ("bulk-raw", f"Raw TCP: bulk, {TO_DIRECT}; more is better",
     [("raw", f"{way}{n}", "gb_per_s", f"{way}, {n}", 2, True) for way in ("down", "up") for n in (8, 64)]),
    ("cost-tls", "TLS: processor time of all; less is better",
     [("tls", "down8", "cpu all", "s for a GB down", 2, False), ("tls", "up8", "cpu all", "s for a GB up", 2, False),
      ("tls", "new8", "cpu all", "us, a connection", 0, False), ("tls", "ping", "cpu all", "us, a message", 0, False)]),
    ("new", f"New connections, {TO_DIRECT}; more is better",
     [("tls", "new8", "per_s", "TLS, 8 at a time", 2, True), ("tls", "new64", "per_s", "TLS, 64 at a time", 2, True),
      ("raw", "new8", "per_s", "raw, 8 at a time", 2, True), ("tls", "wrk-close", "per_s", "wrk, not kept", 2, True)]),
    ("messages", f"TLS: messages, {TO_DIRECT}; less is better",
     [("tls", "ping", "p50_us", "alone, p50", 2, True), ("tls", "ping", "p99_us", "alone, p99", 2, True),
      ("tls", "under", "p50_us", "under bulk, p50", 1, True), ("tls", "under", "p99_us", "under bulk, p99", 1, True)]),
    ("idle", "Memory of all processes for an idle visitor, KiB; less is better",
     [("tls", "idle", "kib all", "TLS", 1, False), ("raw", "idle", "kib all", "raw TCP", 1, False)]),
    ("far", "80 ms away, round trips to the first byte, so many visitors at once; less is better",
     [(kind, f"far-new{n}", "p50_trips", f"{title}, {n}", 2, False) for kind, title in (("tls", "TLS"), ("raw", "raw"))
      for n in (1, 32)]),
]


def panel(results, kind, workload, key, title, digits, to_direct):
    get = results.ratios if to_direct else results.spread
    return title, digits, {subject: values for subject in results.subjects(kind, workload)
                           if (values := get(kind, workload, subject, key))}


def plots(results):
    """Name, title and SVG of each that there are figures for."""
    for name, title, panels in PLOTS:
        drawn = [drawn for p in panels if (drawn := panel(results, *p))[2]]
        if drawn:
            yield name, title, plot.bars(title, drawn)


def run_section(about):
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rough = ["one round"] if about["rounds"] == 1 else []
    rough += ["a machine that had much else to do"] if about["load_before"] > about["cores"] else []
    if rough:
        versions += f".\n\nOf {' and '.join(rough)}: rough"
    return (f"`{about['command']}`, {about['date']}: {about['machine']}; load {about['load_before']} before; rounds: "
            f"{about['rounds']}, of measurements of about {about['measurement_s']:g} s each; {about['seconds']} s in "
            f"all.\n\n{versions}.\n")


def figures(results, workloads, plot_files):
    yield "## The run\n\n" + run_section(results.about)
    yield report.not_measured(results)
    yield "## What is expected\n\n" + verdict.expected_table(results)
    yield "## Behind and ahead\n"
    for _, text in verdict.contest_tables(results, workloads):
        yield text
    for title, path in plot_files:
        yield f"![{title}]({path})\n"
    yield "## Every figure\n"
    group = None
    for workload, text in report.tables(results, workloads):
        if workload.group != group:
            group = workload.group
            yield f"### {GROUPS[group]}\n"
        yield text
    yield "### Configurations\n\n" + table(["", "configuration"],
                                           [[name, text] for name, text in results.about["configurations"].items()])
    yield "### The visitors' own part\n\n" + verdict.visitors_table(results, workloads)


def write(path, results, workloads):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    folder, files = os.path.join(os.path.dirname(path), "plots"), []
    os.makedirs(folder, exist_ok=True)
    for name, _, _ in PLOTS:                      # of an earlier run
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, f"{name}.svg"))
    for name, title, svg in plots(results):
        with open(os.path.join(folder, f"{name}.svg"), "w", encoding="utf-8") as f:
            f.write(svg)
        files.append((title, f"plots/{name}.svg"))
    middle = "\n".join(part for part in figures(results, workloads, files) if part)
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"{before}{BEGIN}\n\n{middle}\n{END}{after}")
