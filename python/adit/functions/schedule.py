"""``Cron`` and ``Period``: when a function of a deployed app runs by itself. To the foreman they are plain data."""

from __future__ import annotations

import calendar
import difflib
import inspect
import math
import zoneinfo
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any

from ..exception import ConfigError, InvalidError
from .known import Telling
from .session import is_local

if TYPE_CHECKING:
    from collections.abc import Callable

    from .wire import Meta

FIELDS = 5
LEAST_S = 1.0
YEARS_MOST = 100  # of a period
MONTHS = 12


class Schedule(Telling):
    """One of the two below."""

    _meta: Meta

    def __repr__(self) -> str:
        return f"adit.{text_of(self._meta)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and other._meta == self._meta

    def __hash__(self) -> int:
        return hash(repr(self))


class Cron(Schedule):
    """At times as cron has them: minute, hour, day of the month, month, day of the week. ``Cron("0 9 * * 1-5",
    timezone="Europe/Berlin")`` is nine o'clock there from Monday to Friday, in summer as in winter."""

    def __init__(self, cron_string: str, timezone: str = "UTC") -> None:
        for what, given in (("cron_string", cron_string), ("timezone", timezone)):
            if not isinstance(given, str):
                raise InvalidError(f"Cron: {what}: {given!r} is no string (such as Cron('0 9 * * *'))")
        self._meta = {"cron": " ".join(cron_string.split()), "timezone": timezone}
        if is_local():  # a container has neither time zones nor use for them
            check(self._meta)


class Period(Schedule):
    """Again and again, such as ``Period(hours=4)``: for the first time so long after the app was deployed. A month
    later is the same day of the next month, in UTC."""

    def __init__(
        self,
        *,
        years: int = 0,
        months: int = 0,
        weeks: int = 0,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: float = 0,
    ) -> None:
        counts = {"years": years, "months": months, "weeks": weeks, "days": days, "hours": hours, "minutes": minutes}
        for what, given in counts.items():
            if isinstance(given, bool) or not isinstance(given, int) or given < 0:
                raise InvalidError(f"Period: {what}: {given!r} is no whole number from 0 on")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
            raise InvalidError(f"Period: seconds: {seconds!r} is no number from 0 on")
        self._meta = {"period": {what: given for what, given in {**counts, "seconds": seconds}.items() if given}}
        check(self._meta)


def text_of(given: Meta) -> str:
    """As in a program."""
    if "cron" in given:
        return f"Cron({given['cron']!r}, timezone={given['timezone']!r})"
    return f"Period({', '.join(f'{what}={count}' for what, count in given['period'].items())})"


def check(given: Meta) -> None:
    """InvalidError for what never comes, or cannot be told here."""
    if "cron" in given:
        _after_cron(given, 0.0)
    elif not LEAST_S <= _seconds(given["period"]) <= YEARS_MOST * 366 * 86_400:
        raise InvalidError(f"{text_of(given)}: it is a second at least, and {YEARS_MOST} years at most")


def following(given: Meta, due: float, now: float) -> float:
    """When it comes next, after it was due: later than now. One that was missed is not made up for here."""
    if "cron" in given:
        return _after_cron(given, max(due, now))
    length = given["period"]
    if not (length.get("years") or length.get("months")):
        seconds = _seconds(length)
        return due + seconds * max(1, math.floor((now - due) / seconds) + 1)
    while due <= now:
        due = _later(due, length)
    return due


def _seconds(length: dict[str, float]) -> float:
    """About as long, if there are months in it."""
    days = length.get("years", 0) * 365 + length.get("months", 0) * 30
    return days * 86_400.0 + _rest(length).total_seconds()


def _rest(length: dict[str, float]) -> timedelta:
    try:
        return timedelta(**{what: count for what, count in length.items() if what not in ("years", "months")})
    except OverflowError:
        return timedelta.max


def _later(at: float, length: dict[str, Any]) -> float:
    """By so many months, on the same day or the month's last, and the rest."""
    when = datetime.fromtimestamp(at, timezone.utc)
    month = when.month - 1 + length.get("months", 0) + MONTHS * length.get("years", 0)
    year, month = when.year + month // MONTHS, month % MONTHS + 1
    day = min(when.day, calendar.monthrange(year, month)[1])
    return (when.replace(year=year, month=month, day=day) + _rest(length)).timestamp()


def _zone(name: str) -> tzinfo:
    if name == "UTC":  # is one everywhere
        return timezone.utc
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = zoneinfo.available_timezones()
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else "such as Europe/Berlin"
        hint = hint if known else "this machine has none: install tzdata"
        raise InvalidError(f"Cron: timezone: there is no {name!r} ({hint})") from None


def _after_cron(given: Meta, at: float) -> float:
    """As Debian's cron has it when clocks change: what is for a time that a day leaves out runs at the end of the gap,
    what is for one that comes twice runs the first time, and what is for every hour or minute goes on as ever."""
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise ConfigError(f"Cron: {error} (pip install 'adit[functions]')") from None
    text, zone = given["cron"], _zone(given["timezone"])
    shape = "minute hour day-of-month month day-of-week, such as '0 9 * * 1-5'"
    if len(text.split()) != FIELDS:
        raise InvalidError(f"Cron: {text!r}: it has {FIELDS} fields ({shape})")
    try:
        times = (when.timestamp() for when in CronSim(text, datetime.fromtimestamp(at, zone)))
        found = next((when for when in times if when > at), None)
    except CronSimError as error:
        raise InvalidError(f"Cron: {text!r}: {error} ({shape})") from None
    if found is None:
        raise InvalidError(f"Cron: {text!r}: that never comes ({shape})")
    return found


def check_schedule(name: str, given: Any, raw: Callable[..., Any], generator: bool, web: Any) -> Meta | None:
    """The option of a function, for which there is nobody who gives it arguments or takes what it yields."""
    if given is None:
        return None
    if not isinstance(given, (Cron, Period)):
        hint = f"Cron({given!r})" if isinstance(given, str) else "Cron('0 9 * * *') or Period(hours=4)"
        raise InvalidError(f"{name}: schedule: {given!r} is no schedule (such as {hint})")
    if web is not None:
        raise InvalidError(f"{name}: schedule: it is a web endpoint (have a function of its own for that)")
    if generator:
        raise InvalidError(f"{name}: schedule: it is a generator, whose values nobody would take (return, or print)")
    required = [
        parameter.name
        for parameter in inspect.signature(raw).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if required:
        raise InvalidError(f"{name}: schedule: nobody gives it its arguments then (defaults for {', '.join(required)})")
    return given._meta
