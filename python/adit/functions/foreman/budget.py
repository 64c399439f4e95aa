"""How much others may have the foreman keep: whatever a container sends costs the caller's memory."""

from __future__ import annotations

from ...exception import RemoteError


class Budget:
    """So many bytes, shared by all that ask for some. A share of a larger one leaves the rest of that to others."""

    def __init__(self, what: str, most: int, of: Budget | None = None) -> None:
        self._what, self._most, self._of, self._taken = what, most, of, 0

    def share(self, what: str, most: int) -> Budget:
        """What one of them may have of it."""
        return Budget(what, most, self)

    def take(self, n: int) -> None:
        """RemoteError when there is no room."""
        if self._taken + n > self._most:
            raise RemoteError(f"{self._what}: there are {self._taken >> 20} MiB of them already (try again later)")
        if self._of is not None:
            self._of.take(n)
        self._taken += n

    def give(self, n: int) -> None:
        """Back."""
        self._taken -= n
        if self._of is not None:
            self._of.give(n)
