"""Images: each step of one is a container that runs and is committed. The hard thing: what a step needs and must not
stay (the caller's index, password, certificate) is in a folder that is mounted while it runs; and a layer is found
again by a key of all that it was made from."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import shlex
import shutil
import sys
import tarfile
import tempfile
from collections import deque
from typing import TYPE_CHECKING, Any

from ...exception import ImageError
from ..engine import Container, Place
from ..image import local_files
from . import pip_settings, wheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine import Engine
    from ..spec import ImageSpec

LAYER = "adit/layer"
FOLDER = "/run/adit"  # where a step finds its settings, and a function its sockets: there in every image
LAST_LINES = 40
# Its input ends with whoever builds: then nothing of the step may go on.
_PRELUDE = "exec 3<&0 </dev/null; (cat <&3 >/dev/null; kill -9 -1) & exec 3<&-; set -e; . {folder}/settings\n"
_PIP = "python3 -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore"
_BASICS = (
    "fastapi",
    "uvicorn",
    "a2wsgi",
)  # for web endpoints; in all images, as a program imports its modules in all containers


def default_base(python: str | None) -> str:
    """The image that debian_slim() begins with."""
    named = os.environ.get("ADIT_BASE_IMAGE")
    return named or f"docker.io/library/python:{python or '{}.{}'.format(*sys.version_info)}-slim-bookworm"


class Images:
    """The builder of one foreman."""

    def __init__(self, engine: Engine, folder: str, labels: dict[str, str], tell: Callable[..., None]) -> None:
        self._engine, self._folder, self._labels, self._tell = engine, folder, labels, tell
        self._locks: dict[str, asyncio.Lock] = {}
        self._built: dict[str, str] = {}
        self._pythons: dict[str, str] = {}

    async def ensure(self, spec: ImageSpec) -> str:
        """The id of the image, built if need be."""
        key = hashlib.sha256(json.dumps([spec.base, spec.python, spec.steps]).encode()).hexdigest()
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self._built:
                self._built[key] = await self._build(spec)
            return self._built[key]

    async def _build(self, spec: ImageSpec) -> str:
        base = spec.base or default_base(spec.python)
        image = await self._engine.find_image(base)
        if image is None:
            self._tell("image", text=f"pulling {base}")
            image = await self._engine.pull(base)
        import cloudpickle

        basics = [*_BASICS, f"cloudpickle=={cloudpickle.__version__}"]
        if spec.python is not None:
            check = f"import sys; sys.exit({spec.python!r} != '%d.%d' % sys.version_info[:2] and sys.version)"
            image = await self._layer(image, {"kind": "run", "command": f"python3 -c {shlex.quote(check)}"})
        image = await self._layer(image, {"kind": "pip", "arguments": basics})
        for step in spec.steps:
            image = await self._layer(image, step)
        name, data = await asyncio.to_thread(wheel.own_wheel)
        return await self._layer(image, {"kind": "wheel", "name": name}, data)

    async def _layer(self, parent: str, step: dict[str, Any], wheel: bytes = b"") -> str:
        files = await asyncio.to_thread(_contents, step)
        digest = hashlib.sha256(json.dumps([parent, step, hashlib.sha256(files + wheel).hexdigest()]).encode())
        tag = f"{LAYER}:{digest.hexdigest()[:40]}"
        async with self._locks.setdefault(tag, asyncio.Lock()):
            found = await self._engine.find_image(tag)
            if found is not None:
                return found
            labels = {"adit.layer": digest.hexdigest()}
            kind = step["kind"]
            if kind in ("env", "workdir", "force", "copy"):
                return await self._engine.derive(parent, tag, _changes(step), labels, files or None)
            return await self._run(parent, step, tag, labels, wheel)

    async def _run(self, parent: str, step: dict[str, Any], tag: str, labels: dict[str, str], wheel: bytes) -> str:
        """Runs a step and commits what came of it."""
        command, shown = _command(step)
        self._tell("image", text=f"step: {shown}")
        folder = tempfile.mkdtemp(prefix="build-", dir=self._folder)  # where it goes, too, if we do
        try:
            places = await asyncio.to_thread(_furnish, folder, step, wheel)
            container = Container(
                image=parent,
                command=["sh", "-c", _PRELUDE.format(folder=FOLDER) + command],
                name=f"adit-build-{os.urandom(4).hex()}",
                labels=self._labels,
                places=places,
                network=True,
                sealed=False,
            )
            running = await self._engine.start(container)
            try:
                last = await self._listen(running)
                ended = await running.ended()
                if ended.status != 0:
                    why = "out of memory" if ended.out_of_memory else f"status {ended.status}"
                    raise ImageError(f"image: this step failed ({why}): {shown}\n" + "\n".join(last))
                return await self._engine.commit(running, tag, ['CMD ["python3"]'], labels)
            finally:
                await asyncio.shield(running.remove())
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _listen(self, running: Any) -> deque[str]:
        last: deque[str] = deque(maxlen=LAST_LINES)
        rest = b""
        async for _, data in running.output():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                last.append(line.decode(errors="replace").rstrip("\r"))
                self._tell("build", text=last[-1])
        if rest:
            last.append(rest.decode(errors="replace"))
        return last


def _command(step: dict[str, Any]) -> tuple[str, str]:
    """A step's line of shell, and what is shown of it."""
    kind = step["kind"]
    if kind == "pip":
        return f"{_PIP} {shlex.join(step['arguments'])}", "pip install " + shlex.join(step["arguments"])
    if kind == "pip_file":
        return f"{_PIP} -r {FOLDER}/requirements.txt", "pip install -r requirements.txt"
    if kind == "wheel":
        return f"{_PIP} --no-deps --no-index {FOLDER}/{step['name']}", f"pip install {step['name']}"
    return str(step["command"]), " && ".join(str(step["command"]).splitlines())


def _furnish(folder: str, step: dict[str, Any], wheel: bytes) -> list[Place]:
    """Fills the folder that a step sees at FOLDER; what else it is to see."""
    lines: list[str] = []
    places = [Place(folder, FOLDER)]
    if step["kind"] in ("pip", "pip_file"):
        settings, more = pip_settings.collect(folder, FOLDER)
        lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
        places += more
    lines.append("export PIP_BREAK_SYSTEM_PACKAGES=1")
    for name, data in (
        ("settings", "\n".join(lines).encode()),
        ("requirements.txt", step.get("text", "").encode()),
        (step.get("name", "wheel"), wheel),
    ):
        with open(os.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
    return places


def _changes(step: dict[str, Any]) -> list[str]:
    if step["kind"] == "env":
        return [f"ENV {k}={json.dumps(v)}" for k, v in step["variables"].items()]
    if step["kind"] == "workdir":
        return [f"WORKDIR {step['path']}"]
    return []


def _contents(step: dict[str, Any]) -> bytes:
    """The files of a copy step as a tar archive, the same for the same files."""
    if step["kind"] != "copy":
        return b""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for local, remote in local_files(step):
            info = tarfile.TarInfo(os.path.normpath(os.path.join("/root", remote)).lstrip("/"))
            with contextlib.suppress(FileNotFoundError), open(local, "rb") as file:
                stat = os.fstat(file.fileno())
                info.size, info.mode = stat.st_size, (stat.st_mode & 0o777) | 0o444
                tar.addfile(info, file)
    return out.getvalue()
