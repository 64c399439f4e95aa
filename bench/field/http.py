"""Requests of HTTP/1.1 by others' load generators, wrk and h2load: that ours is not partial to anybody. All go to one
plain app, a small page of which our load generator answers."""
import os
import re
import time

from box import Failed

from . import programs
from .workload import Workload

# They take the name of the server from the URL, and look it up: so the name leads to the subject in a list of hosts
# that only they see.
AS_HOST = 'mount --bind "$0" /etc/hosts && exec "$@"'


class Http(Workload):
    group = "http"
    figures = (("per_s", "requests/s", 0), ("p50_us", "p50 us", 0), ("cpu all", "CPU us", 1))
    path, needs = "/", ""

    def url(self, subject):
        scheme, host = ("https", subject.sni) if subject.ca else ("http", subject.host)
        return f"{scheme}://{host}:{subject.port}{self.path}"

    def command(self, run, subject):
        raise NotImplementedError

    def parse(self, text):
        raise NotImplementedError

    def takes(self, run, subject):
        return not (run.quick and not subject.ca)

    def run(self, run, subject):
        program = programs.need(self.needs)
        argv = [program, *self.command(run, subject), self.url(subject)]
        if subject.ca:
            hosts = run.box.file("hosts", f"127.0.0.1 localhost\n{subject.host} {subject.sni}\n")
            argv = ["unshare", *(["-m"] if os.getuid() == 0 else ["-r", "-m"]), "sh", "-c", AS_HOST, hosts, *argv]
        before, start = subject.times(), time.monotonic()
        text = run.box.run(*argv, env=programs.environment(program), seconds=60)
        roles = subject.seconds_since(before)
        figures = self.parse(text)
        done = figures["per_s"] * min(time.monotonic() - start, figures.pop("seconds"))
        figures.update({f"cpu {role}": seconds / done * 1e6 for role, seconds in roles.items()})
        figures["cpu all"] = sum(roles.values()) / done * 1e6
        return figures


def number(pattern, text, why):
    found = re.search(pattern, text)
    if not found:
        raise Failed(f"{why}: {text.strip()[-200:]}")
    return found.groups()


UNITS = {"us": 1, "ms": 1e3, "s": 1e6}


class Wrk(Http):
    needs, headers = "wrk", ()

    def command(self, run, subject):
        return ["--latency", "-t1", f"-c{self.streams}", f"-d{max(1, round(run.seconds))}", *self.headers]

    def parse(self, text):
        if "Socket errors" in text and not self.headers:
            raise Failed(f"wrk: {text[text.index('Socket errors'):].splitlines()[0]}")
        rate, = number(r"Requests/sec:\s+([\d.]+)", text, "wrk")
        p50, unit = number(r"50%\s+([\d.]+)(us|ms|s)", text, "wrk")
        seconds, = number(r"requests in ([\d.]+)s", text, "wrk")
        if float(rate) == 0:
            raise Failed("wrk: no request was answered")
        return {"per_s": float(rate), "p50_us": float(p50) * UNITS[unit], "seconds": float(seconds)}


class H2load(Http):
    needs = "h2load"
    figures = (("per_s", "requests/s", 0), ("cpu all", "CPU us", 1))

    def command(self, run, subject):
        much = ["-D", str(max(1, round(run.seconds)))] if self.keep else ["-n", str(self.streams)]
        return ["--h1", "-t1", "-c", str(self.streams), *much]

    def parse(self, text):
        taken, unit, rate = number(r"finished in ([\d.]+)(us|ms|s), ([\d.]+) req/s", text, "h2load")
        succeeded, failed = number(r"(\d+) succeeded, (\d+) failed", text, "h2load")
        if succeeded == "0" or failed != "0":
            raise Failed(f"h2load: {succeeded} requests succeeded, {failed} failed")
        return {"per_s": float(rate), "seconds": float(taken) * UNITS[unit] / 1e6}


WORKLOADS = [
    Wrk("wrk", "wrk, 16 connections, kept alive", streams=16),
    Wrk("wrk-close", "wrk, 16 at a time, a connection for each request", streams=16, path="/close",
        headers=("-H", "Connection: close")),
    H2load("h2load", "h2load --h1, 16 connections, kept alive", streams=16, keep=True),
    H2load("h2load-new", "h2load --h1, 256 connections at once, a request each", streams=256, keep=False),
]
