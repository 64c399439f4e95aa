"""What a visitor reaches, and whose time it takes."""
import json
import statistics

from box import LOAD, Failed
from process import Times, tree


class Subject:
    """An address, and the processes whose time counts, by role; what they have started counts with them. Without an
    authority it is reached over plain TCP."""

    def __init__(self, title, address, sni, ca, processes):
        self.title, self.ca, self.processes, self.sni = title, ca, processes, sni
        self.host, self.port = address
        self.results = {}

    def where(self):
        tls = ["--sni", self.sni, "--ca", self.ca] if self.ca else ["--plain"]
        return ["--host", self.host, "--port", str(self.port), *tls]

    def pids(self, role):
        return [p for root in self.processes[role] for p in tree(root)]

    def times(self):
        return {role: Times(self.pids(role)) for role in self.processes}

    def seconds_since(self, before):
        """Processor time of each role."""
        return {role: times.since(before[role]) for role, times in self.times().items()}

    def measure(self, box, what, *options, prefix=(), env=None):
        before = self.times()
        try:
            result = json.loads(box.run(*prefix, LOAD, what, *self.where(), *options, env=env))
        except Failed as failure:
            raise Failed(f"{self.title}: {failure}") from None
        result["roles_s"] = self.seconds_since(before)
        for role, seconds in result["roles_s"].items() if "bytes" in result else ():
            result[f"{role}_s_per_gb"] = seconds / (result["bytes"] / 1e9)
        return result

    def keep(self, name, result):
        self.results.setdefault(name, []).append(result)

    def median(self, name, field):
        values = [r[field] for r in self.results.get(name, []) if field in r]
        return statistics.median(values) if values else None
