"""What users say of a tunnel, checked, and in the words of the library. An option more is a line in ``Options``, in
``to_request`` and in ``forward``, and a row in ``src/_adit.c``."""

from __future__ import annotations

import math
import operator
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsFloat, SupportsIndex, TypedDict, TypeVar

from .exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._events import Event

PORT_MAX = 65535
UNIX = "unix:"
_T = TypeVar("_T")


class Options(TypedDict, total=False):
    """Those of :func:`forward`, but for the client."""

    host: str | None
    unencrypted: bool
    h2_enabled: bool
    allow: str | Iterable[str]
    deny: str | Iterable[str]
    proxy_protocol: bool
    keep: str | os.PathLike[str] | None
    alpn: str | Iterable[str]
    name: str | None
    app_wait: float | None
    drain: float
    timeout: float
    retry: float | bool | None
    on_event: Callable[[Event], object] | None


@dataclass(frozen=True)
class Request:
    """A tunnel as it is asked for."""

    app: str
    """In the words of adit_forward()."""
    options: dict[str, object]
    """By their names in adit.h."""
    drain_ms: int
    timeout_ms: int
    on_event: Callable[[Event], object] | None

    @property
    def retries(self) -> bool:
        """It goes on trying, for as long as the library is told to."""
        return self.options["retry_ms"] != 0

    @property
    def app_name(self) -> str:
        return f"localhost:{self.app}" if self.app.isdigit() else self.app

    @property
    def name(self) -> str | None:
        name = self.options["name"]
        return name if isinstance(name, str) and name else None

    @property
    def label(self) -> str:
        """For people."""
        return self.app_name if self.name is None else f"{self.name} at {self.app_name}"

    @property
    def called(self) -> str | int:
        """What :func:`tunnels` finds it by."""
        return self.name or (int(self.app) if self.app.isdigit() else self.app)

    def is_called(self, name: str) -> bool:
        host, _, port = self.app_name.rpartition(":")
        ways = {self.name, self.app, self.app_name}
        if host == "localhost":  # which means this machine
            ways |= {port, f"127.0.0.1:{port}", f"[::1]:{port}"}
        return name in ways


default_app_wait: float | None = None  # in seconds; None leaves it to the library


def to_request(port: object, given: Options) -> Request:
    """``given`` has all of them."""
    app = _to_app(port, given["host"])
    if given["h2_enabled"] and given["unencrypted"]:
        raise InvalidError(
            "h2_enabled: it goes with TLS only, and unencrypted=True asks for a raw port (leave out one of them)"
        )
    app_wait = default_app_wait if given["app_wait"] is None else given["app_wait"]
    options: dict[str, object] = {
        "unencrypted": bool(given["unencrypted"]),
        "h2": bool(given["h2_enabled"]),
        "proxy_protocol": bool(given["proxy_protocol"]),
        "alpn": _check_alpn(given["alpn"], given["h2_enabled"]),
        "allow": to_words("allow", given["allow"]),
        "deny": to_words("deny", given["deny"]),
        "keep_file": given["keep"],
        "name": given["name"],
        "app_wait_ms": None if app_wait is None else to_ms("app_wait", app_wait) or -1,
        "retry_ms": to_retry_ms(given["retry"]),
    }
    return Request(
        app,
        options,
        to_ms("drain", given["drain"]),
        to_ms("timeout", given["timeout"]),
        to_callback("on_event", given["on_event"]),
    )


def _to_app(port: object, host: object) -> str:
    if host is not None and (not isinstance(host, str) or not host):
        raise InvalidError(f'host: {host!r} is no name or address (such as forward(8000, host="db"))')
    if host is None and isinstance(port, str) and not port.isdigit():
        path = port[len(UNIX) :] if port.startswith(UNIX) else ""
        # What else may be wrong with it the library tells.
        return port if not path or path[0] in "/@" else UNIX + os.path.join(os.getcwd(), path)
    number = _check_port(port)
    if host is None:
        return str(number)
    return f"[{host}]:{number}" if ":" in host and not host.startswith("[") else f"{host}:{number}"


def _check_port(port: object) -> int:
    if not isinstance(port, SupportsIndex) or isinstance(port, bool):
        raise InvalidError(f"port: {port!r} is a {type(port).__name__}, not an int (such as forward(8000))")
    number = operator.index(port)
    if not 1 <= number <= PORT_MAX:
        raise InvalidError(f"port: {port} is not within 1..{PORT_MAX} (give the port that your program listens on)")
    return int(number)  # a subclass may call itself what it likes


def _check_alpn(given: str | Iterable[str], h2_enabled: bool) -> str | None:
    words = to_words("alpn", given)
    protocols = ",".join(words)
    if not h2_enabled and "h2" in [p.strip() for p in protocols.split(",")]:
        raise InvalidError("alpn: h2 has an option of its own (use h2_enabled=True)")
    return protocols if words else None


def to_ms(name: str, given: SupportsFloat | SupportsIndex) -> int:
    """A duration as users give it, in the library's unit."""
    return round(to_seconds(name, given, 2**31 / 1000 - 1) * 1000)


def to_seconds(name: str, given: SupportsFloat | SupportsIndex, at_most: float = math.inf) -> float:
    try:
        seconds = math.nan if isinstance(given, (bool, str)) else float(given)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds <= at_most:
        raise InvalidError(f"{name}: {given!r} is not a number of seconds from 0 on (such as {name}=10)")
    return seconds


def to_retry_ms(given: float | bool | None) -> int:
    if given is None or isinstance(given, bool):
        return -1 if given else 0
    ms = to_ms("retry", given)
    if ms == 0:
        raise InvalidError("retry: 0 is no time (give a number of seconds, or True for as long as it takes)")
    return ms


def to_words(name: str, given: str | Iterable[str]) -> list[str]:
    """One string or several."""
    try:
        words = [given] if isinstance(given, str) else list(given)
    except TypeError:
        words = [None]  # type: ignore[list-item]
    if not all(isinstance(word, str) for word in words):
        raise InvalidError(f"{name}: {given!r} is neither a string nor a list of strings")
    return words


def to_word(name: str, given: str | None) -> str | None:
    if given is not None and not isinstance(given, str):
        raise InvalidError(f"{name}: {type(given).__name__} given (give a string)")  # which may be a secret
    return given


def to_callback(name: str, given: _T) -> _T:
    if given is not None and not callable(given):
        raise InvalidError(f"{name}: {given!r} cannot be called (give a function that takes an adit.Event)")
    return given
