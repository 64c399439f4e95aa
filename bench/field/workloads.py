"""What is asked of each subject in each round. A workload gives figures by name; how much it asks is measured out so that
it takes about `seconds`, whatever the subject's speed. Times of processes are given by what was done: for a GB, a
connection, a message."""
import json
import os
import subprocess
import time

from box import LOAD, Failed

from . import programs

KINDS = ("tls", "raw")


class Workload:
    """`figures` are what its tables show: (key, title, digits, whether more is better)."""
    group, kinds, figures, by = "", KINDS, (), ""

    def __init__(self, name, title, **options):
        self.name, self.title = name, title
        self.__dict__.update(options)

    def takes(self, subject):
        """Whether it makes sense for this subject."""
        return True

    def run(self, run, subject):
        raise NotImplementedError


def costs(result, done, unit_s=1):
    """What everybody's processor time comes to for each thing done, in 1/unit_s seconds: of each role, of the visitors,
    of all."""
    roles = {**result.get("roles_s", {}), "visitor": result.get("cpu_s", 0)}
    figures = {f"cpu {role}": seconds / done * unit_s for role, seconds in roles.items()}
    figures["cpu all"] = sum(roles.values()) / done * unit_s
    return figures


def visitor_share(result):
    """Of the machine's processors, while it was measured."""
    return result["cpu_s"] / result["seconds"] / os.cpu_count() if result["seconds"] else 0


class Bulk(Workload):
    group, by = "bulk", "GB"
    figures = (("gb_per_s", "GB/s", 2, True), ("cpu all", "CPU s/GB", 2, False))
    FIRST_BYTES, MOST_BYTES = 16 << 20, 4 << 30

    def run(self, run, subject):
        rates = subject.__dict__.setdefault("rates", {})
        rate = rates.get(self.name) or rates.get(self.way)
        size = min(self.MOST_BYTES, int(rate * 1e9 * run.seconds)) if rate else self.FIRST_BYTES
        size = max(size, self.FIRST_BYTES // 4, self.streams << 16)
        result = run.load(subject, self.way, "--streams", self.streams, "--bytes", size)
        rates[self.name] = rates[self.way] = result["gb_per_s"]
        return {"gb_per_s": result["gb_per_s"], "visitor share": visitor_share(result),
                **costs(result, result["bytes"] / 1e9)}


class Ping(Workload):
    group, by = "ping", "message"
    figures = (("p50_us", "p50 us", 1, False), ("p99_us", "p99 us", 1, False), ("cpu all", "CPU us", 1, False))

    def run(self, run, subject):
        count = min(200000, max(200, int(run.seconds * 1e6 / subject.__dict__.get("ping_us", 100))))
        result = run.load(subject, "ping", "--count", count)
        subject.ping_us = result["p50_us"]
        return {"p50_us": result["p50_us"], "p99_us": result["p99_us"], "visitor share": visitor_share(result),
                **costs(result, count, 1e6)}


class Under(Workload):
    group, by = "under", ""
    figures = (("p50_us", "ping p50 us", 0, False), ("p99_us", "ping p99 us", 0, False),
               ("gb_per_s", "bulk GB/s meanwhile", 2, True))

    def run(self, run, subject):
        result = run.load(subject, "under", "--streams", 8, "--millis", int(max(run.seconds, 0.4) * 1000))
        return {key: result[key] for key in ("p50_us", "p99_us", "gb_per_s")}


class New(Workload):
    """New connections, `streams` at a time: a handshake where there is TLS, one byte asked, one answered."""
    group, by = "new", "connection"
    figures = (("per_s", "per s", 0, True), ("p50_us", "p50 us", 0, False), ("p99_us", "p99 us", 0, False),
               ("cpu all", "CPU us", 0, False))

    def run(self, run, subject):
        rates = subject.__dict__.setdefault("rates", {})
        rate = rates.get(self.name) or rates.get("new") or 300
        count = max(self.streams * 4, int(rate * run.seconds) // self.streams * self.streams)
        result = run.load(subject, "connect", "--streams", self.streams, "--count", count)
        rates[self.name] = rates["new"] = result["per_s"]
        return {"per_s": result["per_s"], "p50_us": result["p50_us"], "p99_us": result["p99_us"],
                "visitor share": visitor_share(result), **costs(result, result["count"], 1e6)}


class Burst(Workload):
    """After a quiet moment, in which what was made ready for visitors may be let go, `streams` come at once."""
    group, by = "new", ""
    figures = (("p50_us", "p50 us", 0, False), ("all_us", "all there, us", 0, False))

    def run(self, run, subject):
        time.sleep(run.quiet_s)
        result = run.load(subject, "connect", "--streams", self.streams, "--count", self.streams)
        return {"p50_us": result["p50_us"], "all_us": result["seconds"] * 1e6}


WORKLOADS = [
    *(Bulk(f"{way}{n}", f"{way}, {n} stream{'s' if n > 1 else ''}", way=way, streams=n)
      for way in ("down", "up") for n in (1, 8, 64)),
    Ping("ping", "a message of 64 bytes and its echo"),
    Under("under", "the same while 8 streams come down"),
    New("new8", "new connections, 8 at a time", streams=8),
    New("new64", "new connections, 64 at a time", streams=64),
    New("first", "new connections, one at a time", streams=1),
    Burst("burst", "32 at once after quiet", streams=32),
]
