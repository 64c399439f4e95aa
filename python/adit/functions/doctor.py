"""``adit doctor``: what functions need on this machine, whether it is there, and what to type where it is not."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..exception import Error
from . import engines
from .command_line import Parser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .engine import Engine

OK, WARNING, MISSING = "ok", "warning", "missing"
_MARKS = {OK: "\u2713", WARNING: "!", MISSING: "\u2717"}
_COLOURS = {OK: "32", WARNING: "33", MISSING: "31"}
_EXTRA = ("aiohttp", "cloudpickle", "fastapi", "rich", "watchfiles")
DISK_LOW, DISK_LEAST = 5 << 30, 500 << 20  # of an engine's data: an image with JupyterLab in it is 500 MB
MEMORY_LOW = 1 << 30
PROBE = "import sys; print('%d.%d.%d' % sys.version_info[:3], open('/run/adit/probe').read())"


@dataclass(frozen=True)
class Finding:
    """One line of it."""

    what: str
    state: str
    text: str
    do: str = ""


def _package() -> Iterator[Finding]:
    there = f"{platform.python_version()} ({sys.executable})"
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding("Python", MISSING, f"{there} without {', '.join(missing)}", "pip install 'adit[functions]'")
    else:
        yield Finding("Python", OK, there)
    from .foreman import wheel

    try:
        yield Finding("adit", OK, wheel.own_wheel()[0])
    except Error as error:
        yield Finding("adit", MISSING, str(error).removeprefix("adit: "), "pip install ./python")


def _size(n: float) -> str:
    return f"{n / (1 << 30):.1f} GiB"


def _room(path: str) -> int:
    """What is free where a path is, or would be; its folder may be closed to us."""
    while True:
        try:
            return shutil.disk_usage(path).free
        except OSError:
            path = os.path.dirname(path)


def _disk(folder: str) -> Finding:
    free = _room(folder)
    state = MISSING if free < DISK_LEAST else WARNING if free < DISK_LOW else OK
    return Finding("disk", state, f"{_size(free)} free for {folder}", "" if state == OK else "adit image prune")


def _memory() -> Finding:
    with open("/proc/meminfo", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    free = int(lines["MemAvailable"].split()[0]) << 10
    low = "" if free >= MEMORY_LOW else "end something else, or give functions less (memory=)"
    return Finding("memory", WARNING if low else OK, f"{_size(free)} available", low)


async def _engine() -> AsyncIterator[Finding]:
    from .engine import docker, find

    try:
        host, why = find.where()
        engine = await docker.Docker.connect(host)
    except Error as error:
        text = str(error)
        yield Finding("engine", MISSING, text.partition(" (")[0], text.rpartition(" (")[2].partition("; adit")[0])
        return
    try:
        about = await engine.about()
        local = host.startswith("unix:")
        yield Finding("engine", OK, f"{about.product} at {host} ({why})")
        lacks = ", ".join(about.lacks)
        text = f"version {about.cgroups}" + (f"; {about.product} holds containers to no {lacks}" if lacks else "")
        yield Finding(
            "cgroups", WARNING if lacks else OK, text, "mount the missing cgroup controllers" if lacks else ""
        )
        slow = about.storage == "vfs"
        text = f"{about.storage}" + (", which copies each layer whole" if slow else "; functions write to memory only")
        yield Finding("storage", WARNING if slow else OK, text, "have the engine use overlay2" if slow else "")
        others = [name for name in about.runtimes if name != about.runtime and name.startswith(("runsc", "kata"))]
        yield Finding("runtime", OK, about.runtime + (f"; also {', '.join(others)}" if others else ""))
        yield _gpus(await engine.gives_gpus())
        if local:
            yield _disk(about.folder)
            yield _memory()
        async for finding in _base(engine):
            yield finding
    except Error as error:
        yield Finding("engine", MISSING, str(error))
    finally:
        await engine.close()


def _gpus(given: bool) -> Finding:
    if given:
        return Finding("GPUs", OK, "the engine gives containers those of this machine")
    if os.path.exists("/dev/nvidia0"):
        do = "install nvidia-container-toolkit, then: nvidia-ctk runtime configure, and start the engine again"
        return Finding("GPUs", WARNING, "there are some, which the engine cannot give to containers", do)
    return Finding("GPUs", OK, "none here")


async def _base(engine: Engine) -> AsyncIterator[Finding]:
    from .foreman import images

    base = images.default_base(None)
    named = " (ADIT_BASE_IMAGE)" if os.environ.get("ADIT_BASE_IMAGE") else ""
    if await engine.find_image(base) is None:
        if why := await engine.can_pull(base):
            yield Finding("base image", MISSING, f"{base}{named} is not here: {why}", images.OWN_BASE)
        else:
            yield Finding("base image", OK, f"{base}{named}, which is pulled when it is first needed")
        return
    yield Finding("base image", OK, f"{base}{named}")
    if engines.chosen() != engines.KUBERNETES:  # where functions run is looked at there
        yield await _container(engine, base)


async def _cluster() -> AsyncIterator[Finding]:
    try:
        from .engine.kubernetes import Kubernetes

        engine = await Kubernetes.connect()
    except Error as error:
        text = str(error).removeprefix("kubernetes: ")
        yield Finding("cluster", MISSING, text.partition(" (")[0], text.rpartition(" (")[2].removesuffix(")"))
        return
    try:
        yield Finding("cluster", OK, f"Kubernetes {await engine.version()} at {engine.name}")
        lacks = await engine.lacks_rights()
        do = "kubectl apply -f deploy/kubernetes/functions.yaml, and use its ServiceAccount"
        text = f"it may not {', '.join(lacks)}" if lacks else "all that a foreman needs"
        yield Finding("rights", MISSING if lacks else OK, text, do if lacks else "")
        if not lacks:
            refused = await engine.refuses()
            do = "mend that: functions run in such ones"
            text = f"the cluster refuses one: {refused}" if refused else "the cluster would take one (none was started)"
            yield Finding("Pod", MISSING if refused else OK, text, do if refused else "")
        yield Finding("registry", OK, f"{engine.registry} (nodes and this machine have to reach it; none was asked)")
        relay = await engine.lacks_relay()
        yield Finding("gate", MISSING if relay else OK, relay or "Pods reach the foreman through the relay")
    except Error as error:
        yield Finding("cluster", MISSING, str(error))
    finally:
        await engine.close()


@contextlib.contextmanager
def _probe() -> Iterator[str]:
    """A folder that a container should see as it is."""
    from .foreman import places

    folder = places.temporary_folder("adit-")
    try:
        os.chmod(folder, 0o755)
        pathlib.Path(folder, "probe").write_text("seen")
        yield folder
    finally:
        shutil.rmtree(folder)


async def _container(engine: Engine, base: str) -> Finding:
    """A container as functions get them, for real."""
    from .engine import Container, Place, Resources
    from .foreman import owner
    from .foreman.images import FOLDER
    from .foreman.worker import USERS

    with _probe() as folder:
        began, said = time.monotonic(), b""
        try:
            running = await engine.start(
                Container(
                    image=base,
                    command=["python3", "-c", PROBE],
                    name=f"adit-doctor-{os.urandom(4).hex()}",
                    labels=owner.labels(),
                    places=[Place(folder, FOLDER)],
                    limits=Resources(1.0, 128 << 20),
                    user=USERS.start,
                )
            )
            try:
                async for _, data in running.output():
                    said += data
            finally:
                await running.remove()
        except Error as error:
            return Finding("container", MISSING, f"none starts: {error}", "mend that: functions run in such ones")
    words = said.decode(errors="replace").split()
    if words[1:] == ["seen"]:
        return Finding("container", OK, f"ran Python {words[0]} in {time.monotonic() - began:.1f} s")
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    do = "the engine has to see this machine's folders, the image a Python 3.10 or later"
    return Finding("container", MISSING, f"what it ran failed: {last}", do)


def _pip() -> Finding:
    from .foreman import pip_settings

    found = pip_settings.read()
    gone = [n for n in ("cert", "client-cert") if n in found and not os.path.isfile(found[n])]
    text = "; ".join(f"{n} = {pip_settings.without_secrets(v)}" for n, v in sorted(found.items())) or "none: PyPI"
    if gone:
        return Finding("pip", WARNING, f"{text}: there is no such {' and no such '.join(gone)}", "pip config edit")
    return Finding("pip", OK, text)


def _relay() -> Finding:
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    if os.environ.get("ADIT_TOKEN"):
        return Finding("relay", OK, "that of your token (ADIT_TOKEN)")
    try:
        with open(os.path.join(home, "adit", "config"), encoding="utf-8") as file:
            if any(line.partition("=")[0].strip() == "token" for line in file):
                return Finding("relay", OK, "that of your token (adit login)")
    except OSError:
        pass
    if os.environ.get("ADIT_EMBEDDED") == "0":
        return Finding("relay", MISSING, "no token, and ADIT_EMBEDDED=0 forbids one of this machine", "adit login")
    return Finding("relay", OK, "one of this machine, for addresses that work here only (adit login: for others)")


async def _examine() -> AsyncIterator[Finding]:
    for finding in _package():
        yield finding
        if finding.what == "Python" and finding.state != OK:
            return
    async for finding in _engine():
        yield finding
    if engines.chosen() == engines.KUBERNETES:
        async for finding in _cluster():
            yield finding
    yield _pip()
    yield _relay()


def _print(finding: Finding) -> None:
    word = f"{_MARKS[finding.state]} {finding.state}".ljust(10)
    if sys.stdout.isatty():
        word = f"\x1b[{_COLOURS[finding.state]}m{word}\x1b[0m"
    print(
        f"{word} {finding.what:<11} {finding.text}" + (f"\n{'':22} -> {finding.do}" if finding.do else ""), flush=True
    )


async def _run(as_json: bool) -> int:
    found: list[Finding] = []
    async for finding in _examine():
        found.append(finding)
        if not as_json:
            _print(finding)
    missing = [f.what for f in found if f.state == MISSING]
    if as_json:
        print(json.dumps({"ready": not missing, "findings": [asdict(f) for f in found]}, indent=2))
    elif missing:
        print(f"\nFunctions cannot run here yet: {', '.join(missing)}")
    else:
        print("\nFunctions can run here: adit run FILE")
    return 1 if missing else 0


def doctor(words: list[str]) -> int:
    """The command."""
    parser = Parser(
        "doctor",
        "Shows what functions need on this machine, and what to type for what is missing. Its exit status is 1 then.",
        "adit doctor                                 a line for each thing",
        "adit doctor --json                          for programs",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.takes_engine()
    return asyncio.run(_run(parser.parse_args(words).json))
