"""What was used, as numbers, and its table in the store: a row for each container (and image step, and web endpoint's
tunnel) and quarter of an hour."""

from __future__ import annotations

import secrets
from dataclasses import astuple, dataclass, field, fields
from typing import TYPE_CHECKING

from ..engine import SAMPLED
from .store import Row, Statement, Tables

if TYPE_CHECKING:
    from ..engine import Gpu
    from ..spec import FunctionSpec

CONTAINER, BUILD, TUNNEL, SPARE = "container", "build", "tunnel", "spare"


@dataclass(frozen=True)
class Bill:
    """Whom something is for, and what was asked for."""

    app: str
    function: str
    run: str = ""
    """The id of the running app."""
    kind: str = CONTAINER
    cpus: float = 0.0
    memory_bytes: int = 0
    gpu: str = ""
    gpus: int = 0

    @classmethod
    def of(cls, spec: FunctionSpec, app: str, run: str, gpus: list[Gpu]) -> Bill:
        """Of a function's container."""
        gpu = gpus[0].name if gpus else ""
        return cls(app, spec.name, run, CONTAINER, spec.cpu[0], spec.memory[0] << 20, gpu, len(gpus))

    @classmethod
    def of_spare(cls, app: str) -> Bill:
        """Of a container that nobody has asked for yet."""
        return cls("(spares)", app, kind=SPARE)


@dataclass
class Amounts:
    """What was used."""

    seconds: float = 0.0
    cpu_ns: int = 0
    memory_byte_s: float = 0.0
    cpu_most_ns: int = 0
    """At each moment what was used or what was asked for, whichever was more; so with memory."""
    memory_most_byte_s: float = 0.0
    gpu_s: float = 0.0
    streams: int = 0
    """Visitors of tunnels; and what passed between them and the programs."""
    bytes: int = 0
    bytes_said: int = 0
    """Of these, what is only a container's own word."""

    def add(self, other: Amounts) -> None:
        """Some more."""
        for name in AMOUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def since(self, before: Amounts) -> Amounts:
        """What has come to it."""
        return Amounts(**{name: getattr(self, name) - getattr(before, name) for name in AMOUNTS})

    def copy(self) -> Amounts:
        """As it is now."""
        return self.since(Amounts())


AMOUNTS = tuple(f.name for f in fields(Amounts))


@dataclass
class Period:
    """A row: what something used, within a quarter of an hour. Times are of the wall clock."""

    source: str
    """The container's id, or another that is as good."""
    owner: str
    """The process of the foreman, as in its containers' labels."""
    control_group: str
    """Which has the last word when the foreman has died; empty without one."""
    bill: Bill
    began: float
    seen: float
    ended: bool = False
    how: str = SAMPLED
    calls: int = 0
    cpu_limit: float = 0.0
    memory_limit: int = 0
    memory_peak: int = 0
    used: Amounts = field(default_factory=Amounts)
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def to_statement(self) -> Statement:
        """Enters it, or what it has become."""
        b = self.bill
        return (
            _PUT,
            *(self.id, self.source, self.owner, self.control_group, b.kind, b.app, b.function, b.run),
            *(self.began, self.seen, int(self.ended), self.how, self.calls, b.cpus, b.memory_bytes),
            *(self.cpu_limit, self.memory_limit, self.memory_peak, b.gpu, b.gpus),
            *astuple(self.used),
        )


_COLUMNS = (
    *("id", "source", "owner", "control_group", "kind", "app", "function", "run", "began", "seen", "ended", "how"),
    *("calls", "cpu_request", "memory_request", "cpu_limit", "memory_limit", "memory_peak", "gpu", "gpus", *AMOUNTS),
)
_PUT = (
    f"INSERT INTO usage ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
)

TABLES = Tables(
    "usage",
    (
        """CREATE TABLE usage (
            id TEXT PRIMARY KEY, source TEXT NOT NULL, owner TEXT NOT NULL, control_group TEXT NOT NULL,
            kind TEXT NOT NULL, app TEXT NOT NULL, function TEXT NOT NULL, run TEXT NOT NULL,
            began DOUBLE PRECISION NOT NULL, seen DOUBLE PRECISION NOT NULL, ended BIGINT NOT NULL, how TEXT NOT NULL,
            calls BIGINT NOT NULL, cpu_request DOUBLE PRECISION NOT NULL, memory_request BIGINT NOT NULL,
            cpu_limit DOUBLE PRECISION NOT NULL, memory_limit BIGINT NOT NULL, memory_peak BIGINT NOT NULL,
            gpu TEXT NOT NULL, gpus BIGINT NOT NULL, seconds DOUBLE PRECISION NOT NULL, cpu_ns BIGINT NOT NULL,
            memory_byte_s DOUBLE PRECISION NOT NULL, cpu_most_ns BIGINT NOT NULL,
            memory_most_byte_s DOUBLE PRECISION NOT NULL, gpu_s DOUBLE PRECISION NOT NULL, streams BIGINT NOT NULL,
            bytes BIGINT NOT NULL)""",
        "CREATE INDEX usage_seen ON usage (seen)",
        "CREATE INDEX usage_ended ON usage (ended)",
        "CREATE INDEX usage_source ON usage (source)",
        "ALTER TABLE usage ADD COLUMN bytes_said BIGINT NOT NULL DEFAULT 0",
        f"UPDATE usage SET bytes_said = bytes WHERE kind = '{CONTAINER}'",
    ),
)


def amounts_of(row: Row) -> Amounts:
    """What it says was used."""
    return Amounts(**{name: row[name] for name in AMOUNTS})
