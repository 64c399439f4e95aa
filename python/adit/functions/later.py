"""Names that users of Modal look for and that are not built yet: each says so when it is used."""

from __future__ import annotations

from typing import Any

from .._names import LATER
from ..exception import InvalidError


class NotBuilt:
    """Stands for one of them."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __repr__(self) -> str:
        return f"<adit.{self.__name__}, which is not built yet>"

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise InvalidError(f"adit has no {self.__name__} yet ({LATER[self.__name__]})")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self()
