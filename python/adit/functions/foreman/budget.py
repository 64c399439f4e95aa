"""How much others may have the foreman keep: whatever a container sends costs the caller's memory."""

from __future__ import annotations

from ...exception import RemoteError


class Budget:
    """So many bytes, shared by all that ask for some."""

    def __init__(self, what: str, most: int) -> None:
        self._what, self._most, self._taken = what, most, 0

    def has(self, n: int) -> bool:
        """Whether there is room for so many more."""
        return self._taken + n <= self._most

    def take(self, n: int) -> None:
        """RemoteError when there is no room."""
        if not self.has(n):
            raise RemoteError(f"{self._what}: there are {self._most >> 20} MiB of them already (try again later)")
        self._taken += n

    def give(self, n: int) -> None:
        """Back."""
        self._taken -= n
