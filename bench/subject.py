"""What a visitor reaches, and whose time it takes."""
import json
import statistics

from box import LOAD, Failed
from process import cpu_seconds, tree


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

    def cpu_s(self):
        return {role: sum(cpu_seconds(pid) for pid in self.pids(role)) for role in self.processes}

    def measure(self, box, what, *options, prefix=()):
        before = self.cpu_s()
        try:
            result = json.loads(box.run(*prefix, LOAD, what, *self.where(), *options))
        except Failed as failure:
            raise Failed(f"{self.title}: {failure}") from None
        after = self.cpu_s()
        result["roles_s"] = {role: after[role] - before[role] for role in before}
        for role in before if "bytes" in result else ():
            result[f"{role}_s_per_gb"] = (after[role] - before[role]) / (result["bytes"] / 1e9)
        return result

    def keep(self, name, result):
        self.results.setdefault(name, []).append(result)

    def median(self, name, field):
        values = [r[field] for r in self.results.get(name, []) if field in r]
        return statistics.median(values) if values else None
