"""What the kernel tells of a process and all that it has started."""
import os

TICKS = os.sysconf("SC_CLK_TCK")


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                found += [int(child) for child in f.read().split()]
    except FileNotFoundError:          # it, or a thread of it, has ended
        pass
    return found


def tree(pid):
    return [pid, *(p for child in children(pid) for p in tree(child))]


def cpu_seconds(pid):
    """User and system time of the process, with that of its children which have ended and were waited for."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            fields = f.read().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICKS


def pss_bytes(pid):
    """Its share of the memory that is there: what several processes map counts in parts."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
