"""``adit serve``: an app's web endpoints, and a new version of it whenever one of its files changes. Each version is
described by a process of its own, which imports the file: what cannot be imported leaves the version before it as it
is."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from ..exception import ClosedError, EmbeddedRelayWarning, Error, InvalidError
from . import session
from .command_line import Parser
from .output import Output
from .spec import AppSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


DEBOUNCE_MS = 200
LOOK_MS = 1000


def describe(path: str) -> None:
    """What the child does: tells its parent, on descriptor 1, what the file's app is."""
    from . import bundle, cli

    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the file prints is for people
    try:
        app = cli.find_app(bundle.load(path), path)
        spec = app._spec()
        told = (spec.to_meta(), bundle.pack(spec), [p for p, _ in bundle.files(spec)])
    except BaseException as error:
        cli._show(error)
        sys.exit(1)
    pickle.dump(told, out)
    out.close()


def _described(path: str) -> tuple[dict[str, Any], bytes, list[str]] | None:
    """None when it cannot be imported, of which the child has told."""
    program = "import sys; from adit.functions.serving import describe; describe(sys.argv[1])"
    child = subprocess.run([sys.executable, "-c", program, path], stdout=subprocess.PIPE, check=False)
    return pickle.loads(child.stdout) if child.returncode == 0 else None


def _states(files: list[str]) -> dict[str, tuple[int, int] | None]:
    """By which a file is known to be another: an event tells when to look, and may have come before we listened."""
    states: dict[str, tuple[int, int] | None] = {}
    for path in files:
        states[path] = None
        with contextlib.suppress(OSError):
            found = os.stat(path)
            states[path] = found.st_mtime_ns, found.st_size
    return states


class Served:
    """The version that serves."""

    def __init__(self, path: str, output: Output) -> None:
        self._path, self._output = path, output
        self._channel = session.channel(own=True)
        self.app: str | None = None
        self.files: list[str] = [os.path.abspath(path)]
        self.seen = _states(self.files)
        self._following = contextlib.ExitStack()
        self._shown: dict[str, str] = {}
        self._is_told: Callable[[], bool] = lambda: True

    def look(self) -> None:
        """ClosedError when there is nobody any more who serves it."""
        if not self._is_told():
            self.app = None
            raise ClosedError(f"{self._path}: the foreman that served it has ended (serve it again)")

    def load(self) -> bool:
        """Serves the file as it is now. False when that cannot be, and the version before goes on."""
        self.seen = _states(self.files)
        described = _described(self._path)
        if described is None:
            return False
        meta, code, files = described
        spec = AppSpec.read(meta)
        if not any(f.web for f in spec.functions.values()):
            raise InvalidError(f"{self._path}: it has no web endpoints (use: adit run {self._path})")
        self.files, self.seen = files, {**_states(files), **self.seen}
        if self.app is None:
            answer, _ = self._channel.ask("app_create", {"spec": {"name": spec.name, "functions": {}}})
            self.app = answer["app"]
            self._is_told = self._following.enter_context(self._output.following(self._channel, answer["app"]))
        served, _ = self._channel.ask("app_update", {"app": self.app, "spec": meta}, code)
        self._show(spec, served["urls"], served.get("ca_file"))
        return True

    def _show(self, spec: AppSpec, urls: dict[str, str], ca_file: str | None) -> None:
        for name, url in urls.items():
            if self._shown.get(name) == url:
                continue
            web = spec.functions[name].web
            assert web is not None
            print(f"{name} => {web.method + ' ' if web.kind == 'endpoint' else ''}{url}", flush=True)
        if ca_file and not self._shown:
            self._output.say(f"These addresses work on this machine only (curl --cacert {ca_file} ...)")
        self._shown = dict(urls)

    def close(self) -> None:
        """Ends it."""
        if self.app is None:
            return
        closed: dict[str, Any] = {}
        try:
            session.end_app(self._channel, self.app, closed)
        finally:
            self._following.close()
            self._output.done(closed.get("used"), succeeded=True)


def _changes(served: Served, stop: threading.Event) -> Iterator[None]:
    """Whenever one of the app's files is another."""
    from watchfiles import watch

    folder = os.path.dirname(os.path.abspath(served.files[0]))
    waits: dict[str, Any] = {"debounce": DEBOUNCE_MS, "step": 50, "rust_timeout": LOOK_MS, "yield_on_timeout": True}
    for _ in watch(folder, stop_event=stop, raise_interrupt=True, **waits):
        served.look()
        states = _states(served.files)
        if any(states[path] != served.seen.get(path) for path in states):
            yield


def serve(words: list[str]) -> int:
    """The command."""
    parser = Parser(
        "serve",
        "Serves the web endpoints of a file, each at a URL of its own, and the new version whenever the file changes.",
        "adit serve hub.py                           until Ctrl-C",
        "adit serve hub.py --timeout 600             for ten minutes",
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--timeout", type=float, help="end after so many seconds")
    parser.takes_spare()
    parser.takes_budget()
    parser.takes_engine()
    given = parser.parse_args(words)
    if not os.path.isfile(given.file):
        raise InvalidError(f"{given.file}: there is no such file")
    warnings.simplefilter("ignore", EmbeddedRelayWarning)  # which is told below the addresses
    stop = threading.Event()
    with Output(failures=True) as output:
        served = Served(given.file, output)
        try:
            if not served.load():
                return 1
            if given.timeout is not None:
                timer = threading.Timer(given.timeout, stop.set)
                timer.daemon = True
                timer.start()
            for _ in _changes(served, stop):
                began = time.monotonic()
                try:
                    if served.load():
                        output.say(f"\u2713 Reloaded ({time.monotonic() - began:.1f} s)")
                except Error as error:
                    output.say(f"adit: {error}")
        except KeyboardInterrupt:
            output.stopping()
            raise
        finally:
            served.close()
    return 0
