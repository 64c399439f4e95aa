from collections.abc import Sequence
from os import PathLike
from typing import final

EINVAL: int
ENOMEM: int
ECONFIG: int
EUNREACHABLE: int
EAUTH: int
EREFUSED: int
ECONFLICT: int
ETIMEDOUT: int
ECLOSED: int
EFORKED: int
ESYSTEM: int
EVENT_OPEN: int
EVENT_RECONNECTING: int
EVENT_RESTORED: int
EVENT_WARNING: int
EVENT_SUPERSEDED: int
EVENT_CLOSED: int

_Path = str | bytes | PathLike[str] | PathLike[bytes] | None

class Failure(Exception): ...

@final
class Tunnel:
    def wait_open(self, timeout_ms: int, patient: bool, /) -> None: ...
    def addresses(self) -> tuple[str, int, str | None, int]: ...
    def finish(self, timeout_ms: int, /) -> bool: ...
    def stop_waiting(self) -> None: ...
    def close(self) -> None: ...

@final
class Client:
    def __new__(
        cls, tokens: Sequence[str], relays: Sequence[str], load: bool, program: _Path, /, **settings: object
    ) -> Client: ...
    def forward(self, app: str, /, **options: object) -> Tunnel: ...
    def next_event(self) -> tuple[int, int, str | None, str] | None: ...
    def relay(self) -> str | None: ...
    def ca_file(self) -> str | None: ...
    def close(self) -> None: ...

def version() -> str: ...
