"""``Secret``: environment variables that a function is to have and nobody else is to see: they go to its runner through
the foreman, and are neither in its image nor in what the engine tells of its container."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from ..exception import InvalidError
from .known import Telling
from .session import is_local


class Secret(Telling):
    """Some variables. ``@app.function(secrets=[...])``; of several with one name the last counts."""

    _instead: ClassVar[dict[str, str]] = {"lookup": "use Secret.from_name", "create_deployed": "use adit secret create"}

    def __init__(self) -> None:
        raise InvalidError("Secret: it has no constructor (use Secret.from_dict({'NAME': 'value'}))")

    values: dict[str, str]

    @classmethod
    def _of(cls, values: dict[str, str]) -> Secret:
        made = cls.__new__(cls)
        made.values = values
        return made

    def __repr__(self) -> str:
        return f"<adit.Secret with {', '.join(self.values) or 'nothing'}>"

    @staticmethod
    def from_dict(env_dict: dict[str, str | None]) -> Secret:
        """These; those that are None are left out."""
        given = {k: v for k, v in env_dict.items() if v is not None} if isinstance(env_dict, Mapping) else env_dict
        return Secret._of(check_variables("Secret.from_dict", given))

    @staticmethod
    def from_local_environ(env_keys: Iterable[str]) -> Secret:
        """Those of the caller's own environment that have these names."""
        if not is_local():
            return Secret._of({})
        names = [env_keys] if isinstance(env_keys, str) else list(env_keys)
        missing = [name for name in names if name not in os.environ]
        if missing:
            raise InvalidError(f"Secret.from_local_environ: {', '.join(missing)}: not set here")
        return Secret._of({name: os.environ[name] for name in names})

    @staticmethod
    def from_dotenv(path: str | None = None) -> Secret:
        """Those of a file of ``NAME=value`` lines: this one, or ``.env`` in the folder that the caller is in."""
        if not is_local():
            return Secret._of({})
        found = os.path.join(path, ".env") if path and os.path.isdir(path) else path or ".env"
        values: dict[str, str] = {}
        try:
            with open(found, encoding="utf-8") as file:
                for line in file:
                    text = line.strip().removeprefix("export ")
                    name, equals, value = text.partition("=")
                    if equals and not text.startswith("#"):
                        values[name.strip()] = _unquoted(value.strip())
        except OSError as error:
            raise InvalidError(f"Secret.from_dotenv: {found}: {error.strerror or error}") from None
        return Secret._of(values)

    @staticmethod
    def from_name(name: str, *, required_keys: Iterable[str] = ()) -> Secret:
        """Those that ``adit secret create`` was given for that name. NotFoundError when there is none."""
        if not is_local():
            return Secret._of({})
        from . import secret_store

        values = secret_store.read(name)
        missing = [key for key in required_keys if key not in values]
        if missing:
            raise InvalidError(f"Secret.from_name: {name}: it has no {', '.join(missing)} (see adit secret list)")
        return Secret._of(values)


def _unquoted(value: str) -> str:
    for quote in "'\"":
        if len(value) > 1 and value.startswith(quote) and value.endswith(quote):
            return value[1:-1]
    return value.partition(" #")[0].rstrip()


def check_variables(what: str, given: Any) -> dict[str, str]:
    """Variables of an environment."""
    if not isinstance(given or {}, Mapping):
        raise InvalidError(f"{what}: {given!r} is no dict (such as {{'LEVEL': '3'}})")
    values: dict[str, str] = dict(given or {})
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in values.items()):
        raise InvalidError(f"{what}: names and values are strings (such as {{'LEVEL': '3'}})")
    for name, value in values.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidError(f"{what}: {name!r} cannot be a variable (a name has no =, and neither has a NUL)")
    return values


def check_secrets(name: str, given: Any) -> dict[str, str]:
    """The variables of several, for what is called ``name``."""
    values: dict[str, str] = {}
    for secret in [given] if isinstance(given, Secret) or not isinstance(given, Iterable) else list(given):
        if not isinstance(secret, Secret):
            raise InvalidError(f"{name}: secrets: {secret!r} is no adit.Secret (such as [Secret.from_dict(...)])")
        values.update(secret.values)
    return values
