"""What can go wrong, as exceptions. Each message says what is wrong, why, and what to do."""


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
