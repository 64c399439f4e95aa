"""The program of a function's container: fetches code and inputs from the foreman, runs them, answers. It holds no
address and needs no network; its standard input ends with the foreman, and it with that."""

from __future__ import annotations

import base64
import contextlib
import importlib
import inspect
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from .. import Client, _default, _first_process, _options
from ..exception import Error, NotFoundError
from . import bundle, session, traces, way_out, wire
from .coroutines import Alone, Together
from .living import Living
from .passed import Passed
from .remote import AGAIN_S, Channel
from .spec import FOREMAN_GONE, FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Callable

HOME = "/home/adit"
CODE = f"{HOME}/code"
COPIED = "/root"  # where an image's files are whose paths are not full ones
ROOM_S = 1.0  # until a result is offered again
APP_WAIT_S = 60.0  # programs tell their URL before they listen, and start slowly where many do


def _live_with_foreman() -> None:
    """Standard input is the foreman's hold on us. What the function starts gets none of it."""
    hold = os.dup(0)
    os.set_inheritable(hold, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def wait() -> None:
        while os.read(hold, 4096):
            pass
        os._exit(FOREMAN_GONE)

    threading.Thread(target=wait, name="adit-hold", daemon=True).start()


def _outlive_foreman(seconds: float) -> None:
    """A connection is the foreman's hold on us: when it breaks, another one may come, and is waited for so long."""

    def wait() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as hold:
                hold.connect(session.CONTAINER_SOCKET)
                until = math.inf
                hold.recv(1)
            until = min(until, time.monotonic() + seconds)
            time.sleep(AGAIN_S)
        os._exit(FOREMAN_GONE)

    threading.Thread(target=wait, name="adit-hold", daemon=True).start()


def _link_copied() -> None:
    """So that they are found by relative paths, in a folder that can be written to."""
    with contextlib.suppress(OSError):  # it is root's alone where nothing was copied
        for name in os.listdir(COPIED):
            if not name.startswith(".") and not os.path.lexists(name):
                os.symlink(f"{COPIED}/{name}", name)


def _find_work(channel: Channel, way: Way) -> wire.Meta:
    """What this container is to do. A spare is not told yet, and has meanwhile what its function is likely to use: the
    link to the relay, and modules, before which what the program has of its own under such a name still comes."""
    work, code = channel.ask("work")
    if not work.get("not_yet"):
        bundle.unpack(code, CODE)
        return work
    before = set(sys.modules)
    for name in work["likely"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if work["tunnels"]:
        way.prepare()
    found = channel.poll("work", {})
    assert found is not None
    bundle.unpack(found[1], CODE)
    own = _own_names()
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in own:
            del sys.modules[name]
    return found[0]


def _own_names() -> set[str]:
    """Of the program's modules and packages."""
    names: list[str] = []
    for folder in (CODE, COPIED):
        with contextlib.suppress(OSError):
            names += os.listdir(folder)
    return {name.partition(".")[0] for name in names}


class Way:
    """To the relay, for ``forward`` without a client: with a token of this container's, which is in this process's
    memory only, since functions hand their environment on. It ends, and containers may live for longer."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._ends = channel, math.inf
        self.life = 0.0  # of its token, when that was made
        self.has_way_out = False  # then the proxy is way_out's, which is for listed hosts, and the relay is none
        _default.use(self._client)
        _options.default_app_wait = APP_WAIT_S

    def _client(self) -> Client:
        asked = time.monotonic()
        answer, _ = self._channel.ask("token")
        self.life = answer["life"]
        self._ends = asked + self.life
        return Client(answer["token"], relays=session.relay(), proxy="none" if self.has_way_out else None)

    def prepare(self) -> None:
        """Has the link up before it is needed, where nothing that is told later says how the relay is reached."""
        if session.relay():
            with contextlib.suppress(Error):  # whoever needs it hears why there is none
                _default.release(_default.default_client(), failed=False)

    def last(self, seconds: float) -> None:
        """What is opened from now on lasts for so long."""
        if self._ends < time.monotonic() + seconds:
            self._ends = math.inf
            _default.renew()


class Runner:
    """One container's."""

    def __init__(self, patience: float) -> None:
        self.channel = Channel(session.CONTAINER_SOCKET, patience)
        self.way = Way(self.channel)
        os.makedirs(CODE, exist_ok=True)
        work = _find_work(self.channel, self.way)
        self.spec = FunctionSpec.read(work["spec"])
        self.living: Living | None = None
        self.waits: Alone | Together = Alone()
        self.about: dict[str, str] = {"app": work["app_id"], "function": self.spec.name}
        os.environ.update(self.spec.secrets)
        if self.spec.hosts:
            way_out.start()
            self.way.has_way_out = True
        session.enter_container(self.channel, self.about)
        self.passed = Passed(self.channel)
        self.way.last(max(self.spec.timeout, self.way.life / 2))  # a spare may have waited for days
        sys.path[:0] = [CODE, COPIED]
        if os.getcwd() == "/":
            os.chdir(HOME)
            _link_copied()

    def load(self) -> Callable[..., Any]:
        """The user's function: the module is imported anew here."""
        if self.spec.pickled is not None:
            what = f"{self.spec.name}: the function"
            function: Callable[..., Any] = wire.decode(base64.b64decode(self.spec.pickled), trusted=True, what=what)
            return function
        found = bundle.find(self.spec.module, self.spec.qualname)
        if self.spec.cls:
            self.living = Living(found, lambda value: inspect.iscoroutine(value) and self.waits.wait(value, ""))
            if not self.spec.parametrised:
                made = self.living.get(((), {}))
                if self.spec.web is not None:
                    return getattr(made, self.spec.name.rpartition(".")[2])  # type: ignore[no-any-return]
            return self.living.call
        raw: Callable[..., Any] = getattr(found, "raw", found)
        return raw

    def run(self) -> None:
        """Until there is nothing more to do."""
        if self.spec.concurrent > 1 and self.spec.web is None:
            self.waits = Together(self.channel)
        try:
            function = self.load()
        except Exception as error:
            self._refuse_all(error)
            return
        if self.spec.web is not None:
            from . import web_runner

            web_runner.serve(self.spec.web, function, lambda: self.channel.ask("ready"))
            return
        if self.spec.concurrent == 1:
            self._work(function, 0)
            return
        slots = range(self.spec.concurrent)
        threads = [threading.Thread(target=self._work_or_exit, args=(function, n), daemon=True) for n in slots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work_or_exit(self, function: Callable[..., Any], slot: int) -> None:
        try:
            self._work(function, slot)
        except SystemExit as end:  # in a thread it would end that one only
            sys.stdout.flush()
            os._exit(end.code if isinstance(end.code, int) else 1 if end.code else 0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _work(self, function: Callable[..., Any], slot: int) -> None:
        """One call after the other."""
        while True:
            found = self.channel.poll("next", {"slot": slot})
            assert found is not None
            meta, payload = found
            if meta.get("end"):
                return
            self.way.last(self.spec.timeout)
            session.begin_call(meta["call"])
            if self.spec.concurrent == 1:
                self.about["call"] = meta["call"]  # for threads of the function's
            outcome, result = self._call(function, meta, payload)
            sys.stdout.flush()
            sys.stderr.flush()
            self.passed.tell()
            self._answer(meta["call"], outcome, result)

    def _answer(self, call: str, outcome: wire.Meta, result: bytes) -> None:
        """Waits with it here while the foreman has no room, as when its store is away."""
        with contextlib.suppress(NotFoundError):  # it was answered before the foreman went away, which we did not hear
            while self.channel.ask("result", {"call": call, "outcome": outcome}, result)[0].get("not_yet"):
                time.sleep(ROOM_S)

    def close(self) -> None:
        """The container ends."""
        if self.living is not None:
            self.living.close()

    def leave(self) -> None:
        """Has the meter read for the last time."""
        self.passed.tell()
        with contextlib.suppress(Error):
            self.channel.ask("leave")

    def _refuse_all(self, error: Exception) -> None:
        """A module that cannot be imported is told to whoever called."""
        outcome, result = _raised(error)
        if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] not in _own_names():
            outcome["traceback"] += (
                f"adit: {self.spec.name}: its image has no {error.name} (install what has it: image.pip_install(...))\n"
            )
        print(outcome["traceback"], end="", file=sys.stderr)
        if self.spec.web is not None:
            sys.exit(1)
        self.channel.ask("refused", {"text": f"it cannot be imported: {outcome['type']}: {outcome['message']}"})
        while True:
            found = self.channel.poll("next", {})
            assert found is not None
            if found[0].get("end"):
                return
            self._answer(found[0]["call"], outcome, result)

    def _call(self, function: Callable[..., Any], meta: wire.Meta, payload: bytes) -> tuple[wire.Meta, bytes]:
        try:
            given = wire.decode(payload, trusted=bool(meta.get("trusted")), what=f"{self.spec.name}: an argument")
            value = function(*given) if self.living else function(*given[0], **given[1])
            if inspect.iscoroutine(value):
                value = self.waits.wait(value, meta["call"])
            if self.living.yields(given[2]) if self.living else self.spec.is_generator:
                self._yield_all(value, meta["call"])
                value = None
            return {"status": "ok"}, wire.encode(value, f"{self.spec.name}: its result")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, too, is what came of the call
            if isinstance(error, SystemExit) and os.environ.get("ADIT_CONTAINER"):
                raise
            return _raised(error)

    def _yield_all(self, values: Any, call: str) -> None:
        if inspect.isasyncgen(values):
            end = object()
            number = 0
            while (value := self.waits.wait(_next(values, end), call)) is not end:
                self._give(value, call, number)
                number += 1
            return
        for number, value in enumerate(values):
            self._give(value, call, number)

    def _give(self, value: Any, call: str, number: int) -> None:
        self.channel.ask("piece", {"call": call, "seq": number}, wire.encode(value, f"{self.spec.name}: a value"))


async def _next(values: Any, end: object) -> Any:
    try:
        return await values.__anext__()
    except StopAsyncIteration:
        return end


def _raised(error: BaseException) -> tuple[wire.Meta, bytes]:
    # The frames, too, have their place.
    lines = [wire.clip(line, wire.OUTCOME_MAX["message"]) for line in traces.lines_of(error)]
    try:
        message = str(error)
    except Exception as other:
        message = f"(its text cannot be had: {type(other).__name__})"
    outcome = wire.clip_outcome(
        {"status": "raised", "type": type(error).__name__, "message": message, "traceback": "".join(lines)}
    )
    try:
        return outcome, wire.encode(error)
    except Exception:
        return outcome, b""


def main() -> None:
    """The container's program. Its argument is for how many seconds it goes on without a foreman."""
    patience = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    _first_process.leave()
    if patience:
        _outlive_foreman(patience)
    else:
        _live_with_foreman()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever whoever started us ignores
    runner: Runner | None = None
    try:
        runner = Runner(patience)
        runner.run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends already
        if runner is not None:
            runner.close()
        _default.shut()
        if runner is not None:
            runner.leave()


if __name__ == "__main__":
    main()
