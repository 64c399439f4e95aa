"""Many who do little: visitors that are silent or slow, agents, and tunnels of one agent. Memory is the proportional
set of each process, without what the kernel has for sockets."""
import resource
import subprocess
import time

from box import LOAD
from process import pss_bytes, tree

from .workload import Workload

PARTS = (("kib ", "KiB ", 2), ("idle ", "idle % ", 3), ("kept ", "kept MB ", 1))


def roles(subject):
    """But for an app that others have."""
    return [role for role in subject.processes if role != "app" or len(subject.processes) == 1]


def memory(subject):
    return {role: sum(map(pss_bytes, subject.pids(role))) for role in roles(subject)}


def idle_share(subject, seconds):
    """What each role takes of one processor while nobody asks for anything."""
    before = subject.times()
    time.sleep(seconds)
    spent = subject.seconds_since(before)
    return {f"idle {role}": spent[role] / seconds * 100 for role in roles(subject)}


class Visitors(Workload):
    """They come, stay, and leave."""
    rounds_most, parts, settle_s = 1, PARTS, 0

    def count(self, run, subject):
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return min(run.options.visitors or (self.few if run.quick else self.many), subject.way.visitors_most,
                   int(files * subject.way.visitors_of_files))

    def run(self, run, subject):
        """With processes of their own, as those that have had many before keep memory for the next."""
        way = type(subject.way)(run.field, subject.way.kind)
        try:
            return self.with_crowd(run, way.start(fresh=True))
        finally:
            way.stop()

    def with_crowd(self, run, subject):
        count = self.count(run, subject)
        before = memory(subject)
        process = run.box.start("crowd", [*run.field.sites.visitor.prefix, LOAD, self.what, *subject.where(), "--count",
                                          str(count)], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        try:
            run.box.first_line(process, "crowd")
            time.sleep(max(run.quiet_s, self.settle_s * run.seconds))
            figures = {"count": count, **idle_share(subject, run.idle_s)}
            there = memory(subject)
            figures.update(self.meanwhile(run, subject))
        finally:
            run.box.stop(process)
        time.sleep(run.quiet_s)
        for role, after in memory(subject).items():
            figures[f"kib {role}"] = (there[role] - before[role]) / 1024 / count
            figures[f"kept {role}"] = (after - before[role]) / 1e6
        for prefix in ("kib ", "kept ", "idle "):
            figures[f"{prefix}all"] = sum(value for key, value in figures.items() if key.startswith(prefix))
        return figures

    def meanwhile(self, run, subject):
        return {}


class Idle(Visitors):
    group, what, many, few = "idle", "idle", 8000, 400
    figures = (("count", "visitors", 0), ("kib all", "KiB each", 2), ("idle all", "idle CPU %", 3))
    absolute = ("count", "kib all", "idle all")


class Slow(Visitors):
    """Each has asked for more than there is, and takes 4 KiB ten times a second: what is read of the app for it has to
    be somewhere."""
    group, what, many, few, settle_s = "slow", "slow", 200, 50, 2
    parts = (("kib ", "KiB ", 1), ("idle ", "CPU % ", 2), ("kept ", "kept MB ", 1))
    figures = (("count", "visitors", 0), ("p50_us", "another's ping p50 us", 0), ("p99_us", "p99 us", 0))

    def meanwhile(self, run, subject):
        result = run.load(subject, "ping", "--count", 500)
        return {"p50_us": result["p50_us"], "p99_us": result["p99_us"]}


def server_bytes(way):
    return sum(pss_bytes(pid) for role, roots in way.roles.items() if role != "agent"
               for root in roots for pid in tree(root))


class Many(Workload):
    """A server of its own with many agents or tunnels. Raw ports are asked for where the server gives out others, so
    that no nginx is part of it."""
    rounds_most, parts = 1, PARTS[:2]
    figures = (("count", "count", 0), ("seconds", "s until all are there", 2))

    def takes(self, run, subject):
        way = subject.way
        return way.tunnel and (way.kind == "raw" or not way.fronted) and self.possible(way)

    def possible(self, way):
        return True

    def run(self, run, subject):
        way = self.way(run, type(subject.way), subject.way.kind)
        try:
            way.start_server()
            alone = server_bytes(way)
            start = time.monotonic()
            self.fill(way)
            seconds = time.monotonic() - start
            time.sleep(run.quiet_s)
            there = way.subject()
            figures = {"count": way.count, "seconds": seconds, **idle_share(there, run.idle_s)}
            figures["kib server"] = (server_bytes(way) - alone) / 1024 / way.count
            figures["kib agent"] = memory(there)["agent"] / 1024 / way.count
            return figures
        finally:
            way.stop()


class Agents(Many):
    group = "agents"

    def way(self, run, kind_of_way, kind):
        return kind_of_way(run.field, kind, min(run.options.agents or (20 if run.quick else 1000),
                                                kind_of_way.agents_most))

    def fill(self, way):
        for i in range(way.count):
            way.start_agent(i, 1)
        for i in range(way.count):
            way.wait_through(i)


class Tunnels(Many):
    group = "tunnels"

    def possible(self, way):
        return way.many_tunnels

    def way(self, run, kind_of_way, kind):
        return kind_of_way(run.field, kind, run.options.tunnels or (50 if run.quick else 1000))

    def fill(self, way):
        way.start_many()
        for i in range(way.count):
            way.wait_through(i)


WORKLOADS = [
    Idle("idle", "idle visitors"),
    Slow("slow", "slow visitors"),
    Agents("agents", "agents, a tunnel each"),
    Tunnels("tunnels", "tunnels of one agent"),
]
