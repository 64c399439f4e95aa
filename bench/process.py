"""What the kernel tells of a process and all that it has started."""
import contextlib
import os

TICKS = os.sysconf("SC_CLK_TCK")


def of_threads(pid, file):
    """The words of that file of each thread, without what has ended meanwhile."""
    found = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with (contextlib.suppress(FileNotFoundError, ProcessLookupError),
                  open(f"/proc/{pid}/task/{task}/{file}", encoding="ascii") as f):
                found[task] = f.read().split()
    return found


def children(pid):
    return [int(child) for words in of_threads(pid, "children").values() for child in words]


def tree(pid):
    return [pid, *(p for child in children(pid) for p in tree(child))]


class Times:
    """What processor time processes have had so far: user and system time, with that of children which have ended and
    were waited for. That comes in ticks, of 10 ms mostly; threads' times come in nanoseconds, but end with a thread."""

    def __init__(self, pids):
        self.ticks, self.threads = {}, {}
        for pid in pids:
            self.ticks[pid], self.threads[pid] = self.ticks_of(pid), self.threads_of(pid)

    @staticmethod
    def ticks_of(pid):
        """Of itself, and of its children."""
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                fields = [int(field) for field in f.read().rsplit(")", 1)[1].split()[11:15]]
        except (FileNotFoundError, ProcessLookupError):
            return 0, 0
        return fields[0] + fields[1], fields[2] + fields[3]

    @staticmethod
    def threads_of(pid):
        return {task: int(words[0]) for task, words in of_threads(pid, "schedstat").items()}

    def since(self, before):
        """Seconds. A process that was not there before counts whole; one that is gone, with whoever waited for it."""
        seconds = 0.0
        for pid, (own, of_children) in self.ticks.items():
            own_before, of_children_before = before.ticks.get(pid, (0, 0))
            now, then = self.threads[pid], before.threads.get(pid, {})
            if now and then.keys() <= now.keys():
                seconds += (sum(now.values()) - sum(then.values())) / 1e9
            else:
                seconds += (own - own_before) / TICKS
            seconds += (of_children - of_children_before) / TICKS
        return seconds


def pss_bytes(pid):
    """Its share of the memory that is there: what several processes map counts in parts."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
