"""What a cluster answers instead of what it was asked for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx2
from lightkube import ApiError
from lightkube.core.exceptions import ConfigError as KubeConfigError

from ...exception import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator

FORBIDDEN, NOT_FOUND, CONFLICT = 403, 404, 409
_LACKS_RIGHT = " cannot "  # of what else is forbidden, such as a Pod that is too free, nobody says that


@contextlib.contextmanager
def told(rights: str = "functions.yaml") -> Iterator[None]:
    """As RemoteError. ``rights`` is the file that has those for it."""
    try:
        yield
    except ApiError as error:
        lacks = error.status.code == FORBIDDEN and _LACKS_RIGHT in str(error)
        hint = f" (kubectl apply -f deploy/kubernetes/{rights}, and use its ServiceAccount)" if lacks else ""
        raise RemoteError(f"kubernetes: {error}{hint}") from None
    except (httpx2.HTTPError, KubeConfigError, OSError, LookupError, ValueError) as error:  # of login programs, too
        raise RemoteError(
            f"kubernetes: {str(error) or type(error).__name__} (is that the right cluster? kubectl cluster-info)"
        ) from None


def status_of(error: RemoteError) -> int | None:
    """The status with which it refused; None when it did not come to that."""
    cause = error.__context__
    return cause.status.code if isinstance(cause, ApiError) else None
