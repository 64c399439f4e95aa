"""Secrets that have names: one file each in the user's configuration folder, which nobody else can read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets

from ..exception import ConfigError, InvalidError, NotFoundError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OTHERS = 0o077


def _folder() -> str:
    from .foreman.places import configuration_path

    return configuration_path("secrets")


def _path(name: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidError(f"secret: {name!r} is no name (up to 64 letters, digits, and . _ -)")
    return os.path.join(_folder(), f"{name}.json")


def read(name: str) -> dict[str, str]:
    """Its variables."""
    path = _path(name)
    try:
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise ConfigError(f"secret {name}: others may read {path} (chmod 600 {path})")
            found: dict[str, str] = json.load(file)
    except FileNotFoundError:
        raise NotFoundError(
            f"secret {name}: there is none of that name (make it with: adit secret create {name} KEY=VALUE)"
        ) from None
    except (OSError, ValueError):
        raise ConfigError(f"secret {name}: {path} cannot be read (is it yours, and JSON?)") from None
    return found


def check_key(key: str) -> str:
    """That it can be a variable of the environment."""
    if not _KEY.fullmatch(key):
        raise InvalidError(f"secret: {key!r} is no name of a variable (such as API_KEY=...)")
    return key


def write(name: str, values: dict[str, str], *, replace: bool) -> None:
    """Keeps it. InvalidError when there is one of that name that is not to be replaced."""
    path = _path(name)
    if not replace and os.path.exists(path):
        raise InvalidError(f"secret {name}: there is one of that name already (--force replaces it)")
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    new = f"{path}.{secrets.token_hex(4)}"
    try:
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            json.dump(values, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


def names() -> list[str]:
    """Of all that are kept."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(n[: -len(".json")] for n in os.listdir(_folder()) if n.endswith(".json"))
    return []


def delete(name: str) -> None:
    """Forgets it."""
    try:
        os.unlink(_path(name))
    except FileNotFoundError:
        raise NotFoundError(f"secret {name}: there is none of that name (see adit secret list)") from None
