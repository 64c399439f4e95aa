"""``Image``: what a function's container has installed. A description; nothing is built before something runs."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..exception import InvalidError
from .session import is_local
from .spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager


def _words(what: str, given: tuple[str | Iterable[str], ...]) -> list[str]:
    """Names, some of them perhaps in lists."""
    words: list[str] = []
    for one in given:
        words += [one] if isinstance(one, str) else list(one)
    if not all(isinstance(word, str) and word.strip() for word in words):
        raise InvalidError(f"{what}: {given!r} are not names of packages (such as {what}('numpy', 'pandas'))")
    return words


class Image:
    """An image: a base and steps. Each method gives a new one with a step more."""

    def __init__(self, spec: ImageSpec | None = None) -> None:
        if spec is not None and not isinstance(spec, ImageSpec):
            raise InvalidError("Image: it has no constructor of its own (begin with Image.debian_slim())")
        self._spec = spec or ImageSpec()

    def __repr__(self) -> str:
        return f"<adit.Image {self._spec.base or 'debian_slim'} with {len(self._spec.steps)} steps>"

    def _with(self, kind: str, **step: Any) -> Image:
        return Image(replace(self._spec, steps=[*self._spec.steps, {"kind": kind, **step}]))

    @staticmethod
    def debian_slim(python_version: str | None = None) -> Image:
        """Debian with a Python: the setting ``ADIT_BASE_IMAGE``, or else the official image
        ``python:3.X-slim-bookworm``, of the version that runs here unless ``python_version="3.12"`` says which."""
        if python_version is not None and not isinstance(python_version, str):
            raise InvalidError(f'python_version: {python_version!r} is no string (such as "3.12")')
        return Image(ImageSpec(python=python_version))

    @staticmethod
    def from_registry(tag: str, *, force_build: bool = False) -> Image:
        """An image that exists, with a Python from 3.10 and pip in it."""
        return Image(ImageSpec(base=tag))._forced(force_build)

    def _forced(self, force_build: bool) -> Image:
        """From here on, built again each time."""
        return self._with("force", nonce=os.urandom(8).hex()) if force_build else self

    def pip_install(
        self,
        *packages: str | list[str],
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        force_build: bool = False,
    ) -> Image:
        """Installs Python packages, with the caller's own settings of pip (index, proxy, certificates), of which
        nothing stays in the image."""
        words = _words("pip_install", packages)
        if not words:
            return self
        options: list[str] = []
        for name, value in (("find-links", find_links), ("index-url", index_url), ("extra-index-url", extra_index_url)):
            options += [f"--{name}", value] if value else []
        return self._forced(force_build)._with("pip", arguments=[*options, *(["--pre"] if pre else []), *sorted(words)])

    def pip_install_from_requirements(self, requirements_txt: str, *, force_build: bool = False) -> Image:
        """Installs what a requirements file of this machine lists."""
        text = ""
        try:
            if is_local():  # the container, which imports its program, too, has been built from it
                with open(os.path.expanduser(requirements_txt), encoding="utf-8") as file:
                    text = file.read()
        except OSError as error:
            raise InvalidError(f"requirements_txt: {error}") from None
        return self._forced(force_build)._with("pip_file", text=text)

    def apt_install(self, *packages: str | list[str], force_build: bool = False) -> Image:
        """Installs Debian's packages."""
        words = _words("apt_install", packages)
        if not words:
            return self
        names = shlex.join(sorted(words))
        command = (
            "export DEBIAN_FRONTEND=noninteractive; apt-get update && "
            f"apt-get install -y --no-install-recommends {names} && rm -rf /var/lib/apt/lists/*"
        )
        return self._forced(force_build)._with("run", command=command)

    def run_commands(self, *commands: str | list[str], force_build: bool = False) -> Image:
        """Runs lines of shell, as root, with network."""
        words = _words("run_commands", commands)
        return self._forced(force_build)._with("run", command="\n".join(words)) if words else self

    def env(self, variables: dict[str, str]) -> Image:
        """Sets environment variables. They can be read by whoever has the image: no place for secrets."""
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in variables.items()):
            raise InvalidError("env: names and values are strings (such as env({'LEVEL': '3'}))")
        return self._with("env", variables=dict(variables))

    def workdir(self, path: str) -> Image:
        """The folder in which functions begin."""
        return self._with("workdir", path=path)

    def copy_local_file(self, local_path: str, remote_path: str = "./") -> Image:
        """Puts a file of this machine into the image. A path that ends with ``/`` is a folder."""
        local = os.path.abspath(os.path.expanduser(local_path))
        if is_local() and not os.path.isfile(local):
            raise InvalidError(f"copy_local_file: {local_path}: there is no such file")
        remote = remote_path + os.path.basename(local) if remote_path.endswith("/") else remote_path
        return self._with("copy", local=local, remote=remote)

    def copy_local_dir(self, local_path: str, remote_path: str = ".") -> Image:
        """Puts a folder of this machine, with all that is in it, into the image."""
        local = os.path.abspath(os.path.expanduser(local_path))
        if is_local() and not os.path.isdir(local):
            raise InvalidError(f"copy_local_dir: {local_path}: there is no such folder")
        return self._with("copy", local=local, remote=remote_path)

    add_local_file = copy_local_file
    add_local_dir = copy_local_dir

    def imports(self) -> AbstractContextManager[None]:
        """``with image.imports():`` around imports of what only the container has."""
        return _Imports()


class _Imports:
    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        return kind is not None and issubclass(kind, ImportError) and is_local()


def local_files(step: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The files of a copy step: path here, path below the image's root."""
    local, remote = step["local"], step["remote"]
    if os.path.isfile(local):
        yield local, remote
        return
    for folder, folders, names in os.walk(local):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            yield path, os.path.join(remote, os.path.relpath(path, local))
