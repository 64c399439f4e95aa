"""Where Pods reach their foreman: a tunnel of its own, by which each comes to the sockets that were opened for it, and
to no other's. What it shows for that are 256 bits, made for it and good for as long as it lives. Strangers come here as
well: they are heard for a moment, and so many at once.

The gate of a foreman that comes back is at the same address then, and knows those that it let in before by the same
bits: these are made of the Pod's id and of a key, which is kept beside the address."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import shutil
import socket
import ssl
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

from ... import Client
from ...exception import ConfigError, Error
from .. import carried, pod
from ..foreman import descriptors, places
from . import REPORTED, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ... import Tunnel
    from ..._forward import Forward
    from ..carried import Pair
    from ..foreman.ways import Way
    from . import Resources

STRANGERS = 64  # who have not yet said who they are; when there are more, whoever has been silent for longest goes
HELLO_S, HELLO_MAX = 10.0, 256
HAND_OVER_S = SHAKE_S = 10.0
AGAIN_S = 0.3
KEY_BYTES = 32
CONNECTIONS = 320  # of one Pod, with those that wait for visitors
LINE_MAX = 4096
PING_S = 3.0
ANSWER_S, MUTE_S = 4.0, 10.0


class Guest:
    """One Pod, as the gate knows it. ``folder`` has its sockets. What comes from it may be the function's own words, as
    that can read whatever its Pod shows here: more than its ``limits`` allow is not believed."""

    def __init__(self, identity: str, bearer: str, folder: str, limits: Resources, patience: float, age: float) -> None:
        """``patience`` is for how many seconds it waits when it does not hear of the foreman; ``age`` for how many it
        has been there."""
        self.id, self.bearer, self.patience = identity, bearer, patience
        self._limits, self._began = limits, time.monotonic() - age
        self._heard, self._mute_until = time.monotonic(), 0.0
        self.used: Usage | None = None
        """As it has said last."""
        self.has_come = asyncio.Event()
        self.has_ended = False
        self._folder = folder
        self._connections: set[asyncio.Task[None]] = set()
        self._hold: asyncio.StreamWriter | None = None
        self._asked = 0
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._accepting: asyncio.Future[None] | None = None
        self._waiting: dict[asyncio.Future[socket.socket], Pair] = {}  # for visitors
        self._some = asyncio.Event()

    async def receive(self, purpose: str, carrier: Pair) -> None:
        """One of its connections."""
        task = asyncio.current_task()
        open_now = len(self._connections)
        is_spare = open_now < descriptors.FEW or not descriptors.are_short()
        if task is None or open_now >= CONNECTIONS or not (is_spare or purpose == pod.HOLD):
            return
        self._connections.add(task)
        try:
            if purpose in (pod.FOREMAN, pod.OUTLET):
                plain = await asyncio.open_unix_connection(os.path.join(self._folder, f"{purpose}.sock"))
                await carried.join(plain, carrier)
            elif purpose == pod.HOLD:
                await self._listen(*carrier)
            elif purpose == pod.VISITOR:
                await self._wait_for_visitor(carrier)
        finally:
            self._connections.discard(task)

    # --- the hold ---

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._hold is not None:
            self._hold.transport.abort()
        self._hold = writer
        self.has_come.set()
        pinging = asyncio.ensure_future(self._keep_pinging(writer))
        try:
            while line := await reader.readline():
                self._hear(_read_said(line))
        finally:
            pinging.cancel()
            if self._hold is writer:
                self._hold = None

    async def _keep_pinging(self, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"{}\n")
            await asyncio.sleep(PING_S)

    def silent_s(self) -> float:
        """For how long nothing was heard of it."""
        return time.monotonic() - self._heard

    def _hear(self, said: dict[str, Any]) -> None:
        self._heard = time.monotonic()
        if said.get("used"):
            cpu, memory = said["used"]
            least = self.used.cpu_ns if self.used else 0
            most = round(self._limits.cpus * (time.monotonic() - self._began) * 1e9)
            self.used = Usage(max(_clamp(cpu, most), least), _clamp(memory, self._limits.memory_bytes), REPORTED)
        if "end" in said:
            self.has_ended = True
        answer = self._answers.get(said.get("answer", 0))
        if answer is not None and not answer.done():
            answer.set_result(None)

    def signal(self, name: str) -> None:
        """To its runner."""
        if self._hold is not None:
            self._hold.write(json.dumps({"signal": name}).encode() + b"\n")

    async def comes(self, seconds: float) -> bool:
        """Whether it is here within that time."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.has_come.wait(), seconds)
        return self.has_come.is_set()

    async def ask_used(self) -> bool:
        """Has it say what it has used until now. False when it does not, or just did not: who waits for it is not to be
        held up each time."""
        if self._hold is None or self.has_ended or time.monotonic() < self._mute_until:
            return self.has_ended
        self._asked += 1
        number, answer = self._asked, asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._hold.write(json.dumps({"ask": number}).encode() + b"\n")
            await asyncio.wait_for(answer, ANSWER_S)
        except asyncio.TimeoutError:
            self._mute_until = time.monotonic() + MUTE_S
            return self.has_ended
        finally:
            del self._answers[number]
        return True

    # --- visitors of its web endpoint ---

    async def _wait_for_visitor(self, carrier: Pair) -> None:
        if self._accepting is None:
            self._accepting = asyncio.ensure_future(self._accept())
        for old, waiting in list(self._waiting.items()):
            if _is_lost(waiting):
                old.cancel()
        turn: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = carrier
        self._some.set()
        try:
            visitor = await turn
        finally:
            self._waiting.pop(turn, None)
        plain = await asyncio.open_unix_connection(sock=visitor)
        carrier[1].write(pod.GO)
        await carried.join(plain, carrier)

    async def _accept(self) -> None:
        """Visitors, one by one, each for the connection that has waited for longest."""
        with await self._take_listener() as listener:
            while True:
                visitor, _ = await asyncio.get_running_loop().sock_accept(listener)
                while (turn := self._next_turn()) is None:
                    self._some.clear()
                    await self._some.wait()
                turn.set_result(visitor)

    async def _take_listener(self) -> socket.socket:
        """Once it is there: a Pod that was taken over may be here before."""
        while True:
            with contextlib.suppress(OSError):
                return await asyncio.to_thread(_take_listener, os.path.join(self._folder, "web.sock"))
            await asyncio.sleep(AGAIN_S)

    def _next_turn(self) -> asyncio.Future[socket.socket] | None:
        for turn, carrier in self._waiting.items():
            if not turn.done() and not _is_lost(carrier):
                return turn
        return None

    def close(self) -> None:
        """It is no more."""
        for task in (*self._connections, *([self._accepting] if self._accepting else [])):
            task.cancel()


def _read_said(line: bytes) -> dict[str, Any]:
    """ValueError: a Pod says no such thing."""
    try:
        said = json.loads(line)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(said, dict):
        raise ValueError("no object")
    return said


def _clamp(value: object, most: int) -> int:
    if type(value) is not int:
        raise ValueError("no integer")
    return min(max(0, value), most)


def _is_lost(carrier: Pair) -> bool:
    return carrier[0].at_eof() or carrier[0].exception() is not None or carrier[1].is_closing()


def _take_listener(path: str) -> socket.socket:
    """What the foreman hands to a container."""
    with socket.socket(socket.AF_UNIX) as way:
        way.settimeout(HAND_OVER_S)
        way.connect(path)
        _, [descriptor], _, _ = socket.recv_fds(way, 1, 1)
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(False)
    return listener


class Gate:
    """Of one foreman, by a tunnel at one of the relays that these ways lead to. ``keep`` is where its address and its
    key are kept for the next time; None: there is none."""

    def __init__(self, client: Client, ways: list[Way], keep: str | None = None) -> None:
        self._client, self._ways, self._keep = client, ways, keep
        key = places.kept_bits(f"{keep}.key", KEY_BYTES) if keep else secrets.token_hex(KEY_BYTES)
        self._key = bytes.fromhex(key)
        self._guests: dict[str, Guest] = {}
        self._strangers: dict[asyncio.StreamWriter, None] = {}
        self._folder = places.temporary_folder("adit-gate-")
        self._server: asyncio.Server | None = None
        self._forward: Forward | None = None
        self._tunnel: Tunnel | None = None
        self._name = self._ca = ""
        self._dial = "", 0

    async def open(self) -> None:
        """ConfigError when Pods could not know it."""
        try:
            path = os.path.join(self._folder, "gate.sock")
            self._server = await asyncio.start_unix_server(self._meet, path, limit=LINE_MAX)
            forward = self._client.forward(f"unix:{path}", keep=self._keep, name="foreman of Pods")
            self._tunnel = await forward.__aenter__()
            self._forward = forward
            await self._find()
        except BaseException:
            await self.close()
            raise

    async def _find(self) -> None:
        """Where it is: its tunnel may have come to another relay since."""
        assert self._tunnel is not None
        name = urllib.parse.urlsplit(self._tunnel.url).hostname or ""
        if name != self._name:
            way = next((way for way in self._ways if name.endswith(f".{way.host.lower()}")), self._ways[0])
            self._ca = await _authority(way, name)
            self._name, self._dial = name, (way.host, way.port)

    def admit(self, identity: str, folder: str, limits: Resources, patience: float, age: float = 0.0) -> Guest:
        """A Pod that may come to the sockets in a folder. See Guest."""
        bearer = hmac.digest(self._key, identity.encode(), "sha256").hex()
        self._guests[identity] = guest = Guest(identity, bearer, folder, limits, patience, age)
        return guest

    def dismiss(self, guest: Guest) -> None:
        """It may no more."""
        if self._guests.pop(guest.id, None) is not None:
            guest.close()

    async def settings(self, guest: Guest) -> Mapping[str, object]:
        """What a Pod needs to come here."""
        await self._find()
        about = {"id": guest.id, "bearer": guest.bearer, "patience": guest.patience}
        return {**about, "dial": self._dial, "name": self._name, "ca": self._ca}

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._strangers) >= STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                oldest.transport.abort()
            self._strangers[writer] = None
            try:
                line = await asyncio.wait_for(reader.readline(), HELLO_S)
            finally:
                self._strangers.pop(writer, None)
            words = line.decode("ascii").split()
            if len(line) <= HELLO_MAX and len(words) == len(("id", "bearer", "purpose")):
                guest = self._guests.get(words[0])
                if guest is not None and hmac.compare_digest(guest.bearer, words[1]):
                    await guest.receive(words[2], (reader, writer))
        except (OSError, EOFError, ValueError, TypeError, asyncio.TimeoutError):
            pass  # it may come again
        finally:
            writer.close()

    async def close(self) -> None:
        """Nobody comes any more."""
        if self._server is not None:
            self._server.close()
        for guest in list(self._guests.values()):
            self.dismiss(guest)
        if self._forward is not None:
            with contextlib.suppress(Error):
                await self._forward.__aexit__(None, None, None)
        shutil.rmtree(self._folder, ignore_errors=True)


async def _authority(way: Way, name: str) -> str:
    """The certificate by which Pods know the relay, as PEM: that of the authority by which this machine does."""
    context = ssl.create_default_context(cafile=os.environ.get("ADIT_RELAY_CA"))
    try:
        _, writer = await way.dial()
        try:
            plain = writer.transport
            tls = await asyncio.get_running_loop().start_tls(
                plain, plain.get_protocol(), context, server_hostname=name, ssl_handshake_timeout=SHAKE_S
            )
            assert tls is not None
            end: Any = tls.get_extra_info("ssl_object")
            chain = end if hasattr(end, "get_verified_chain") else end._sslobj
            last = chain.get_verified_chain()[-1]
            tls.abort()
        finally:
            writer.transport.abort()
    except (OSError, TypeError, ValueError, asyncio.TimeoutError) as error:
        raise ConfigError(
            f"kubernetes: the relay's certificate: {str(error) or type(error).__name__} (is it one of an authority of "
            "its own, name that: ADIT_RELAY_CA=authority.pem)"
        ) from None
    return ssl.DER_cert_to_PEM_cert(last if isinstance(last, bytes) else last.public_bytes(_DER))


_DER = 2  # of the ssl module's own certificates
