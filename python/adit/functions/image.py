"""``Image``: what a function's container has installed. A description; nothing is built before something runs."""

from __future__ import annotations

import base64
import hashlib
import inspect
import os
import re
import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ..exception import InvalidError
from . import bundle, wire
from .ignore import Ignore
from .known import Telling
from .secret import check_secrets, check_variables
from .session import is_local
from .spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from .secret import Secret

PYTHON_MIN = 10  # of 3.X
_PIP = "use pip_install"
_CONDA = "use pip_install, or from_registry with an image that has conda"
_COMMANDS = "use run_commands"


_WORDS = {  # what is in a list of them, such as
    "pip_install": "names of packages (such as pip_install('numpy', 'pandas'))",
    "apt_install": "names of packages (such as apt_install('git', 'curl'))",
    "run_commands": "lines of shell (such as run_commands('make install'))",
}


def _words(what: str, given: tuple[str | Iterable[str], ...]) -> list[str]:
    """Some of them perhaps in lists."""
    words: list[str] = []
    for one in given:
        words += list(one) if isinstance(one, (list, tuple, set)) else [one]  # type: ignore[list-item]
    if not all(isinstance(word, str) and word.strip() for word in words):
        raise InvalidError(f"{what}: {given!r} are not {_WORDS[what]}")
    return words


def _check_python(given: object) -> None:
    if not isinstance(given, str):
        raise InvalidError(f'python_version: {given!r} is no string (such as "3.12")')
    found = re.fullmatch(r"3\.([0-9]{2})", given)
    if found is None or int(found[1]) < PYTHON_MIN:
        raise InvalidError(f'python_version: {given!r} is no version from 3.{PYTHON_MIN} on (such as "3.12")')


def _read(what: str, path: str) -> str:
    """A file of this machine; nothing in a container, which imports its program, too, and has been built from it."""
    if not is_local():
        return ""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"{what}: {path}: {getattr(error, 'strerror', None) or error}") from None


def _ignored(what: str, ignore: Sequence[str]) -> list[str]:
    if isinstance(ignore, str) or not all(isinstance(pattern, str) for pattern in ignore):
        raise InvalidError(f"{what}: ignore= is a list of patterns (such as ['**/*.pyc'])")
    return list(ignore)


class Image(Telling):
    """An image: a base and steps. Each method gives a new one with a step more."""

    _instead: ClassVar[dict[str, str]] = {
        "micromamba": _CONDA,
        "micromamba_install": _CONDA,
        "conda": _CONDA,
        "conda_install": _CONDA,
        "poetry_install_from_file": "use pip_install_from_pyproject, or run_commands",
        "pip_install_private_repos": "use pip_install with your own settings of pip, which stay out of the image",
        "uv_pip_install": _PIP,
        "uv_sync": _PIP,
        "dockerfile_commands": "use run_commands, env and workdir, or from_dockerfile",
        "entrypoint": "functions have none: use run_commands, or start it in the function",
        "cmd": "functions have none: start it in the function",
        "shell": _COMMANDS,
        "run_inside": "use imports",
        "copy_mount": "use copy_local_dir",
        "copy": "use copy_local_dir",
        "add_local_python_source": "modules of the program's folder come by themselves; copy_local_dir brings others",
        "from_scratch": "use from_registry or from_dockerfile",
        "from_aws_ecr": "log the engine in, then from_registry",
        "from_gcp_artifact_registry": "log the engine in, then from_registry",
        "from_id": "use from_registry with the image's name",
        "from_name": "use from_registry with the image's name",
        "build": "it is built when something runs",
    }

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
        if python_version is not None:
            _check_python(python_version)
        return Image(ImageSpec(python=python_version))

    @staticmethod
    def from_registry(tag: str, *, force_build: bool = False) -> Image:
        """An image that exists, with a Python from 3.10 and pip in it."""
        if not isinstance(tag, str) or not tag or any(c.isspace() for c in tag):
            raise InvalidError(f"from_registry: {tag!r} is no image's name (such as 'python:3.12-slim')")
        return Image(ImageSpec(base=tag))._forced(force_build)

    @staticmethod
    def from_dockerfile(
        path: str,
        *,
        context_dir: str | None = None,
        build_args: dict[str, str] | None = None,
        force_build: bool = False,
    ) -> Image:
        """What a Dockerfile makes, with a Python from 3.10 and pip in it. ``COPY`` finds the files of ``context_dir``,
        by default the Dockerfile's folder, but those that its ``.dockerignore`` leaves out. Build arguments stay in
        the image's history: no place for secrets."""
        file = os.path.abspath(os.path.expanduser(path))
        folder = os.path.abspath(os.path.expanduser(context_dir)) if context_dir is not None else os.path.dirname(file)
        if is_local() and not os.path.isfile(file):
            raise InvalidError(f"from_dockerfile: {path}: there is no such file")
        if is_local() and not os.path.isdir(folder):
            raise InvalidError(f"from_dockerfile: {context_dir}: there is no such folder")
        given = check_variables("from_dockerfile: build_args", build_args)
        made = {"file": file, "folder": folder, "args": dict(given)}
        if force_build:
            made["nonce"] = os.urandom(8).hex()
        return Image(ImageSpec(dockerfile=made))

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
        extra_options: str = "",
        force_build: bool = False,
    ) -> Image:
        """Installs Python packages, with the caller's own settings of pip (index, proxy, certificates), of which
        nothing stays in the image. ``extra_options`` are more words for pip."""
        words = _words("pip_install", packages)
        if not words:
            return self
        options = _pip_options(find_links, index_url, extra_index_url, pre, extra_options)
        return self._forced(force_build)._with("pip", arguments=[*options, *sorted(words)])

    def pip_install_from_requirements(
        self,
        requirements_txt: str,
        *,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
    ) -> Image:
        """Installs what a requirements file of this machine lists."""
        text = _read("pip_install_from_requirements", requirements_txt)
        options = _pip_options(find_links, index_url, extra_index_url, pre, extra_options)
        return self._forced(force_build)._with("pip_file", text=text, arguments=options)

    def pip_install_from_pyproject(
        self,
        pyproject_toml: str,
        optional_dependencies: Sequence[str] = (),
        *,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
    ) -> Image:
        """Installs the dependencies of a project of this machine, and those of the extras that are named."""
        what = f"pip_install_from_pyproject: {pyproject_toml}"
        if not is_local():
            return self
        if sys.version_info >= (3, 11):
            import tomllib
        else:  # which containers have not
            import tomli as tomllib
        try:
            project = tomllib.loads(_read("pip_install_from_pyproject", pyproject_toml)).get("project", {})
        except tomllib.TOMLDecodeError as error:
            raise InvalidError(f"{what}: {error}") from None
        if "dependencies" not in project:
            raise InvalidError(f"{what}: it has no [project] table with dependencies (use pip_install)")
        words, extras = list(project["dependencies"]), project.get("optional-dependencies", {})
        for name in [optional_dependencies] if isinstance(optional_dependencies, str) else optional_dependencies:
            if name not in extras:
                raise InvalidError(f"{what}: there is no extra {name} (there are: {', '.join(extras) or 'none'})")
            words += extras[name]
        return self.pip_install(
            *words,
            find_links=find_links,
            index_url=index_url,
            extra_index_url=extra_index_url,
            pre=pre,
            extra_options=extra_options,
            force_build=force_build,
        )

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

    def run_commands(
        self, *commands: str | list[str], secrets: Sequence[Secret] = (), force_build: bool = False
    ) -> Image:
        """Runs lines of shell, as root, with network. They see the secrets as variables, of which nothing stays in the
        image but what they write."""
        words = _words("run_commands", commands)
        values = check_secrets("run_commands", secrets)
        step: dict[str, Any] = {"command": "\n".join(words), **({"secrets": values} if values else {})}
        return self._forced(force_build)._with("run", **step) if words else self

    def env(self, variables: dict[str, str]) -> Image:
        """Sets environment variables. They can be read by whoever has the image: no place for secrets."""
        return self._with("env", variables=check_variables("env", variables))

    def workdir(self, path: str) -> Image:
        """The folder in which functions begin."""
        if not isinstance(path, str) or not path.startswith("/"):
            raise InvalidError(f"workdir: {path!r} is no full path (such as '/srv')")
        return self._with("workdir", path=path)

    def copy_local_file(self, local_path: str, remote_path: str = "./") -> Image:
        """Puts a file of this machine into the image. A path that ends with ``/`` is a folder; one that does not begin
        with it is below ``/root``."""
        return self._with("copy", **copy_file("copy_local_file", local_path, remote_path))

    def copy_local_dir(self, local_path: str, remote_path: str = ".", *, ignore: Sequence[str] = ()) -> Image:
        """Puts a folder of this machine, with all that is in it, into the image; but what fits one of the patterns,
        which are as in a ``.dockerignore``."""
        return self._with("copy", **copy_folder("copy_local_dir", local_path, remote_path, ignore))

    def add_local_file(self, local_path: str, remote_path: str, *, copy: bool = False) -> Image:
        """``copy_local_file``, as Modal calls it today. ``copy`` says nothing here: it is in the image always."""
        return self._with("copy", **copy_file("add_local_file", local_path, remote_path))

    def add_local_dir(
        self, local_path: str, remote_path: str, *, copy: bool = False, ignore: Sequence[str] = ()
    ) -> Image:
        """``copy_local_dir``, as Modal calls it today. ``copy`` says nothing here: it is in the image always."""
        return self._with("copy", **copy_folder("add_local_dir", local_path, remote_path, ignore))

    def run_function(
        self,
        raw_f: Callable[..., Any],
        *,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        secrets: Sequence[Secret] = (),
        force_build: bool = False,
    ) -> Image:
        """Runs a function of this program as a step, as root, with network: what it leaves in the file system is in
        the image (a model that it downloads). It is run again when its own text or arguments change."""
        code: Any = getattr(raw_f, "raw", raw_f)
        if not inspect.isfunction(code):
            raise InvalidError(f"run_function: {raw_f!r} is no function")
        if "<" in code.__qualname__:
            raise InvalidError(
                f"run_function: {code.__qualname__}: the image's build cannot find it (move it to the top of its "
                "module)"
            )
        given = wire.encode((tuple(args), kwargs or {}), "run_function: an argument")
        return self._forced(force_build)._with(
            "function",
            module=bundle.module_of(code),
            qualname=code.__qualname__,
            text=_text_of(code),
            given=base64.b64encode(given).decode("ascii"),
            secrets=check_secrets("run_function", secrets),
        )

    def imports(self) -> AbstractContextManager[None]:
        """``with image.imports():`` around imports of what only the container has."""
        return _Imports()


class _Imports:
    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        return kind is not None and issubclass(kind, ImportError) and is_local()


def _pip_options(
    find_links: str | None, index_url: str | None, extra_index_url: str | None, pre: bool, extra_options: str
) -> list[str]:
    words: list[str] = []
    for name, value in (("find-links", find_links), ("index-url", index_url), ("extra-index-url", extra_index_url)):
        words += [f"--{name}", value] if value else []
    return [*words, *(["--pre"] if pre else []), *shlex.split(extra_options)]


def _text_of(code: Any) -> str:
    """By which a function is known to be another."""
    try:
        text = inspect.getsource(code)
    except (OSError, TypeError):
        text = code.__code__.co_code.hex()
    return hashlib.sha256(text.encode()).hexdigest()


def copy_file(what: str, local_path: str, remote_path: str) -> dict[str, Any]:
    """A copy step."""
    local = os.path.abspath(os.path.expanduser(local_path))
    if is_local() and not os.path.isfile(local):
        raise InvalidError(f"{what}: {local_path}: there is no such file")
    remote = remote_path + os.path.basename(local) if remote_path.endswith("/") else remote_path
    return {"local": local, "remote": remote}


def copy_folder(what: str, local_path: str, remote_path: str, ignore: Sequence[str] = ()) -> dict[str, Any]:
    """Likewise, of a folder."""
    local = os.path.abspath(os.path.expanduser(local_path))
    if is_local() and not os.path.isdir(local):
        raise InvalidError(f"{what}: {local_path}: there is no such folder")
    return {"local": local, "remote": remote_path, "ignore": _ignored(what, ignore)}


def local_files(step: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The files of a copy step: path here, path below the image's root."""
    local, remote = step["local"], os.path.join("/root", step["remote"])
    if os.path.isfile(local):
        yield local, os.path.normpath(remote)
        return
    for path, below in Ignore(step.get("ignore") or ()).walk(local):
        yield path, os.path.normpath(os.path.join(remote, below))
