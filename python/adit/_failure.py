"""From the library's error codes to exceptions."""

from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import _adit
from .exception import AuthError, ClosedError, ConfigError, Error, InvalidError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLASSES: "dict[int, type[Exception]]" = {
    _adit.EINVAL: InvalidError,
    _adit.ENOMEM: MemoryError,
    _adit.ECONFIG: ConfigError,
    _adit.EUNREACHABLE: RemoteError,
    _adit.EAUTH: AuthError,
    _adit.EREFUSED: RemoteError,
    _adit.ETIMEDOUT: RemoteError,
    _adit.ECLOSED: ClosedError,
    _adit.EFORKED: ClosedError,
}


def to_exception(code: int, text: str, conflict: "type[Error]" = InvalidError) -> Exception:
    """``conflict`` is what an app that is taken means."""
    return (conflict if code == _adit.ECONFLICT else _CLASSES.get(code, Error))(text)


@contextmanager
def translated(conflict: "type[Error]" = InvalidError) -> "Iterator[None]":
    """Failures of the library leave the block as exceptions of this package."""
    try:
        yield
    except _adit.Failure as failure:
        code, text = failure.args
        raise to_exception(code, text, conflict) from None
    except (TypeError, ValueError) as error:
        raise InvalidError(f"{error} (see help(adit.forward) and help(adit.Client))") from None
