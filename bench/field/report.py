"""The figures as tables: one for each kind and workload, with a row for each subject."""
from table import cell, table

from .results import BASE

KIND_TITLES = {"tls": "TLS", "raw": "raw TCP"}


def with_spread(values, digits):
    """Median, and the quartiles where they say something else."""
    low, middle, high = (cell(v, digits) for v in values)
    return middle if low == high else f"{middle} ({low}-{high})"


def workload_table(results, kind, workload):
    costs = [key for key in results.keys(kind, workload.name, "cpu ") if key != "cpu all"]
    head = [f"{KIND_TITLES[kind]}: {workload.title}"]
    for _, title, _, _ in workload.figures:
        head += [title, f"to {BASE}"] if BASE in results.subjects(kind, workload.name) else [title]
    head += [key.replace("cpu ", "") for key in costs]
    rows = []
    for subject in results.subjects(kind, workload.name):
        row = [subject]
        for key, _, digits, _ in workload.figures:
            values = results.spread(kind, workload.name, subject, key)
            row.append(cell(values and values[1], digits))
            if BASE in results.subjects(kind, workload.name):
                ratios = results.ratios(kind, workload.name, subject, key)
                row.append(with_spread(ratios, 2) if ratios else "-")
        for key in costs:
            values = results.spread(kind, workload.name, subject, key)
            row.append(cell(values and values[1], workload.figures[-1][2]))
        rows.append(row)
    return table(head, rows)


def tables(results, workloads, kinds):
    for workload in workloads:
        for kind in kinds:
            if results.subjects(kind, workload.name):
                yield workload, workload_table(results, kind, workload)


def not_measured(results):
    lines = [f"- {name}: {why}" for name, why in results.missing.items()]
    lines += [f"- {subject}, {KIND_TITLES[kind]}, {workload}: {why}"
              for (kind, workload, subject), why in results.failures.items()]
    return "Not measured:\n\n" + "\n".join(lines) + "\n" if lines else ""
