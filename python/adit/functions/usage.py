"""``adit usage``: what containers have used, and what it comes to, as the store of this user's foremen has it."""

from __future__ import annotations

import csv
import json
import re
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..exception import InvalidError
from . import quantities
from .command_line import Parser

if TYPE_CHECKING:
    from .foreman.amounts import Amounts
    from .foreman.prices import Prices
    from .foreman.store import Row

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_BY = {"app": ("app",), "function": ("app", "function"), "day": ("day",)}
_HOURS = ("core_hours", "gib_hours", "gpu_hours")


def since(text: str, now: datetime) -> float:
    """When ``2h``, ``7d``, ``today`` or a date was."""
    if text == "today":
        return now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text):
        return (now - timedelta(seconds=float(found[1]) * _UNITS[found[2]])).timestamp()
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise InvalidError(f"--since: {text!r} is no time (such as 12h, 7d, today, 2026-01-31)") from None


class _Group:
    """The rows that are summed up in one line."""

    def __init__(self) -> None:
        self.used: dict[str, Amounts] = {}
        self.sources: set[str] = set()
        self.sampled: set[str] = set()
        self.calls = 0

    def add(self, row: Row) -> None:
        from .engine import SAMPLED
        from .foreman.amounts import Amounts, amounts_of

        self.used.setdefault(row["gpu"], Amounts()).add(amounts_of(row))
        self.sources.add(row["source"])
        if row["how"] == SAMPLED:
            self.sampled.add(row["source"])
        self.calls += row["calls"]

    def told(self, prices: Prices) -> dict[str, Any]:
        counts = {"containers": len(self.sources), "sampled": len(self.sampled), "calls": self.calls}
        return {**counts, **prices.sum(self.used)}


def report(rows: list[Row], by: str, prices: Prices) -> dict[str, Any]:
    """Sums. What tunnels cost is said, too."""
    from .foreman.amounts import TUNNEL

    groups: dict[tuple[str, ...], _Group] = {}
    total = _Group()
    for row in rows:
        row["day"] = datetime.fromtimestamp(row["began"]).date().isoformat()
        if row["kind"] != TUNNEL:
            total.add(row)
            groups.setdefault(tuple(row[name] for name in _BY[by]), _Group()).add(row)
    passed = {name: sum(row[name] for row in rows) for name in ("streams", "bytes", "bytes_said")}
    tunnel = {**passed, "price": 0.0}
    lines = [{**dict(zip(_BY[by], key)), **group.told(prices)} for key, group in sorted(groups.items())]
    return {"by": by, "rows": lines, "tunnel": tunnel, "total": total.told(prices)}


def _price(line: dict[str, Any]) -> str:
    return "-" if line["price"] is None else quantities.money(line["price"], line["currency"])


def table(told: dict[str, Any]) -> list[str]:
    """For people. Who has no GPUs sees nothing of them."""
    names = _BY[told["by"]]
    hours = [name for name in _HOURS if name != "gpu_hours" or told["total"][name]]
    lines = [[*names, "containers", *(name.replace("_", "-").replace("gib", "GiB") for name in hours), "price"]]
    for line in [*told["rows"], {**told["total"], names[0]: "total"}]:
        amounts = [quantities.number(line[name]) for name in hours]
        lines.append([*(line.get(name, "") for name in names), str(line["containers"]), *amounts, _price(line)])
    tunnel = told["tunnel"]
    passed = f"{tunnel['streams']:,} streams, {quantities.size(tunnel['bytes'])}"
    if tunnel["bytes_said"]:
        passed += f", {quantities.size(tunnel['bytes_said'])} of it by containers' own word"
    widths = [max(map(len, column)) for column in zip(*lines)]
    n = len(names)

    def pad(cells: list[str]) -> str:
        return "  ".join(c.ljust(w) if i < n else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))).rstrip()

    text = [pad(line) for line in lines]
    between = len(text[0]) - len("tunnel  0.00")
    text.insert(-1, f"tunnel  {passed.ljust(between - 2)}  0.00")
    if n := told["total"]["sampled"]:
        text.append(f"({n} of them up to the last sample: {'it goes' if n == 1 else 'they go'} on, or died unseen)")
    return text


def _write_csv(told: dict[str, Any]) -> None:
    names = _BY[told["by"]]
    counts, tunnel = ["containers", "sampled", "calls", "seconds"], ["streams", "bytes", "bytes_said"]
    columns = [*names, *counts, *_HOURS, "price", "currency", *tunnel]
    writer = csv.DictWriter(sys.stdout, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(told["rows"])
    writer.writerow({names[0]: "tunnel", **told["tunnel"], "price": "0.00"})


def usage(words: list[str]) -> int:
    """The command."""
    parser = Parser(
        "usage",
        "Shows what functions' containers have used, and what it comes to if there are prices (docs/functions.md).",
        "adit usage                                  by app, from the beginning",
        "adit usage --by function --since 7d",
        "adit usage --by day --since 2026-01-01 --csv",
    )
    parser.add_argument("--by", choices=list(_BY), default="app", help="a line for each (default: app)")
    parser.add_argument(
        "--since", metavar="TIME", help="such as 12h, 7d, today, 2026-01-31; default: from the beginning"
    )
    parser.add_argument(
        "--store", metavar="STORE", help="that of the foreman, if it has another (default: ADIT_STORE, or your own)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--csv", action="store_true", help="for spreadsheets")
    given = parser.parse_args(words)
    from .foreman import prices
    from .foreman.amounts import TABLES
    from .foreman.store import Store

    try:
        begin = since(given.since, datetime.now()) if given.since else 0.0
    except InvalidError as error:
        parser.error(str(error))
    rows = Store(given.store).do(TABLES, ("SELECT * FROM usage WHERE seen >= ?", begin))
    told = report(rows, given.by, prices.read())
    if given.json:
        print(json.dumps(told, indent=2))
    elif given.csv:
        _write_csv(told)
    else:
        print("\n".join(table(told)))
    return 0
