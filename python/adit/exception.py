"""What can go wrong, as exceptions. Each message says what is wrong, why, and what to do."""

import builtins
import queue


class Error(Exception):
    """The base of all errors of this package."""


class InvalidError(Error):
    """A wrong argument, or something asked of a tunnel that it does not have."""


class ConfigError(Error):
    """There is no token, or the token, the configuration file, or another file that was named does not do."""


class AuthError(Error):
    """The relay refused the token (unknown, expired, revoked), or its certificate is not the one that the token
    names."""


class RemoteError(Error):
    """The relay cannot be reached, does not answer in time, or refused the tunnel."""


class ClosedError(Error):
    """The tunnel or client was closed, superseded by a newer one with the same ``keep`` file, or belongs to the parent
    process."""


class EmbeddedRelayWarning(UserWarning):
    """No token is configured, so the tunnel's addresses work on this machine only."""


class NotFoundError(Error):
    """A queue, call or app that does not exist, or has ended."""


class ImageError(RemoteError):
    """An image cannot be had: a step of it failed, or its registry does not give it."""


class ExecutionError(Error):
    """A function did not come to its end: its container died, or what it was to send cannot be sent."""


class TimeoutError(Error, builtins.TimeoutError):
    """Something was not there in time; the builtin of that name, too."""


class FunctionTimeoutError(ExecutionError, TimeoutError):
    """A function took longer than its ``timeout``."""


class CancelledError(ExecutionError):
    """The call was cancelled."""


class QueueFullError(Error, queue.Full):
    """There is no room in the queue; ``queue.Full`` of the standard library."""
