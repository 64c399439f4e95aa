"""The figures of a run: for each kind, workload and subject those of each round. They are given as medians with their
quartiles, and as ratios to the direct connection's figure of the same round, so that what the machine did else
meanwhile is in both."""
import statistics

BASE = "direct"


def spread(values):
    """First quartile, median, third quartile."""
    if len(values) < 2:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


class Results:
    def __init__(self):
        self.rounds, self.failures, self.missing, self.about = {}, {}, {}, {}

    def keep(self, kind, workload, subject, number, figures):
        self.rounds.setdefault((kind, workload), {}).setdefault(subject, {})[number] = figures

    def fail(self, kind, workload, subject, why):
        self.failures.setdefault((kind, workload, subject), str(why).replace("\n", " "))

    def sort(self, names):
        """Rounds begin with another subject each time; tables do not."""
        for subjects in self.rounds.values():
            for name in names:
                if name in subjects:
                    subjects[name] = subjects.pop(name)

    def subjects(self, kind, workload):
        return list(self.rounds.get((kind, workload), {}))

    def values(self, kind, workload, subject, key):
        return [figures[key] for figures in self.rounds.get((kind, workload), {}).get(subject, {}).values()
                if key in figures]

    def spread(self, kind, workload, subject, key):
        values = self.values(kind, workload, subject, key)
        return spread(values) if values else None

    def ratios(self, kind, workload, subject, key, base=BASE, base_key=None):
        """Against the base in the same round."""
        theirs = self.rounds.get((kind, workload), {}).get(base, {})
        ours, base_key = self.rounds.get((kind, workload), {}).get(subject, {}), base_key or key
        values = [ours[n][key] / theirs[n][base_key] for n in ours
                  if n in theirs and key in ours[n] and theirs[n].get(base_key)]
        return spread(values) if values else None

    def keys(self, kind, workload, start):
        """Of all subjects' figures, in the order that they came."""
        found = {}
        for rounds in self.rounds.get((kind, workload), {}).values():
            for figures in rounds.values():
                found.update(dict.fromkeys(key for key in figures if key.startswith(start)))
        return list(found)

    def plain(self):
        """What JSON can say."""
        return {
            "about": self.about,
            "figures": [{"kind": kind, "workload": workload, "subject": subject,
                         "rounds": {str(number): figures for number, figures in rounds.items()}}
                        for (kind, workload), subjects in self.rounds.items() for subject, rounds in subjects.items()],
            "failures": [{"kind": kind, "workload": workload, "subject": subject, "why": why}
                         for (kind, workload, subject), why in self.failures.items()],
            "missing": self.missing,
        }

    @classmethod
    def of_plain(cls, plain):
        results = cls()
        results.about, results.missing = plain["about"], plain["missing"]
        for entry in plain["figures"]:
            for number, figures in entry["rounds"].items():
                results.keep(entry["kind"], entry["workload"], entry["subject"], int(number), figures)
        for entry in plain["failures"]:
            results.fail(entry["kind"], entry["workload"], entry["subject"], entry["why"])
        return results
