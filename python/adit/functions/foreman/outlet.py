"""The way out of a container that may reach some hosts and no others: an HTTP proxy at a socket of its own. What is
checked is the name that is asked for, and then the very address that is dialled, so that a name cannot lead to what is
private, whatever its owner has it say from one moment to the next."""

from __future__ import annotations

import asyncio
import re
import socket
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from .. import hosts
from . import descriptors, unix
from .relays import join

if TYPE_CHECKING:
    from ..hosts import Address, Rule

HTTP = 80
HEAD_MAX = 1 << 16
HEAD_S = 30.0
DIAL_S = 10.0
CONNECTIONS = 128  # of one container
LOOKED_UP = 2  # names at once: a server of names that does not answer keeps a thread for long
ACCEPTED = 16  # at once, before the first of them counts
_HOP = ("proxy-", "connection:", "keep-alive:", "host:")
_SEVERAL = 3  # parts of a request line


class RefusedError(Exception):
    """With the status and the words for whoever asked."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def _asked(line: str) -> tuple[str, int, str]:
    """Host, port, and the request line to pass on, which is empty where a connection is asked for."""
    parts = line.split(" ")
    if len(parts) != _SEVERAL or not parts[2].startswith("HTTP/1."):
        raise RefusedError("400 Bad Request", "this is no request to an HTTP proxy")
    method, target, version = parts
    try:
        at = urllib.parse.urlsplit(f"//{target}" if method == "CONNECT" else target)
        host, port = at.hostname or "", at.port
    except ValueError:
        raise RefusedError("400 Bad Request", "this is no host and port") from None
    if method == "CONNECT":
        if not host or port is None or at.netloc != target or "@" in target:
            raise RefusedError("400 Bad Request", "CONNECT wants HOST:PORT")
        return host, port, ""
    if at.scheme != "http" or not host:
        raise RefusedError("400 Bad Request", "an HTTP proxy is asked for http://HOST/, or to CONNECT")
    path = (at.path or "/") + (f"?{at.query}" if at.query else "")
    return host, port or HTTP, f"{method} {path} {version}"


class Outlet:
    """Of one container."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules
        self._open = 0
        self._threads = ThreadPoolExecutor(LOOKED_UP, "outlet")  # its own, so that nobody else waits for its names

    async def listen(self, path: str) -> asyncio.Server:
        """At that socket."""
        return await asyncio.start_unix_server(self._serve, sock=unix.bind(path), backlog=ACCEPTED, limit=HEAD_MAX)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= CONNECTIONS or (self._open >= descriptors.FEW and descriptors.are_short()):
            writer.transport.abort()
            return
        self._open += 1
        try:
            await self._pass(reader, writer)
        except RefusedError as refusal:
            body = f"adit: {refusal.text}\n".encode()
            head = f"HTTP/1.1 {refusal.status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            pass  # it has gone, or does not say what it wants
        finally:
            self._open -= 1
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_S)
        lines = head.decode("latin-1").split("\r\n")[:-2]
        host, port, request = _asked(lines[0])
        far_reader, far_writer = await self._dial(host, port)
        if request:
            kept = [line for line in lines[1:] if not line.lower().startswith(_HOP)]
            shown = f"[{host}]" if ":" in host else host
            name = f"Host: {shown}{'' if port == HTTP else f':{port}'}"
            far_writer.write("\r\n".join([request, name, "Connection: close", *kept, "", ""]).encode("latin-1"))
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await join(reader, writer, far_reader, far_writer)

    async def _dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        why = "none of its addresses can be reached"
        for at in await self._addresses(host, port):
            try:
                return await asyncio.wait_for(asyncio.open_connection(str(at), port), DIAL_S)
            except asyncio.TimeoutError:
                why = f"no answer within {DIAL_S:g} s"
            except OSError as error:
                why = error.strerror or str(error)
        raise RefusedError("502 Bad Gateway", f"{host}:{port}: {why}")

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """Those that may be dialled. A name that is not in the list is not looked up: that would tell its owner."""
        at, name = hosts.address(host), hosts.plain(host)
        if at is None and not any(rule.names(name, port) for rule in self._rules):
            raise RefusedError("403 Forbidden", f"{host}:{port} is not in the function's network=[...]")
        found = [at] if at is not None else await _look_up(host, port, self._threads)
        allowed = [
            a for a in found if any(rule.has(a, port) for rule in self._rules) or (at is None and hosts.is_public(a))
        ]
        if allowed:
            return allowed
        if at is not None:
            raise RefusedError("403 Forbidden", f"{host}:{port} is not in the function's network=[...]")
        text = f"{host} has no public address ({', '.join(map(str, found))}): name its block in network=[...], too"
        raise RefusedError("403 Forbidden", text)


async def _look_up(host: str, port: int, threads: ThreadPoolExecutor) -> list[Address]:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", host):
        raise RefusedError("400 Bad Request", "this is no name of a host")
    look = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(threads, look), DIAL_S)
    except (OSError, UnicodeError, asyncio.TimeoutError):
        raise RefusedError("502 Bad Gateway", f"{host}: no such host is known") from None
    addresses = [hosts.address(str(entry[4][0]).partition("%")[0]) for entry in found]
    return [at for at in dict.fromkeys(addresses) if at is not None]
