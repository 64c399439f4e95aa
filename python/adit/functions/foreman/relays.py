"""The way out for tunnels of containers, which have no network: a relay, and a token for each container. Without a
configured relay, one on this machine that ends with the foreman."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import subprocess
from typing import TYPE_CHECKING

from ... import _program
from ...exception import ConfigError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TUNNELS = 5
START_S = 20.0
CHUNK = 1 << 18


def dial_address(token: str) -> tuple[str, int]:
    """Of the first relay that a token names (docs/protocol.md, "Token")."""
    try:
        raw = base64.urlsafe_b64decode(token.removeprefix("adit1_") + "===")
        size = raw[2]
        host = raw[3 : 3 + size].decode("ascii")
        return host, int.from_bytes(raw[3 + size : 5 + size], "big")
    except (ValueError, IndexError):
        raise ConfigError("token: it cannot be read (it is the one word that adit token create printed)") from None


def configured_token() -> str | None:
    """The user's own, if there is one: of the environment, or stored by adit login."""
    if token := os.environ.get("ADIT_TOKEN"):
        return token
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    with contextlib.suppress(OSError), open(os.path.join(folder, "adit", "config"), encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition("=")
            if key.strip() == "token":
                return value.strip()
    return None


class Relay:
    """The relay of a foreman's containers."""

    def __init__(self) -> None:
        self._starting = asyncio.Lock()
        self._token: str | None = None
        self._state: str | None = None  # the embedded one's folder; None with a configured one
        self._process: subprocess.Popen[bytes] | None = None
        self._alive: socket.socket | None = None
        self.address: tuple[str, int] = ("", 0)
        self.ca_file: str | None = None

    async def open(self) -> str:
        """Starts it if need be. The foreman's own token."""
        async with self._starting:
            if self._token is None:
                self._token = configured_token()
                if self._token is None:
                    if os.environ.get("ADIT_EMBEDDED") == "0":
                        raise ConfigError("token: there is none, and ADIT_EMBEDDED=0 forbids a relay on this machine")
                    await self._start()
                assert self._token is not None
                self.address = dial_address(self._token)
                if dialled := os.environ.get("ADIT_RELAY"):
                    host, _, port = dialled.rpartition(":")
                    self.address = host.strip("[]"), int(port)
        return self._token

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220
                [_program.PATH, "relay", "--embedded", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us, who end it in order
            )
        self._alive = ours
        ours.setblocking(False)
        reader, _ = await asyncio.open_connection(sock=ours)
        try:
            words = [(await asyncio.wait_for(reader.readline(), START_S)).decode().split(" ", 1) for _ in range(2)]
        except asyncio.TimeoutError:
            words = []
        if [w[0] for w in words] != ["TOKEN", "CA"]:
            said = words[0][-1].strip() if words else "it does not start to listen"
            raise RemoteError(f"embedded relay: {said} (run `adit relay` by hand to see why)")
        self._token, ca_file = words[0][1].strip(), words[1][1].strip()
        self.ca_file = ca_file
        self._state = os.path.dirname(ca_file)
        self._reader = reader

    async def token_for(self, name: str, seconds: float) -> str:
        """A token of a container's own, good for so long. With a configured relay it is the user's."""
        own = await self.open()
        if self._state is None:
            return own
        host, port = self.address
        command = [_program.PATH, "token", "create", name, "--state", self._state, "--domain", "adit.localhost"]
        command += ["--relay", f"{host}:{port}", "--expires", f"{round(seconds)}s", "--max-tunnels", str(TUNNELS)]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, said = await process.communicate()
        if process.returncode != 0:
            raise RemoteError(f"embedded relay: no token for {name}: {said.decode(errors='replace').strip()}")
        return out.decode().strip()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a container to the relay."""
        await self.open()
        await join(reader, writer, lambda: asyncio.open_connection(*self.address))

    async def close(self) -> None:
        """Ends the one on this machine."""
        if self._alive is not None:
            with contextlib.suppress(OSError):
                self._alive.shutdown(socket.SHUT_RDWR)
            self._alive.close()
        if self._process is not None:
            try:
                await asyncio.to_thread(self._process.wait, 2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)


async def join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    dial: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]],
) -> None:
    """Copies bytes between a connection and one that it dials, each direction to its own end; a reset is passed on."""
    try:
        other_reader, other_writer = await dial()
    except OSError:
        writer.transport.abort()
        return

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
        sink.write_eof()

    both = asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))
    try:
        await both
    except (OSError, RuntimeError):
        both.cancel()
        writer.transport.abort()
        other_writer.transport.abort()
    finally:
        both.cancel()
        for end in (writer, other_writer):
            end.close()
