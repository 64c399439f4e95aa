"""The figures as tables: one for each kind and workload, with a row for each subject."""
from table import cell, table

from .results import BASE

KIND_TITLES = {"tls": "TLS", "raw": "raw TCP"}


def with_spread(values, digits):
    """Median, and the quartiles where they say something else."""
    low, middle, high = (cell(v, digits) for v in values)
    return middle if low == high else f"{middle} ({low}-{high})"


def part_columns(results, kind, workload):
    """Key, title and digits of the figures that there is one of for each role."""
    for prefix, title, digits in workload.parts:
        for key in results.keys(kind, workload.name, prefix):
            if key != f"{prefix}all":
                yield key, title + key.removeprefix(prefix), workload.figures[-1][2] if digits is None else digits


def workload_table(results, kind, workload):
    subjects, parts = results.subjects(kind, workload.name), list(part_columns(results, kind, workload))
    compared = BASE in subjects
    head = [f"{KIND_TITLES[kind]}: {workload.title}"]
    for key, title, _ in workload.figures:
        head += [title, f"to {BASE}"] if compared and key not in workload.absolute else [title]
    rows = []
    for subject in subjects:
        row = [subject]
        for key, _, digits in workload.figures:
            values = results.spread(kind, workload.name, subject, key)
            if not compared or key in workload.absolute:
                row.append(with_spread(values, digits) if values else "-")
                continue
            ratios = results.ratios(kind, workload.name, subject, key)
            row += [cell(values and values[1], digits), with_spread(ratios, 2) if ratios else "-"]
        for key, _, digits in parts:
            values = results.spread(kind, workload.name, subject, key)
            row.append(cell(values and values[1], digits))
        rows.append(row)
    return table([*head, *(title for _, title, _ in parts)], rows)


def tables(results, workloads):
    for workload in workloads:
        for kind in workload.kinds:
            if results.subjects(kind, workload.name):
                yield workload, workload_table(results, kind, workload)


def not_measured(results):
    """Those of one reason together."""
    reasons = {}
    for name, why in results.missing.items():
        reasons.setdefault(why, {})[name] = []
    for (kind, workload, subject), why in results.failures.items():
        reasons.setdefault(why, {}).setdefault(f"{workload}, {KIND_TITLES[kind]}", []).append(subject)
    lines = []
    for why, names in reasons.items():
        what = "; ".join(f"{name} ({', '.join(subjects)})" if subjects else name for name, subjects in names.items())
        lines.append(f"- {what}: {why}")
    return "Not measured:\n\n" + "\n".join(lines) + "\n" if lines else ""
