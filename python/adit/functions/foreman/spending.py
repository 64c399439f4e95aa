"""How much may be spent: when it is, no container is started until a next period begins. What has been spent is what
the store has, of all foremen that write there, as ``adit usage`` shows it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ...exception import ConfigError, Error, InvalidError
from .. import quantities
from .amounts import AMOUNTS, TABLES, Amounts
from .places import configuration_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from .prices import Prices
    from .store import Store

LOOK_S = 2.0  # between looks at the store, into which the meter writes about as often
NEVER_S = 3600.0  # after which whoever is refused for good may ask again
PERIODS = ("hour", "day", "week", "month")
_SUM = (
    f"SELECT gpu, {', '.join(f'CAST(SUM({name}) AS DOUBLE PRECISION) AS {name}' for name in AMOUNTS)}"
    " FROM usage WHERE seen >= ? AND began >= ? AND (owner = ? OR ? = '') GROUP BY gpu"
)


@dataclass(frozen=True)
class Budget:
    """So much money in each period; with an empty one, from a foreman's start to its end."""

    most: float
    period: str = ""

    def bounds(self, now: float) -> tuple[float, float]:
        """When the present period began and ends, by the clocks here."""
        if not self.period:
            return 0.0, math.inf
        begin = datetime.fromtimestamp(now).replace(minute=0, second=0, microsecond=0)
        if self.period == "hour":
            return begin.timestamp(), (begin + timedelta(hours=1)).timestamp()
        begin = begin.replace(hour=0)
        if self.period == "week":
            begin -= timedelta(days=begin.weekday())
        if self.period == "month":
            begin = begin.replace(day=1)
            return begin.timestamp(), (begin + timedelta(days=31)).replace(day=1).timestamp()
        days = {"day": 1, "week": 7}[self.period]
        return begin.timestamp(), (begin + timedelta(days=days)).timestamp()


def wanted() -> Budget | None:
    """What ADIT_BUDGET says."""
    text = os.environ.get("ADIT_BUDGET")
    try:
        return read(text) if text else None
    except InvalidError as error:
        raise ConfigError(f"ADIT_BUDGET: {error}") from None


def read(text: str) -> Budget:
    """``20/day``, or ``5``."""
    found = re.fullmatch(rf"(\d+(?:\.\d+)?)(?:/({'|'.join(PERIODS)}))?", text)
    if found is None:
        raise InvalidError(f"{text!r} is no budget (such as 20/day, 0.5/hour, 100/month; 5 is for all in all)")
    return Budget(float(found[1]), found[2] or "")


class Spending:
    """Of one foreman."""

    def __init__(
        self,
        budget: Budget,
        prices: Prices,
        store: Store,
        owner: str,
        tell: Callable[..., None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``owner`` is in the rows of what this foreman meters."""
        if not prices.are_any:
            path = configuration_path("prices.toml")
            raise ConfigError(f"--budget: there are no prices (write them into {path}, such as core_hour = 0.05)")
        self._budget, self._prices, self._store, self._tell, self._wall = budget, prices, store, tell, wall
        self._owner = "" if budget.period else owner
        self._spent, self._ends, self._trouble, self._has_told = 0.0, 0.0, "", False
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Looks, and goes on looking."""
        await self.look()
        self._looking = asyncio.create_task(self._keep_looking(), name="spending")

    def close(self) -> None:
        """It looks no more."""
        if self._looking is not None:
            self._looking.cancel()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(Exception):  # which is then why
                await self.look()

    async def look(self) -> None:
        """How much it is by now."""
        try:
            begin, end = self._budget.bounds(self._wall())
            rows = await self._store.read(TABLES, _SUM, begin, begin, self._owner, self._owner)
            used = {row.pop("gpu"): Amounts(**row) for row in rows}
            self._spent, self._ends, self._trouble = float(self._prices.sum(used)["price"]), end, ""
        except Exception as error:  # whatever it is, it is known no more
            self._trouble = str(error) if isinstance(error, Error) else f"{type(error).__name__}: {error}"
            raise
        why = self.why_not()
        if why is not None and not self._has_told:
            self._tell("note", text=f"{why}: no container is started")
        self._has_told = why is not None

    def why_not(self) -> str | None:
        """Why no container may be started; None when it may."""
        if self._trouble:
            return f"budget: it is not known what was spent: {self._trouble}"
        if self._spent < self._budget.most or self._wall() >= self._ends:
            return None
        spent, most = (quantities.money(sum, self._prices.currency) for sum in (self._spent, self._budget.most))
        if not self._budget.period:
            return f"budget: {spent} of {most} are spent (--budget gives more)"
        again = datetime.fromtimestamp(self._ends).isoformat(" ", "minutes")
        return f"budget: {spent} of {most} a {self._budget.period} are spent (try again from {again} on)"

    @property
    def again_s(self) -> float:
        """Until one may be."""
        return min(max(self._ends - self._wall(), 1.0), NEVER_S if not self._budget.period else math.inf)
