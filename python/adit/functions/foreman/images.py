"""Images: each step of one is a container that runs and is committed. The hard thing: what a step needs and must not
stay (the caller's index, password, certificate) is in a folder that is mounted while it runs; and a layer is found
again by a key of all that it was made from."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import zipfile
from collections import deque
from typing import TYPE_CHECKING, Any

from ...exception import ImageError
from .. import bundle
from ..engine import Build, Container, Place
from . import archive, pip_settings, wheel
from .amounts import BUILD, Bill

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import IO

    from ..engine import Engine
    from ..spec import ImageSpec
    from .meter import Meter

LAYER = "adit/layer"  # what layers are called, and the label with which one is which
LABEL, STEP = "adit.layer", "adit.step"
SHOWN_MAX = 200
FOLDER = "/run/adit"  # where a step finds its settings, and a function its sockets: there in every image
LAST_LINES = 40
SHOWN_MAX = 200  # of a step, in the report of what was used
# The first process of a step, which itself is in a file: an image's history, and the engine, tell what a container was
# started with, and there may be passwords in it. Its input ends with whoever builds: then nothing of the step may go
# on.
_FIRST = f"""
exec 3<&0 </dev/null
sh -ec ". {FOLDER}/settings; . {FOLDER}/command" 3<&- &
step=$!
(cat <&3 >/dev/null; kill -9 -1) &
exec 3<&-
wait $step"""
_PIP = "python3 -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore"
_BASICS = (
    "fastapi",
    "uvicorn",
    "a2wsgi",
)  # for web endpoints; in all images, as a program imports its modules in all containers


_NOT_OF_KEY = ("secrets", "shown")


# What to type where no registry can be reached.
OWN_BASE = (
    "mmdebstrap --variant=minbase --include=python3,python3-pip,ca-certificates bookworm base.tar && "
    "docker import base.tar my-base:1 && export ADIT_BASE_IMAGE=my-base:1"
)


def default_base(python: str | None) -> str:
    """The image that debian_slim() begins with."""
    named = os.environ.get("ADIT_BASE_IMAGE")
    return named or f"docker.io/library/python:{python or '{}.{}'.format(*sys.version_info)}-slim-bookworm"


class Shared:
    """An image that is built, or was, for all who want it: what fails fails once, for all of them."""

    def __init__(self, work: Coroutine[Any, Any, str]) -> None:
        self._task, self._waiting, self._left = asyncio.create_task(work), 0, False

    @property
    def is_done(self) -> bool:
        """Whether what came of it is known."""
        return self._task.done()

    @property
    def has_failed(self) -> bool:
        """Whether nothing came of it, or will: it is ending, as nobody waits."""
        if self._left:
            return True
        return self._task.done() and (self._task.cancelled() or self._task.exception() is not None)

    async def wait(self) -> str:
        """Its id. When nobody waits any more, it ends."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if self._waiting == 0 and not self._task.done():
                self._left = True
                self._task.cancel()
                await asyncio.wait({self._task})


class Images:
    """The builder of one foreman."""

    def __init__(
        self, engine: Engine, folder: str, labels: dict[str, str], meter: Meter, tell: Callable[..., None]
    ) -> None:
        self._engine, self._folder, self._labels, self._meter, self._tell = engine, folder, labels, meter, tell
        self._locks: dict[str, asyncio.Lock] = {}
        self._builds: dict[str, dict[str, Shared]] = {}  # of each version of an app

    async def ensure(self, spec: ImageSpec, code: bytes, version: str, *, anew: bool = False) -> str:
        """The id of the image, built if need be, from files as they were when this version of an app needed it first.
        ``code`` is its bundle, for steps that run functions; ``anew`` says that it is no longer where it was."""
        key = await asyncio.to_thread(_key, spec)
        builds = self._builds.setdefault(version, {})
        build = builds.get(key)
        if build is None or build.has_failed or (anew and build.is_done):
            build = builds[key] = Shared(self._build(spec, code))
        return await build.wait()

    async def built(self, version: str) -> dict[str, str]:
        """What there is of that version, for ``restore``."""
        builds = self._builds.get(version, {}).items()
        return {key: await build.wait() for key, build in builds if build.is_done and not build.has_failed}

    def restore(self, version: str, built: dict[str, str]) -> None:
        """A foreman before has built these."""
        self._builds[version] = {key: Shared(_known(image)) for key, image in built.items()}

    def forget(self, version: str) -> None:
        """It needs none any more."""
        self._builds.pop(version, None)

    async def _base(self, spec: ImageSpec) -> str:
        if spec.dockerfile is not None:
            return await self._dockerfile(spec.dockerfile)
        base = spec.base or default_base(spec.python)
        image = await self._engine.find_image(base)
        if image is None:
            self._tell("image", text=f"pulling {base}")
            image = await self._engine.pull(base)
        return image

    async def _dockerfile(self, given: dict[str, Any]) -> str:
        """Built by the engine itself. The key is of the files that it may use."""
        name = f".Dockerfile.{hashlib.sha256(given['file'].encode()).hexdigest()[:16]}"
        with tempfile.TemporaryFile(dir=self._folder) as context:
            await asyncio.to_thread(archive.of_context, given, context, name)
            context.seek(0)
            digest = await asyncio.to_thread(_digest, context)
            context.seek(0)
            nonce = given.get("nonce")
            key = hashlib.sha256(json.dumps([digest, given["args"], nonce]).encode()).hexdigest()
            tag = f"{LAYER}:{key[:40]}"
            if (found := await self._engine.find_image(tag)) is not None:
                return found
            self._tell("image", text=f"step: {given['file']}")
            last: deque[str] = deque(maxlen=LAST_LINES)

            def tell(line: str) -> None:
                last.append(line)
                self._tell("build", text=line)

            build = Build(context, name, tag, given["args"], {LABEL: key, STEP: given["file"]}, fresh=nonce is not None)
            try:
                return await self._meter.build(build, tell, Bill("(images)", given["file"][-SHOWN_MAX:], kind=BUILD))
            except ImageError as error:
                raise ImageError("\n".join([f"image: {given['file']}: {error}", *last])) from None

    async def _build(self, spec: ImageSpec, code: bytes) -> str:
        image = await self._base(spec)
        import cloudpickle

        basics = [*_BASICS, f"cloudpickle=={cloudpickle.__version__}"]
        if spec.python is not None:
            image = await self._with_python(image, spec.python)
        image = await self._layer(image, {"kind": "pip", "arguments": basics})
        name, own = await asyncio.to_thread(wheel.own_wheel)
        for step in spec.steps:
            image = await self._layer(image, step, own, code)
        return await self._layer(image, {"kind": "wheel", "name": name}, own)

    async def _with_python(self, image: str, wanted: str) -> str:
        check = f"import sys; sys.exit({wanted!r} != '%d.%d' % sys.version_info[:2] and sys.version)"
        try:
            step = {"kind": "run", "command": f"python3 -c {shlex.quote(check)}", "shown": f"Python {wanted}"}
            return await self._layer(image, step)
        except ImageError as error:
            found = re.match(r"3\.\d+", str(error).rpartition("\n")[2])  # its last words
            if found is None:
                raise
            raise ImageError(
                f"image: python_version: there is no {wanted} in {default_base(wanted)}, but {found[0]} (ask for that, "
                "or have ADIT_BASE_IMAGE name a base with the other)"
            ) from None

    async def _layer(self, parent: str, step: dict[str, Any], wheel: bytes = b"", code: bytes = b"") -> str:
        kind = step["kind"]
        files = await asyncio.to_thread(archive.of_copy, step) if kind == "copy" else b""
        made_of = {k: v for k, v in step.items() if k not in _NOT_OF_KEY}
        contents = files + (wheel if kind == "wheel" else b"")
        digest = hashlib.sha256(json.dumps([parent, made_of, hashlib.sha256(contents).hexdigest()]).encode())
        tag = f"{LAYER}:{digest.hexdigest()[:40]}"
        async with self._locks.setdefault(tag, asyncio.Lock()):
            found = await self._engine.find_image(tag)
            if found is not None:
                return found
            labels = {LABEL: digest.hexdigest(), STEP: _shown(step)}
            if kind in ("env", "workdir", "force", "copy"):
                return await self._engine.derive(parent, tag, _changes(step), labels, self._labels, files or None)
            return await self._run(parent, step, tag, labels, lambda folder: _furnish(folder, step, wheel, code))

    async def _run(
        self,
        parent: str,
        step: dict[str, Any],
        tag: str,
        labels: dict[str, str],
        furnish: Callable[[str], list[Place]],
    ) -> str:
        """Runs a step and commits what came of it."""
        shown = _shown(step)
        self._tell("image", text=f"step: {shown}")
        folder = tempfile.mkdtemp(prefix="build-", dir=self._folder)  # where it goes, too, if we do
        try:
            places = await asyncio.to_thread(furnish, folder)
            container = Container(
                image=parent,
                command=["sh", "-c", _FIRST],
                name=f"adit-build-{os.urandom(4).hex()}",
                labels=self._labels,
                places=places,
                network=True,
                sealed=False,
            )
            running = await self._meter.start(container, Bill("(images)", shown[:SHOWN_MAX], kind=BUILD))
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


async def _known(image: str) -> str:
    return image


def _key(spec: ImageSpec) -> str:
    """What an image is found again by; another adit, which is in it, makes another."""
    of = [spec.base, spec.python, spec.steps, spec.dockerfile, _own()]
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()


@functools.lru_cache(maxsize=1)
def _own() -> str:
    return hashlib.sha256(wheel.own_wheel()[1]).hexdigest()


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while data := file.read(1 << 20):
        digest.update(data)
    return digest.hexdigest()


def _command(step: dict[str, Any]) -> str:
    """A step's line of shell."""
    kind = step["kind"]
    if kind == "pip":
        return f"{_PIP} {shlex.join(step['arguments'])}"
    if kind == "pip_file":
        return f"{_PIP} {shlex.join(['-r', f'{FOLDER}/requirements.txt', *step.get('arguments', ())])}"
    if kind == "function":
        words = shlex.join([step["module"], step["qualname"], f"{FOLDER}/given"])
        return f"PYTHONPATH={FOLDER}/own:{FOLDER}/code python3 -u -m adit.functions.step {words}"
    if kind == "wheel":
        return f"{_PIP} --no-deps --no-index {FOLDER}/{step['name']}"
    return str(step["command"])


def _shown(step: dict[str, Any]) -> str:
    """What people see of a step."""
    kind = step["kind"]
    if "shown" in step:
        shown = str(step["shown"])
    elif kind == "pip":
        shown = "pip install " + shlex.join(step["arguments"])
    elif kind == "pip_file":
        shown = "pip install -r requirements.txt"
    elif kind == "wheel":
        shown = f"pip install {step['name']}"
    elif kind == "copy":
        shown = f"copy {step['local']} to {step['remote']}"
    else:
        shown = str(step.get("command") or step.get("qualname") or step.get("path") or kind)
    return pip_settings.without_secrets(" && ".join(shown.splitlines()))[:SHOWN_MAX]


def _furnish(folder: str, step: dict[str, Any], wheel: bytes, code: bytes) -> list[Place]:
    """Fills the folder that a step sees at FOLDER; what else it is to see."""
    settings: dict[str, str] = {"PIP_BREAK_SYSTEM_PACKAGES": "1"}
    files = {"requirements.txt": step.get("text", "").encode(), "command": f"{_command(step)}\n".encode()}
    places = [Place(folder, FOLDER)]
    if step["kind"] in ("pip", "pip_file"):
        collected, more = pip_settings.collect(folder, FOLDER)
        settings |= collected
        places += more
    elif step["kind"] == "wheel":
        files[step["name"]] = wheel
    elif step["kind"] == "function":
        files["given"] = base64.b64decode(step["given"])
        bundle.unpack(code, os.path.join(folder, "code"))
        with zipfile.ZipFile(io.BytesIO(wheel)) as own:
            own.extractall(os.path.join(folder, "own"))
    settings |= step.get("secrets", {})
    files["settings"] = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in settings.items()).encode()
    for name, data in files.items():
        with open(os.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
    return places


def _changes(step: dict[str, Any]) -> list[str]:
    if step["kind"] == "env":
        return [f"ENV {k}={json.dumps(v)}" for k, v in step["variables"].items()]
    if step["kind"] == "workdir":
        return [f"WORKDIR {step['path']}"]
    return []
