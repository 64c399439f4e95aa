"""What may be asked of a foreman, and by whom: each verb is a function that ``@verb`` enters into a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...exception import InvalidError, NotFoundError
from .shelf import ONCE_MAX
from .store import can_keep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..wire import Meta
    from .apps import App
    from .foreman import Foreman
    from .store import Statement
    from .worker import Worker

WAIT_MAX_S = 60.0


@dataclass(frozen=True)
class Asked:
    """One question. A container's worker is known by the socket that it came from; the caller has none."""

    foreman: Foreman
    worker: Worker | None
    meta: Meta
    payload: bytes

    @property
    def wait(self) -> float:
        """How long the answer may take, in seconds."""
        wait = self.meta.get("wait", 0)
        return min(float(wait), WAIT_MAX_S) if isinstance(wait, (int, float)) else 0.0

    @property
    def once(self) -> str:
        """What whoever asks calls the question, who asks again when he does not hear the answer. Empty for a foreman
        that is asked no more when it has ended."""
        once = str(self.meta.get("once", ""))[:ONCE_MAX] if self.foreman.returns else ""
        if not can_keep(once):
            raise InvalidError("once: it has characters that cannot be kept")
        return once

    async def answered(self) -> Answer | None:
        """What was answered to it before, or is about to be, as soon as that is written down."""
        found = await self.foreman.answers.written(self.once)
        return None if found is None else Answer(*found)

    def note(self, meta: Meta, payload: bytes = b"") -> tuple[Statement, ...]:
        """What is about to be answered, and is to be written along with what was done for it."""
        return self.foreman.answers.note(self.once, meta, payload)

    @property
    def app(self) -> App:
        """A container's own, or the one that the caller names: by its id, or a deployed one by its name."""
        if self.worker is not None:
            return self.worker.pool.app
        name = str(self.meta["app"])
        app = self.foreman.apps.get(name) or self.foreman.find_deployed(name)
        if app is None:
            raise NotFoundError(f"app {self.meta['app']}: there is none of that name (see: adit app list)")
        return app

    @property
    def past_app(self) -> App:
        """The app, or one that has ended, of which only its news are left."""
        name = str(self.meta["app"])
        ended = (app for app in reversed(self.foreman.ended) if name in (app.id, app.name))
        return self.foreman.find_app(name) or next(ended, None) or self.app

    @property
    def trusted(self) -> bool:
        """Whether whoever reads what is sent may load it as a pickle."""
        return self.worker is None or self.app.spec.trusted

    @property
    def container(self) -> Worker:
        """Whose verb this is."""
        assert self.worker is not None
        return self.worker


@dataclass(frozen=True)
class Answer:
    """What is sent back. ``undo`` is called when that cannot be done, ``sent`` when it is."""

    meta: Meta
    payload: bytes = b""
    undo: Callable[[], Awaitable[None]] | None = None
    sent: Callable[[], None] | None = None


NOT_YET = Answer({"not_yet": True})

if TYPE_CHECKING:
    Verb = Callable[[Asked], Awaitable[Answer]]

CALLER: dict[str, Verb] = {}
RUNNER: dict[str, Verb] = {}


def verb(*tables: dict[str, Verb]) -> Callable[[Verb], Verb]:
    """Enters a function, under its name, for those who may ask it."""

    def enter(function: Verb) -> Verb:
        for table in tables:
            table[function.__name__] = function
        return function

    return enter
