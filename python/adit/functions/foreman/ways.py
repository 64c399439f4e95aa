"""How a foreman reaches the relays that a token names, as the C library does: through an HTTP proxy, where one is the
only way out, and at what ``ADIT_RELAY`` says instead."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import os
import re
import ssl
import urllib.parse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...exception import ConfigError
from .. import hosts
from .places import configuration_path

if TYPE_CHECKING:
    Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]

UNIX = "unix:"
PORT = 443
PROXY_PORTS = {"http": 1080, "https": 443}
PREFIX = "adit1_"
CHECKSUM = 4
PIN = SEED = 32
ID = 16
ANSWER_MAX = 1 << 16
DIAL_S = 10.0


@dataclass(frozen=True)
class Way:
    """To one relay: host and port, or a Unix socket's path and 0."""

    host: str
    port: int
    entry: bytes = b""
    """Of the token, which says who is to answer there."""
    straight: bool = False
    """Through no proxy: it is on this machine."""

    def narrow(self, token: str) -> str:
        """The token with this relay alone: who has it need not choose, and is carried to no other."""
        raw, _, end = _read(token)
        made = raw[:1] + b"\x01" + self.entry + raw[end:-CHECKSUM]
        made += hashlib.sha256(made).digest()[:CHECKSUM]
        return PREFIX + base64.urlsafe_b64encode(made).decode().rstrip("=")

    async def dial(self) -> Pair:
        """OSError: it cannot be reached."""
        return await asyncio.wait_for(self._dial(), DIAL_S)

    async def _dial(self) -> Pair:
        if not self.port:
            return await asyncio.open_unix_connection(self.host)
        proxy = None if self.straight else _proxy_for(self.host)
        if proxy is None:
            return await asyncio.open_connection(self.host, self.port)
        return await _connect_through(proxy, self.host, self.port)


def _read(token: str) -> tuple[bytes, list[Way], int]:
    """Its bytes, its relays and where these end (docs/protocol.md, "Token")."""
    text = token.removeprefix(PREFIX)
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    at, found = 2, []
    for _ in range(raw[1]):
        begin = at
        at += 1 + raw[at]
        host, port = raw[begin + 1 : at].decode("ascii"), int.from_bytes(raw[at : at + 2], "big")
        at += 2
        at += 1 + raw[at]
        at += 1 + (PIN if raw[at] == 1 else 0)
        found.append(Way(host, port, raw[begin:at]))
    return raw, found, at


def identities(token: str) -> tuple[str, str]:
    """Of a narrowed token: the id of the operator's that it is from, and its own."""
    raw, _, end = _read(token)
    chain = raw[end + SEED + 2 : -CHECKSUM]
    return chain[1 : 1 + ID].hex(), hashlib.sha256(chain).digest()[:ID].hex()


def ways(token: str, straight: bool = False) -> list[Way]:
    """To the relays of a token, in its order; or to what is to be dialled instead, which is that of the same host, or
    the first."""
    try:
        found = [replace(way, straight=straight) for way in _read(token)[1]]
        dialled = os.environ.get("ADIT_RELAY")
        if not dialled:
            return found
        if dialled.startswith(UNIX):
            path = dialled[len(UNIX) :]
            return [Way("\0" + path[1:] if path.startswith("@") else os.path.abspath(path), 0, found[0].entry)]
        at = urllib.parse.urlsplit(f"//{dialled}")
        host = at.hostname or ""
        same = next((way for way in found if way.host.lower() == host), found[0])
        return [Way(host, at.port or PORT, same.entry)]
    except (ValueError, IndexError):
        raise ConfigError(
            "token: the relay that it names cannot be read (is ADIT_RELAY a HOST:PORT or unix:PATH?)"
        ) from None


# --- the proxy ---


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.upper()) or ""


def _configured() -> str:
    """In the user's configuration, which comes first."""
    try:
        with open(configuration_path("config"), encoding="utf-8") as file:
            found = [re.fullmatch(r"\s*proxy\s*=\s*(\S+)\s*", line) for line in file]
    except (OSError, UnicodeDecodeError):
        return ""
    return next((match[1] for match in reversed(found) if match), "")


def _is_spared(host: str, no_proxy: str) -> bool:
    """As curl reads it."""
    at, name = hosts.address(host), hosts.plain(host)
    for entry in re.split(r"[\s,]+", no_proxy):
        spared = hosts.plain(entry.lstrip("."))
        if entry == "*" or (spared and (name == spared or (at is None and name.endswith("." + spared)))):
            return True
        if at is not None and "/" in entry:
            try:
                block = ipaddress.ip_network(entry, strict=False)
            except ValueError:
                continue
            if at.version == block.version and at in block:
                return True
    return False


def _proxy_for(host: str) -> urllib.parse.SplitResult | None:
    url = _configured()
    if not url:
        at = hosts.address(host)
        is_here = at.is_loopback if at is not None else hosts.plain(host) == "localhost"
        url = "" if is_here else _variable("https_proxy") or _variable("all_proxy")
    if not url or url == "none" or _is_spared(host, _variable("no_proxy")):
        return None
    return urllib.parse.urlsplit(url if "://" in url else f"http://{url}")


async def _connect_through(proxy: urllib.parse.SplitResult, host: str, port: int) -> Pair:
    if proxy.scheme not in PROXY_PORTS or not proxy.hostname:
        raise OSError("the HTTP proxy's URL is neither http:// nor https://")
    trust = ssl.create_default_context() if proxy.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        proxy.hostname, proxy.port or PROXY_PORTS[proxy.scheme], ssl=trust, limit=ANSWER_MAX
    )
    try:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.username is not None:
            pair = f"{urllib.parse.unquote(proxy.username)}:{urllib.parse.unquote(proxy.password or '')}"
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not re.match(rb"HTTP/1\.[01] 2\d\d", head):
            raise OSError(f"the HTTP proxy does not let it through: {head.splitlines()[0]!r}")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        writer.close()
        raise OSError(f"the HTTP proxy does not answer: {error}") from None
    except BaseException:
        writer.close()
        raise
    return reader, writer
