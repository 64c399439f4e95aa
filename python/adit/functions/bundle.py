"""The code of an app on its way into containers: the file that was run, and the modules of its folder that it has
imported. Files, no pickles: so line numbers are right, and the container's Python may be another."""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import sys
import tarfile
from typing import TYPE_CHECKING, Any

from ..exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from .spec import AppSpec

BUNDLE_MAX = 64 << 20
_NOT_OURS = ("site-packages", "dist-packages")
_entry: list[str] = []  # the file that `adit run` was given


def load(path: str) -> ModuleType:
    """Imports a file as a program is: its folder comes first where modules are looked for."""
    full = os.path.abspath(path)
    if not os.path.isfile(full):
        raise InvalidError(f"{path}: there is no such file")
    name = os.path.splitext(os.path.basename(full))[0]
    _entry[:] = [full]
    sys.path.insert(0, os.path.dirname(full))
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise InvalidError(f"{path}: it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def entry() -> str | None:
    """The program's file."""
    return _entry[0] if _entry else getattr(sys.modules.get("__main__"), "__file__", None)


def main_name() -> str:
    """What the program's own module is called in containers."""
    path = entry()
    if path is None:
        raise InvalidError(
            "app: its functions are to be in a file (an interactive session's cannot be found by a container)"
        )
    name = os.path.splitext(os.path.basename(path))[0]
    main = sys.modules.get("__main__")
    if main is not None and getattr(main, "__file__", None) == path:
        sys.modules.setdefault(name, main)  # so that what comes back finds its classes here
    return name


def module_of(code: Any) -> str:
    """What the module of a function or class is called in containers."""
    return main_name() if code.__module__ == "__main__" else str(code.__module__)


def find(module: str, qualname: str) -> Any:
    """What such a function or class is here."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def files(spec: AppSpec | None = None) -> Iterator[tuple[str, str]]:
    """Path here, and path below the code's root, of each."""
    path = entry()
    if path is None:
        return
    path = os.path.abspath(path)
    root, seen = os.path.dirname(path), {path}
    yield path, os.path.basename(path)
    for module in list(sys.modules.values()):
        source = getattr(module, "__file__", None)
        if not isinstance(source, str) or not source.endswith(".py"):
            continue
        source = os.path.abspath(source)
        below = os.path.relpath(source, root)
        if source in seen or below.startswith("..") or any(part in _NOT_OURS for part in below.split(os.sep)):
            continue
        if source.startswith(sys.prefix + os.sep) and not root.startswith(sys.prefix + os.sep):
            continue
        seen.add(source)
        yield source, below


def pack(spec: AppSpec | None = None) -> bytes:
    """A tar archive of them."""
    out, total = io.BytesIO(), 0
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, below in files(spec):
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except OSError:
                continue
            total += len(data)
            if total > BUNDLE_MAX:
                raise InvalidError(f"app: its modules are more than {BUNDLE_MAX >> 20} MiB (is {path} one of them?)")
            info = tarfile.TarInfo(below)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def unpack(data: bytes, folder: str) -> None:
    """In the container."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for member in tar:
            path = os.path.normpath(os.path.join(folder, member.name))
            if not path.startswith(folder + os.sep) or not member.isfile():
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            source = tar.extractfile(member)
            if source is not None:
                with open(path, "wb") as file:
                    file.write(source.read())
