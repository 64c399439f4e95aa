"""What ``forward`` yields: the addresses of one tunnel."""

from __future__ import annotations

from dataclasses import dataclass

from .exception import InvalidError

HTTPS_PORT = 443


@dataclass(frozen=True)
class Tunnel:
    """The public addresses of a forwarded port. They stay the same for as long as the tunnel is open."""

    host: str
    """The public name, at which the relay terminates TLS."""
    port: int
    """The TLS port at that name, mostly 443."""
    unencrypted_host: str = ""
    """The relay's own name, for the raw port; empty without ``unencrypted=True``."""
    unencrypted_port: int = 0
    """The raw TCP port there; 0 without ``unencrypted=True``."""

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
