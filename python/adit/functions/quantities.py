"""Quantities as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .wire import Meta

_MINUTE_S, _HOUR_S = 60, 3600
_LEAST = 1e-9
_KIB = 1024.0
_TENFOLD = 10


def _digits(number: float) -> int:
    """How many behind the point tell something of it: two, or for small numbers two that are not 0."""
    if number >= 1 or number < _LEAST:
        return 2
    return 1 - math.floor(math.log10(number))


def number(amount: float) -> str:
    """Two digits of what is small, and hundredths of what is not: 0.28, 0.00042, 12.50."""
    if amount < _LEAST:
        return "0"
    text = f"{amount:,.{_digits(amount)}f}"
    return text.rstrip("0").rstrip(".") if amount < 1 else text


def money(price: float, currency: str) -> str:
    """At least in hundredths."""
    whole, _, part = f"{price:,.{_digits(price)}f}".partition(".")
    text = f"{whole}.{part.rstrip('0').ljust(2, '0')}"
    return f"{currency}{text}" if not currency.isalpha() else f"{text} {currency}"


def duration(seconds: float) -> str:
    """As 1.5 s, 12 s, 4 min, 2 h 5 min."""
    if seconds < _MINUTE_S:
        return f"{seconds:.{1 if seconds < _TENFOLD else 0}f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    hours, rest = divmod(round(seconds / _MINUTE_S), _MINUTE_S)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def size(count: float) -> str:
    """As 512 B, 1.2 GiB."""
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < _KIB or unit == "TiB":
            break
        count /= _KIB
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


def sentence(used: Meta) -> str:
    """What was used and its price, if there are prices."""
    parts = [f"{number(used['core_hours'])} core-hours", f"{number(used['gib_hours'])} GiB-hours"]
    if used["gpu_hours"]:
        parts.append(f"{number(used['gpu_hours'])} GPU-hours")
    text = f"{', '.join(parts)}, tunnels: free."
    return text if used["price"] is None else f"{text} {money(used['price'], used['currency'])}"
