from collections.abc import Sequence
from os import PathLike
from typing import Optional, Union

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

_Path = Union[str, bytes, PathLike[str], PathLike[bytes], None]

class Failure(Exception): ...

class Tunnel:
    def wait_open(self, timeout_ms: int, patient: bool, /) -> None: ...
    def addresses(self) -> tuple[str, int, Optional[str], int]: ...
    def id(self) -> int: ...
    def stop_waiting(self) -> None: ...
    def close(self, drain_ms: int, /) -> None: ...

class Client:
    def __new__(cls, tokens: Sequence[str], relays: Sequence[str], ca_file: _Path, load: bool, program: _Path, /) -> Client: ...
    def forward(
        self,
        app: str,
        unencrypted: bool,
        h2: bool,
        proxy_protocol: bool,
        alpn: Optional[str],
        allow: Sequence[str],
        keep: _Path,
        /,
    ) -> Tunnel: ...
    def next_event(self) -> Optional[tuple[int, int, int, Optional[str], str]]: ...
    def relay(self) -> Optional[str]: ...
    def ca_file(self) -> Optional[str]: ...
    def close(self, drain_ms: int, /) -> None: ...

def version() -> str: ...
