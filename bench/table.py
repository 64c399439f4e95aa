"""Tables of Markdown, which people read in a terminal as well, and the line that says what goes on meanwhile."""
import sys
import time


def cell(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def table(head, rows):
    rows = [head, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w)
                               for i, (c, w) in enumerate(zip(row, widths))) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":"
                                   for i, w in enumerate(widths)) + "|")
    return "\n".join(lines) + "\n"


def print_table(head, rows):
    print(table(head, rows))


def progress_printer():
    start, terminal = time.monotonic(), sys.stderr.isatty()

    def progress(text):
        if terminal:
            print(f"\r\033[K{time.monotonic() - start:4.0f} s  {text}", end="" if text else "\r", file=sys.stderr,
                  flush=True)
    return progress
