"""System calls, as perf counts them in each process while something is done."""
import contextlib
import os
import select
import shutil
import signal
import subprocess
import time

from box import READY_S

from .programs import Missing
from .workload import Workload


@contextlib.contextmanager
def counted(box, subject):
    """Yields a dictionary that holds each role's calls afterwards."""
    perf, counters, calls = shutil.which("perf"), [], {}
    if perf is None:
        raise Missing("system calls: perf is not here (package linux-perf)")
    for role in subject.processes:
        control, ready = (box.file(f"perf-{role}-{end}") for end in ("control", "ready"))
        for fifo in (control, ready):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(fifo)
        process = box.start("perf", [perf, "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-D", "-1", "--control",
                                     f"fifo:{control},{ready}", "-o", box.file(f"perf-{role}"), "-p",
                                     ",".join(map(str, subject.pids(role)))], stdout=subprocess.DEVNULL)
        counters.append((role, process))
        perf_enable(box, process, control, ready)
    yield calls
    for role, process in counters:
        process.send_signal(signal.SIGINT)
        process.wait(READY_S)
        with open(box.file(f"perf-{role}"), encoding="ascii") as f:
            calls[role] = next(int(line.split(",")[0]) for line in f if "sys_enter" in line)


def perf_enable(box, process, control, ready):
    """It attaches, and says so; one that may not count ends instead."""
    to, answer = os.open(control, os.O_RDWR), os.open(ready, os.O_RDWR)
    try:
        os.write(to, b"enable\n")
        deadline = time.monotonic() + READY_S
        while not select.select([answer], [], [], 0.05)[0]:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Missing(f"system calls: perf may not count them here: {box.log('perf')[-200:]}")
        os.read(answer, 16)
    finally:
        os.close(to)
        os.close(answer)


class Calls(Workload):
    group, rounds_most = "calls", 1
    figures = (("calls all", "all", 1),)
    parts = (("calls ", "", 1),)

    def run(self, run, subject):
        with counted(run.box, subject) as calls:
            run.load(subject, *self.options)
        figures = {f"calls {role}": n / self.by for role, n in calls.items()}
        figures["calls all"] = sum(figures.values())
        return figures


MIB = 64
WORKLOADS = [
    Calls("calls-ping", "system calls for a message and its echo", options=("ping", "--count", 1000), by=1000),
    Calls("calls-new", "system calls for a connection, 8 at a time", by=200,
          options=("connect", "--streams", 8, "--count", 200)),
    Calls("calls-down", "system calls for a MiB down, 8 streams", by=MIB,
          options=("down", "--streams", 8, "--bytes", MIB << 20)),
]
