"""What a cluster answers instead of what it was asked for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx2
from lightkube import ApiError
from lightkube.core.exceptions import ConfigError as KubeConfigError

from ...exception import RemoteError
from .patience import UnansweredError

if TYPE_CHECKING:
    from collections.abc import Iterator

FORBIDDEN, NOT_FOUND, CONFLICT, UNABLE = 403, 404, 409, 500
_LACKS_RIGHT = " cannot "  # of what else is forbidden, such as a Pod that is too free, nobody says that


@contextlib.contextmanager
def told(rights: str = "functions.yaml") -> Iterator[None]:
    """As RemoteError. ``rights`` is the file that has those for it."""
    try:
        yield
    except ApiError as error:
        if (error.status.code or 0) >= UNABLE:
            raise UnansweredError(f"kubernetes: {error}") from None
        lacks = error.status.code == FORBIDDEN and _LACKS_RIGHT in str(error)
        hint = f" (kubectl apply -f deploy/kubernetes/{rights}, and use its ServiceAccount)" if lacks else ""
        raise RemoteError(f"kubernetes: {error}{hint}") from None
    except (httpx2.HTTPError, OSError) as error:
        raise UnansweredError(_unknown(error)) from None
    except (KubeConfigError, LookupError, ValueError) as error:  # of login programs
        raise RemoteError(_unknown(error)) from None


def _unknown(error: Exception) -> str:
    return f"kubernetes: {str(error) or type(error).__name__} (is that the right cluster? kubectl cluster-info)"


def status_of(error: RemoteError) -> int | None:
    """The status with which it refused; None when it did not come to that."""
    cause = error.__context__
    return cause.status.code if isinstance(cause, ApiError) else None
