"""What a token for somebody else is to be narrower in, checked, and in the words of the library."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, SupportsIndex

from ._options import to_words
from .exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsFloat

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1
SECONDS_MAX = 2**40  # some 35,000 years


def to_wish(
    *,
    expires: SupportsFloat | SupportsIndex | None,
    max_tunnels: SupportsIndex | None,
    max_streams: SupportsIndex | None,
    max_visitors_per_s: SupportsIndex | None,
    max_rate: SupportsIndex | None,
    raw: bool,
    allow: str | Iterable[str],
    name: str | None,
) -> dict[str, object]:
    """By their names in adit.h; None: as one's own."""
    if name is not None and not isinstance(name, str):
        raise InvalidError(f"name: {name!r} is no string")
    return {
        "name": name,
        "expires_s": to_seconds(expires),
        "max_tunnels": _to_limit("max_tunnels", max_tunnels, U32_MAX),
        "max_streams": _to_limit("max_streams", max_streams, U32_MAX),
        "max_visitors_per_s": _to_limit("max_visitors_per_s", max_visitors_per_s, U32_MAX),
        "max_rate": _to_limit("max_rate", max_rate, U64_MAX),
        "no_raw": not raw,
        "allow": to_words("allow", allow),
    }


def _to_limit(name: str, given: object, most: int) -> int | None:
    if given is None:
        return None
    if not isinstance(given, SupportsIndex) or isinstance(given, bool):
        raise InvalidError(f"{name}: {given!r} is a {type(given).__name__}, not an int (such as {name}=10)")
    number = operator.index(given)
    if not 1 <= number <= most:
        raise InvalidError(f"{name}: {given} is not a number from 1 on (leave it out for as much as the token has)")
    return int(number)


def to_seconds(given: SupportsFloat | SupportsIndex | None) -> int | None:
    """Whole ones, and not less than was asked for."""
    if given is None:
        return None
    try:
        seconds = math.nan if isinstance(given, (bool, str)) else float(given)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 < seconds <= SECONDS_MAX:
        raise InvalidError(f"expires: {given!r} is not a number of seconds from now on (such as expires=3600)")
    return math.ceil(seconds)
