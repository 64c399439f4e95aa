"""``adit foreman``: a foreman as a service, at a socket where others find it, for apps that stay."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import stat
import sys
from typing import TYPE_CHECKING

from ...exception import ConfigError
from .. import engines, session
from ..command_line import Parser, heeded
from ..engine.patience import patiently
from . import spending
from .foreman import Foreman
from .places import state_path
from .store import default_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..engine import Engine

STORE_HELP = "a file, or postgresql://USER@HOST/DATABASE (ADIT_STORE, or a file in your state folder)"


def _tell_systemd(state: str) -> None:
    """Nothing when it is not systemd that started us."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """One foreman at a socket and its folder, which ``x`` and ``x.sock`` share. What holds the lock is the process, so
    none is left behind."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        lock = os.open(path.removesuffix(".sock") + ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"foreman: {error} (name a socket in a folder of yours: --socket PATH)") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"foreman: one listens at {path} already (stop it, or name another --socket)") from None
        _check_free(path)
        yield
    finally:
        os.close(lock)


def _check_free(path: str) -> None:
    """Nothing may be there, but for the socket of a foreman that was killed."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"foreman: {path} is there, and no socket (name another --socket)")
        with socket.socket(socket.AF_UNIX) as end:
            end.setblocking(False)
            try:
                end.connect(path)
            except ConnectionRefusedError:
                return  # nobody listens any more
            except OSError as error:
                raise ConfigError(f"foreman: {path}: {error.strerror} (name another --socket)") from None
        raise ConfigError(f"foreman: another program listens at {path} (name another --socket)")


async def _reach(stop: asyncio.Event) -> Engine | None:
    """The engine, as soon as it answers; None when the foreman is to end first."""
    reaching, stopping = asyncio.ensure_future(patiently(engines.connect)), asyncio.ensure_future(stop.wait())
    await asyncio.wait({reaching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not reaching.done():
        reaching.cancel()
        await asyncio.wait({reaching})
    return None if reaching.cancelled() else reaching.result()


async def _live(path: str, state: str, store: str) -> None:
    stop = asyncio.Event()
    for number in heeded(signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    engine = await _reach(stop)
    if engine is None:
        return
    kept = Foreman(engine, (path, state), store, spending.wanted())
    try:
        await kept.open()
        print(f"adit: the foreman listens at {path}", file=sys.stderr, flush=True)
        _tell_systemd("READY=1")
        await stop.wait()
        _tell_systemd("STOPPING=1")
    finally:
        await kept.close()


def _default_socket() -> str:
    return os.environ.get("ADIT_FOREMAN") or session.service_sockets()[0]


def foreman(words: list[str]) -> int:
    """The command."""
    parser = Parser(
        "foreman",
        "Keeps the apps that adit deploy and adit run --detach hand over. It stays in the foreground, tells systemd\n"
        "when it is ready, and ends at SIGTERM; what is deployed goes on, and the next one takes it over.",
        "adit foreman                                          # at the usual place",
        "ADIT_FOREMAN=/srv/adit/caller.sock adit app list      # with adit foreman --socket /srv/adit/caller.sock",
    )
    parser.add_argument("--socket", metavar="PATH", default=_default_socket(), help="where it listens (%(default)s)")
    parser.add_argument("--store", metavar="STORE", help=STORE_HELP)
    parser.takes_budget(is_foreman=True)
    parser.takes_engine()
    given = parser.parse_args(words)
    path = os.path.abspath(given.socket)
    with _alone(path):
        asyncio.run(_live(path, state_path("foreman"), given.store or default_place()))
    return 0
