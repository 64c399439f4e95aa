"""Visitors, relay and agent in three places: 80 ms between visitor and app and back, half of it on each side of the
relay, over cables that lose packets or do not. The kernels' queues are their own; what is between is the tests'
bridge, a program that takes its part of this machine's time."""
import os
import sys

from box import ROOT

from .programs import Missing
from .sites import Far, Sites
from .workload import Workload

sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))
from kit import distance                            # noqa: E402
from kit.process import Program                     # noqa: E402

ROUND_TRIP_MS, MBIT_PER_S = 80, 100
VISITOR, RELAY, AGENT = "10.1.0.1", "10.9", "10.2.0.2"


class Places:
    """What the kit's places want to know of a test: how its programs are started. They end with the run."""

    def __init__(self, box):
        self.env, self.programs = box.env, []
        box.stack.callback(self.stop)

    def start(self, argv, **options):
        self.programs.append(Program(argv, env=self.env, **options))
        return self.programs[-1]

    def stop(self):
        for program in self.programs:
            if program.running:
                program.kill()
            program.wait()


def far_sites(box, loss_percent):
    why = distance.trouble()
    if why:
        raise Missing(f"far away: {why}")
    places = Places(box)
    visitor, relay, agent = (distance.Place(places) for _ in range(3))
    cable = {"one_way_ms": ROUND_TRIP_MS / 4, "loss_percent": loss_percent / 2, "mbit_per_s": MBIT_PER_S}
    distance.cable(places, visitor, VISITOR, relay, "10.1.0.2", **cable)
    distance.cable(places, relay, "10.2.0.1", agent, AGENT, **cable)
    relay.run("ip", "route", "add", "local", f"{RELAY}.0.0/16", "dev", "lo")
    for place, peer, nets in ((visitor, "10.1.0.2", ("10.2.0.0/16",)), (agent, "10.2.0.1", ("10.1.0.0/16",))):
        for net in (*nets, f"{RELAY}.0.0/16"):
            place.run("ip", "route", "add", net, "via", peer)
    return Sites(Far(relay, RELAY), Far(agent, AGENT), Far(visitor, VISITOR), AGENT)


class FarNew(Workload):
    group = "far"
    figures = (("p50_trips", "first byte, round trips", 2), ("all_trips", "all there, round trips", 2))

    def run(self, run, subject):
        each = 3 if self.streams == 1 else 1
        result = run.load(subject, "connect", "--streams", self.streams, "--count", self.streams * each)
        return {"p50_trips": result["p50_us"] / 1e3 / ROUND_TRIP_MS,
                "all_trips": result["seconds"] * 1e3 / each / ROUND_TRIP_MS}


class FarBulk(Workload):
    group, parts, rounds_most = "far", (), 3
    figures = (("of_rate", "of the cables' rate", 2),)

    def takes(self, run, subject):
        return not run.quick

    def run(self, run, subject):
        size = int(MBIT_PER_S * 1e6 / 8 * max(2, run.seconds * 3))
        result = run.load(subject, "down", "--streams", self.streams, "--bytes", size)
        return {"of_rate": result["gb_per_s"] * 8e3 / MBIT_PER_S}


AWAY = f"{ROUND_TRIP_MS} ms away"
WORKLOADS = [
    *(FarNew(f"far-new{n}", f"{AWAY}, {n} at once", scene="far", streams=n) for n in (1, 8, 32)),
    *(FarBulk(f"{scene}-down{n}", f"{AWAY}, {loss}, down, streams: {n}", scene=scene, streams=n)
      for scene, loss in (("far", "no loss"), ("far-loss", "1 % loss")) for n in (1, 64)),
]
