"""What a container may reach of the network, where that is a list: names, addresses and blocks of them."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from ..exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Block = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

HOSTS_MAX = 256
PORT_MAX = 65_535
_LARGEST = {4: 8, 6: 7}  # of private blocks: 10.0.0.0/8, fc00::/7
_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_FORMS = 'such as "example.com", "*.example.com", "example.com:443", "10.1.2.3:5432", "10.0.0.0/8"'
# Addresses that look like any other and lead to what is private: through translators of IPv4, and to a cloud's own.
_NOT_PUBLIC = [*map(ipaddress.ip_network, ("2002::/16", "2001::/32", "3fff::/20", "168.63.129.16/32"))]
# The rest of IPv6 is given to nobody, or to translators and to what is local.
_PUBLIC = [*map(ipaddress.ip_network, ("0.0.0.0/0", "2000::/3"))]
_MAPPED = 96  # bits before an address of IPv4
_RTM_GETROUTE, _NLM_F_REQUEST, _RTA_DST = 26, 1, 1
_RTM_NEWROUTE, _RTN_LOCAL, _RTN_ANYCAST = 24, 2, 4


def plain(name: str) -> str:
    """A name as it is compared."""
    return name.rstrip(".").lower()


def address(text: str) -> Address | None:
    """Of an address in numbers; None: it is a name. One of IPv4 is that in every dress."""
    try:
        found = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_public(at: Address) -> bool:
    """Not of this machine, a private network, a cloud's metadata, or whatever else is nobody's in the Internet."""
    special = at.is_multicast or any(at in b for b in _NOT_PUBLIC) or not any(at in b for b in _PUBLIC)
    return at.is_global and not special and not is_own(at)


def is_own(at: Address) -> bool:
    """Whether this machine has it, public or not, by what the kernel says of the way there."""
    where = struct.pack("=HH", 4 + len(at.packed), _RTA_DST) + at.packed
    family = socket.AF_INET if isinstance(at, ipaddress.IPv4Address) else socket.AF_INET6
    route = struct.pack("=8BI", family, at.max_prefixlen, *[0] * 7)
    head = struct.pack("=IHHII", 16 + len(route) + len(where), _RTM_GETROUTE, _NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as kernel:
        kernel.send(head + route + where)
        answer = kernel.recv(4096)
    _, kind, _, _, _, _, _, _, _, _, _, _, way = struct.unpack_from("=IHHII8B", answer)
    return kind == _RTM_NEWROUTE and way in (_RTN_LOCAL, _RTN_ANYCAST)


def _is_private(block: Block) -> bool:
    """Whether it has no public address."""
    return block.prefixlen >= _LARGEST[block.version] and not is_public(block[0]) and not is_public(block[-1])


@dataclass(frozen=True)
class Rule:
    """One entry of the list. A port of 0 is every one."""

    name: str = ""
    block: Block | None = None
    port: int = 0

    def names(self, name: str, port: int) -> bool:
        """Whether it is about that name."""
        if not self.name or (self.port and self.port != port):
            return False
        return name.endswith(self.name[1:]) if self.name.startswith("*.") else name == self.name

    def has(self, at: Address, port: int) -> bool:
        """Whether it is about that address. A block that has public ones in it too does not mean what is private."""
        if self.block is None or at.version != self.block.version or at not in self.block:
            return False
        return self.port in (0, port) and (is_public(at) or _is_private(self.block))


def _split(text: str) -> tuple[str, str]:
    """Host and port, if there is one."""
    if found := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text):
        return found[1], found[2] if found[2] is not None else ""
    host, colon, port = text.rpartition(":")
    return (host, port) if colon and ":" not in host else (text, "")


def _block(text: str, is_strict: bool) -> Block:
    """One of IPv4 is that in every dress."""
    found = ipaddress.ip_network(text, strict=is_strict)
    mapped = getattr(found[0], "ipv4_mapped", None)
    if mapped is None or found.prefixlen < _MAPPED:
        return found
    return ipaddress.IPv4Network((int(mapped), found.prefixlen - _MAPPED))


def read_rule(text: str) -> Rule:
    """ValueError: it is none."""
    host, port = _split(text.strip())
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= PORT_MAX):
        raise ValueError(f"{port} is no port")
    if text.rstrip().endswith(":"):
        raise ValueError("its port is missing")
    number = int(port) if port else 0
    try:
        return Rule(block=_block(host, is_strict="/" in host), port=number)
    except ValueError:
        if "/" in host or ":" in host or not re.search("[a-z]", plain(host).rpartition(".")[2]):
            raise
    if not _NAME.fullmatch(plain(host)):
        raise ValueError("it is no name of a host")
    return Rule(plain(host), port=number)


def read_rules(given: Iterable[str]) -> list[Rule]:
    """Of entries that were checked."""
    return [read_rule(text) for text in given]


def check_hosts(what: str, given: object) -> list[str]:
    """The option ``network=`` where it is neither True nor False."""
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(text, str) for text in given):
        raise InvalidError(f"{what}: network: {given!r} is neither True, False nor a list of hosts ({_FORMS})")
    if len(given) > HOSTS_MAX:
        raise InvalidError(f"{what}: network: it has more than {HOSTS_MAX} hosts (give blocks of addresses, or True)")
    for text in given:
        try:
            read_rule(text)
        except ValueError as error:
            raise InvalidError(f"{what}: network: {text!r}: {error} ({_FORMS})") from None
    return list(given)
