"""Where adit is behind, where it is ahead, and what is expected of it: made of the figures, so that nobody chooses."""
from table import cell, table

from .report import KIND_TITLES, with_spread
from .results import BASE

OURS = {"tls": ("adit",), "raw": ("adit-sealed", "adit-plain")}
PROXIES = ("nginx", "haproxy")
ALIKE = 0.05                           # nearer to 1 than this is neither ahead nor behind


def more_is_better(key):
    return key in ("per_s", "gb_per_s", "of_rate")


def advantage(results, kind, workload, subject, key, other):
    """By how much the subject is better, quartiles and median: above 1 it is ahead."""
    if more_is_better(key):
        return results.ratios(kind, workload, subject, key, other)
    return results.ratios(kind, workload, other, key, subject)


def best(results, kind, workload, key, others):
    ranked = [(values[1], name) for name in others if (values := results.spread(kind, workload, name, key))]
    return (max if more_is_better(key) else min)(ranked)[1] if ranked else None


def contests(results, workloads):
    """Subject, title, figure, and for the best tunnel and the best proxy their name and the advantage over them."""
    for workload in workloads:
        for kind in workload.kinds:
            there = results.subjects(kind, workload.name)
            others = [name for name in there if not name.startswith("adit") and name != BASE]
            for ours in OURS[kind]:
                for key, title, digits in workload.figures:
                    if key == "count" or ours not in there:
                        continue
                    values = results.spread(kind, workload.name, ours, key)
                    rivals = [best(results, kind, workload.name, key, names) for names in (
                        [o for o in others if o not in PROXIES], [o for o in others if o in PROXIES])]
                    gains = [(rival, advantage(results, kind, workload.name, ours, key, rival))
                             for rival in rivals if rival]
                    gains = [(rival, gain) for rival, gain in gains if gain]
                    if values and gains:
                        yield ours, f"{KIND_TITLES[kind]}: {workload.title}: {title}", cell(values[1], digits), gains


def contest_tables(results, workloads):
    """Behind, level, ahead: against whoever is best at it, tunnel or proxy."""
    rows = {"Behind": [], "Level": [], "Ahead": []}
    for ours, title, value, gains in contests(results, workloads):
        worst = min(gain[1] for _, gain in gains)
        where = "Behind" if worst < 1 - ALIKE else "Ahead" if worst > 1 + ALIKE else "Level"
        text = ", ".join(f"{rival} {with_spread(gain, 2)}" for rival, gain in gains)
        rows[where].append((worst, [title, ours, value, text]))
    for where, found in rows.items():
        found.sort(key=lambda row: row[0])
        if found:
            yield where, table([where, "", "its figure", "advantage over the best tunnel, the best proxy"],
                               [row for _, row in found])


def ratio(kind, workload, subject, key, other, other_key=None):
    return lambda results: results.ratios(kind, workload, subject, key, other, other_key)


def figure(kind, workload, subject, key):
    return lambda results: results.spread(kind, workload, subject, key)


# Title, figure, bound; a positive bound is the least, a negative one the most.
EXPECTED = [
    ("new TLS connections, 8 at a time, to nginx's", ratio("tls", "new8", "adit", "per_s", "nginx"), 0.95),
    ("the same to rathole's behind nginx", ratio("tls", "new8", "adit", "per_s", "rathole"), 1.1),
    ("relay CPU for each, to nginx's", ratio("tls", "new8", "adit", "cpu relay", "nginx", "cpu nginx"), -0.9),
    ("agent CPU for each, to rathole's agent's", ratio("tls", "new8", "adit", "cpu agent", "rathole"), -1.0),
    ("new raw connections, plain, to rathole's", ratio("raw", "new8", "adit-plain", "per_s", "rathole"), 1.1),
    ("ping p50 under 8 streams, to direct TLS's", ratio("tls", "under", "adit", "p50_us", BASE), -3),
    ("ping p99 under 8 streams, to direct TLS's", ratio("tls", "under", "adit", "p99_us", BASE), -1.5),
    ("ping p50 alone, to nginx's", ratio("tls", "ping", "adit", "p50_us", "nginx"), -1.15),
    ("wrk, kept alive, to nginx's", ratio("tls", "wrk", "adit", "per_s", "nginx"), 1.0),
    *((f"bulk {way} {n}, to direct TLS's", ratio("tls", f"{way}{n}", "adit", "gb_per_s", BASE), 0.9)
      for way in ("down", "up") for n in (8, 64)),
    ("raw sealed bulk, down 8, to plain frp's", ratio("raw", "down8", "adit-sealed", "gb_per_s", "frp"), 1.2),
    *((f"CPU of all for a GB, {way} 8, to direct TLS's", ratio("tls", f"{way}8", "adit", "cpu all", BASE), -1.15)
      for way in ("down", "up")),
    ("exec to first byte, TLS, to rathole's behind nginx", ratio("tls", "start", "adit", "first_us", "rathole"), -1.0),
    ("process start to open, to openssl version", figure("tls", "open", "adit", "ratio"), -2.5),
    ("idle CPU of the relay, %", figure("tls", "idle", "adit", "idle relay"), -0.02),
    ("idle CPU of the agent, %", figure("tls", "idle", "adit", "idle agent"), -0.02),
    ("system calls of a connection, relay", figure("tls", "calls-new", "adit", "calls relay"), -40),
    ("system calls of a connection, agent", figure("tls", "calls-new", "adit", "calls agent"), -35),
    ("8 raw visitors at once over 80 ms, round trips", figure("raw", "far-new8", "adit-plain", "p50_trips"), -1.55),
    ("32 TLS visitors at once over 80 ms, round trips", figure("tls", "far-new32", "adit", "p50_trips"), -2.1),
    ("agent memory for an idle visitor, KiB", figure("tls", "idle", "adit", "kib agent"), -2),
    ("agent memory kept after idle visitors left, MB", figure("tls", "idle", "adit", "kept agent"), -4),
]


def expected_table(results):
    rows = []
    for title, value, bound in EXPECTED:
        values = value(results)
        if values:
            reached = values[1] >= bound if bound > 0 else values[1] <= -bound
            rows.append([title, with_spread(values, 2), f"{'at least' if bound > 0 else 'at most'} {abs(bound):g}",
                         "yes" if reached else "no"])
    return table(["expected", "measured", "bound", "reached"], rows) if rows else ""


def visitors_table(results, workloads):
    """How much of the machine our own visitors had: of what a subject could have done, they take that much away. The
    app without TLS, reached directly, is the null server: as much as the load generator can do."""
    rows = []
    for workload in workloads:
        for kind in workload.kinds:
            shares = {name: values[1] for name in results.subjects(kind, workload.name)
                      if (values := results.spread(kind, workload.name, name, "visitor share"))}
            if not shares:
                continue
            null = results.spread("raw", workload.name, BASE, workload.figures[0][0])
            key, title, digits = workload.figures[0]
            most = best(results, kind, workload.name, key, [n for n in shares if n != BASE])
            values = most and results.spread(kind, workload.name, most, key)
            rows.append([f"{KIND_TITLES[kind]}: {workload.title}: {title}", cell(null and null[1], digits),
                         cell(values and values[1], digits), most or "-", f"{max(shares.values()) * 100:.0f} %",
                         f"{shares.get(most, 0) * 100:.0f} %"])
    return table(["", "null server", "best subject", "which", "visitors' share of the machine, most", "with the best"],
                 rows) if rows else ""
