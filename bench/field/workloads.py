"""What is asked of each subject in each round: bulk, messages, new connections. How much is asked is measured out so
that it takes about `run.seconds`, whatever the subject's speed; processor times are given for what was done."""
import time

from .workload import Workload, costs, visitor_share


class Bulk(Workload):
    group = "bulk"
    figures = (("gb_per_s", "GB/s", 2), ("cpu all", "CPU s/GB", 2))
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
    group = "ping"
    figures = (("p50_us", "p50 us", 1), ("p99_us", "p99 us", 1), ("cpu all", "CPU us", 1))

    def run(self, run, subject):
        count = min(200000, max(200, int(run.seconds * 1e6 / subject.__dict__.get("ping_us", 100))))
        result = run.load(subject, "ping", "--count", count)
        subject.ping_us = result["p50_us"]
        return {"p50_us": result["p50_us"], "p99_us": result["p99_us"], "visitor share": visitor_share(result),
                **costs(result, count, 1e6)}


class Under(Workload):
    group = "under"
    figures = (("p50_us", "ping p50 us", 0), ("p99_us", "ping p99 us", 0), ("gb_per_s", "bulk GB/s", 2))

    def run(self, run, subject):
        result = run.load(subject, "under", "--streams", 8, "--millis", int(max(run.seconds, 0.4) * 1000))
        return {key: result[key] for key in ("p50_us", "p99_us", "gb_per_s")}


class New(Workload):
    """New connections, `streams` at a time: a handshake where there is TLS, one byte asked, one answered."""
    group = "new"
    figures = (("per_s", "per s", 0), ("p50_us", "p50 us", 0), ("p99_us", "p99 us", 0), ("cpu all", "CPU us", 0))

    RATE = 300                         # before it is known: some do a few hundred a second, but not one at a time

    def run(self, run, subject):
        rates = subject.__dict__.setdefault("rates", {})
        rate = rates.get(self.name) or min(rates.get("new", self.RATE), self.RATE)
        count = max(self.streams * 4, int(rate * run.seconds) // self.streams * self.streams)
        result = run.load(subject, "connect", "--streams", self.streams, "--count", count)
        rates[self.name] = rates["new"] = result["per_s"]
        return {"per_s": result["per_s"], "p50_us": result["p50_us"], "p99_us": result["p99_us"],
                "visitor share": visitor_share(result), **costs(result, result["count"], 1e6)}


class Burst(Workload):
    """After a quiet moment, in which what was made ready for visitors may be let go, `streams` come at once."""
    group = "new"
    figures = (("p50_us", "p50 us", 0), ("all_us", "all there, us", 0))

    def run(self, run, subject):
        time.sleep(run.quiet_s)
        result = run.load(subject, "connect", "--streams", self.streams, "--count", self.streams)
        return {"p50_us": result["p50_us"], "all_us": result["seconds"] * 1e6}


WORKLOADS = [
    *(Bulk(f"{way}{n}", f"{way}, streams: {n}", way=way, streams=n, warms=n == 8)
      for way in ("down", "up") for n in (1, 8, 64)),
    Ping("ping", "a message of 64 bytes and its echo"),
    Under("under", "the same while 8 streams come down"),
    New("new8", "new connections, 8 at a time", streams=8, warms=True),
    New("new64", "new connections, 64 at a time", streams=64),
    New("first", "new connections, one at a time", streams=1),
    Burst("burst", "32 at once after quiet", streams=32),
]
