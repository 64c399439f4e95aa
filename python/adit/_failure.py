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


@contextmanager
def translated(conflict: "type[Error]" = InvalidError) -> "Iterator[None]":
    """Failures of the library leave the block as exceptions of this package. ``conflict`` is what a port that is taken
    means there."""
    try:
        yield
    except _adit.Failure as failure:
        code, text = failure.args
        raise (conflict if code == _adit.ECONFLICT else _CLASSES.get(code, Error))(text) from None
    except (TypeError, ValueError) as error:
        raise InvalidError(f"{error} (see help(adit.forward) and help(adit.Client))") from None
