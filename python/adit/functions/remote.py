"""The client of the foreman: HTTP over a Unix socket, with nothing but the standard library, since the runner uses it
too. Any number of threads may use one channel; each has a connection of its own while it asks."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import socket
import time
from typing import TYPE_CHECKING

from .. import __version__, exception
from . import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .wire import Meta

AGAIN_S = 0.1  # between tries while there is no foreman
POLL_S = 50.0  # how long the foreman may keep a question before it says "not yet"
_OK = 200
_ONCE = ("app_create", "app_update", "app_close")  # that are not to be done twice
_HEADERS = {"Content-Type": "application/octet-stream", wire.VERSION: __version__}


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("foreman")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise

    def is_over(self) -> bool:
        """Whether the foreman has closed it, as it does when it ends or has heard nothing for long. Looking sends
        nothing, so that nothing is asked twice."""
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True  # an end, or what nobody has asked for


def _error_of(meta: Meta) -> Exception:
    kind = getattr(exception, str(meta.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, exception.Error)):
        kind = exception.RemoteError
    return kind(str(meta.get("text", "the foreman refused")))


class _Unanswered(Exception):
    """``heard``: the foreman may have the question."""

    def __init__(self, error: BaseException, heard: bool) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.heard = heard


class Channel:
    """The way to one foreman. One that comes back when it has ended is asked again for ``patience`` seconds, what was
    asked before, too: whoever answers knows what it was asked twice."""

    def __init__(self, path: str, patience: float = 0.0) -> None:
        self.path, self._patience = path, patience
        self._idle: list[_Connection] = []
        os.register_at_fork(after_in_child=self._idle.clear)

    def once(self) -> Meta:
        """A name for a question that is not to be done twice when it is asked twice."""
        return {"once": secrets.token_hex(16)} if self._patience else {}

    def is_answered(self) -> bool:
        """Whether somebody listens there."""
        with contextlib.closing(_Connection(self.path)) as connection:
            try:
                connection.connect()
            except OSError:
                return False
        return True

    def ask(self, verb: str, meta: Meta | None = None, payload: bytes = b"") -> tuple[Meta, bytes]:
        """One question and its answer."""
        body = wire.pack(meta or {}, payload)
        until: float | None = None
        while True:
            try:
                status, data = self._exchange(verb, body)
                break
            except _Unanswered as error:
                until = until or time.monotonic() + self._patience
                if time.monotonic() >= until or (error.heard and verb in _ONCE):
                    raise exception.ClosedError(f"foreman: it has ended ({error})") from None
            time.sleep(AGAIN_S)
        answer, rest = wire.unpack(data)
        if status != _OK:
            raise _error_of(answer)
        return answer, rest

    def _take(self) -> _Connection:
        """One that nobody uses, or a new one."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return _Connection(self.path)
            if not connection.is_over():
                return connection
            connection.close()

    def _exchange(self, verb: str, body: bytes) -> tuple[int, bytes]:
        connection = self._take()
        heard = False
        try:
            if connection.sock is None:
                connection.connect()
            heard = True
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered all the same
                connection.request("POST", "/" + verb, body, _HEADERS)
            response = connection.getresponse()
            data = response.read()
        except BaseException as error:
            connection.close()
            if isinstance(error, (OSError, http.client.HTTPException)):
                self._idle.clear()  # they were to the same foreman
                raise _Unanswered(error, heard) from None
            raise
        self._idle.append(connection)
        return response.status, data

    def poll(
        self, verb: str, meta: Meta, payload: bytes = b"", timeout: float | None = None
    ) -> tuple[Meta, bytes] | None:
        """Asks until the answer is something else than "not yet"; None when the time is over."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            wait = POLL_S if end is None else max(0.0, min(POLL_S, end - time.monotonic()))
            answer, rest = self.ask(verb, {**meta, "wait": wait}, payload)
            if not answer.get("not_yet"):
                return answer, rest
            if end is not None and time.monotonic() >= end:
                return None

    def listen(self, verb: str, meta: Meta) -> Iterator[Meta]:
        """Messages without payload, for as long as the foreman sends some; ClosedError when it is gone."""
        connection = _Connection(self.path)
        with contextlib.closing(connection):
            try:
                connection.request("POST", "/" + verb, wire.pack(meta), _HEADERS)
                response = connection.getresponse()
                if response.status != _OK:
                    raise _error_of(wire.unpack(response.read())[0])
                while (line := response.readline()).endswith(b"\n"):  # else it was cut off
                    yield json.loads(line)
            except (OSError, http.client.HTTPException) as error:
                raise exception.ClosedError(f"foreman: it has ended ({str(error) or type(error).__name__})") from None
