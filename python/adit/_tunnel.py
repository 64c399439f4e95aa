"""What ``forward`` yields: a tunnel that is open, or was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ._options import to_ms, to_seconds
from .exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._opening import Opening

HTTPS_PORT = 443


@dataclass(frozen=True)
class Stats:
    """What has come through a tunnel since it was opened."""

    visitors_now: int
    """Connections that are open."""
    visitors_total: int
    """All that there have been."""
    bytes_to_app: int
    bytes_from_app: int
    app_failures: int
    """How often a visitor could not be connected to the program, or lost it."""


@dataclass(frozen=True, repr=False)
class Tunnel:
    """A forwarded port: its public addresses, which stay the same for as long as it is open, and what becomes of it. A
    copy, also one that was pickled, is of the addresses alone."""

    host: str
    """The public name, at which the relay terminates TLS."""
    port: int
    """The TLS port at that name, mostly 443."""
    unencrypted_host: str = ""
    """The relay's own name, for the raw port; empty without ``unencrypted=True``."""
    unencrypted_port: int = 0
    """The raw TCP port there; 0 without ``unencrypted=True``."""

    _opening = cast("Opening | None", None)  # but in what is no copy

    @property
    def url(self) -> str:
        """``https://...``, without the port when it is 443."""
        return f"https://{self.host}" if self.port == HTTPS_PORT else f"https://{self.host}:{self.port}"

    @property
    def tls_socket(self) -> tuple[str, int]:
        """Host and port for clients that speak TLS over TCP."""
        return self.host, self.port

    @property
    def tcp_socket(self) -> tuple[str, int]:
        """Host and port for clients that speak plain TCP, such as ``nc`` and ``ssh``."""
        if not self.unencrypted_host:
            raise InvalidError(
                "tcp_socket: this tunnel has no raw TCP port, not asked for (use forward(port, unencrypted=True))"
            )
        return self.unencrypted_host, self.unencrypted_port

    @property
    def app(self) -> str:
        """What is forwarded, such as ``localhost:8000``."""
        return self._life.request.app_name

    @property
    def name(self) -> str | None:
        """What it was called, if anything."""
        return self._life.request.name

    @property
    def closed(self) -> bool:
        """Whether it is over: closed by this program, or ended for good. A link that is lost is no end."""
        return self._life.end() is not None

    @property
    def reason(self) -> str | None:
        """Why it is over, in one word: ``"closed"`` by this program, ``"superseded"`` by another one with the same
        ``keep`` file, ``"token_revoked"``, ``"token_expired"``, ...; None while it is open."""
        end = self._life.end()
        return None if end is None else end.reason

    @property
    def stats(self) -> Stats:
        """Visitors and bytes until now, or until it was closed."""
        return self._life.stats()

    def wait(self, timeout: float | None = None) -> str | None:
        """Waits until it is over, and returns the reason; None if it is still open after ``timeout`` seconds. In an
        event loop use ``await tunnel``, which does the same."""
        return self._life.wait(None if timeout is None else to_seconds("timeout", timeout))

    def __await__(self) -> Generator[object, None, str]:
        return self._life.wait_async().__await__()

    def close(self, drain: float | None = None) -> None:
        """Closes it, as leaving its block does: ``drain`` is how many seconds its visitors have to finish, when not as
        many as ``forward`` was told. Nothing happens if it is closed already."""
        self._life.close(self._drain_ms(drain))

    async def aclose(self, drain: float | None = None) -> None:
        """:meth:`close` for use in an event loop, which goes on meanwhile."""
        await self._life.close_async(self._drain_ms(drain))

    def _drain_ms(self, drain: float | None) -> int:
        return self._life.request.drain_ms if drain is None else to_ms("drain", drain)

    @property
    def _life(self) -> Opening:
        if self._opening is None:
            raise InvalidError("tunnel: this is a copy of its addresses alone (ask the one that forward() gave you)")
        return self._opening

    def __repr__(self) -> str:
        if self._opening is None:
            return f"<adit.Tunnel {self.url}>"
        return f"<adit.Tunnel {self.url} of {self._opening.request.label}, {self.reason or 'open'}>"

    def __reduce__(self) -> tuple[type[Tunnel], tuple[str, int, str, int]]:
        return Tunnel, (self.host, self.port, self.unencrypted_host, self.unencrypted_port)


def of_opening(opening: Opening, host: str, port: int, tcp_host: str, tcp_port: int) -> Tunnel:
    made = Tunnel(host, port, tcp_host, tcp_port)
    object.__setattr__(made, "_opening", opening)
    return made
