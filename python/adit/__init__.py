"""Give a local TCP port a public address::

    from adit import forward

    with forward(8000) as tunnel:
        print(tunnel.url)

See :func:`forward`, and :mod:`adit.exception` for what can go wrong.
"""

from . import _fork_warning, exception
from ._adit import version as _version
from ._client import Client
from ._events import Event
from ._forward import Forward, forward
from ._https import https
from ._registry import tunnels
from ._tunnel import Stats, Tunnel

__all__ = ["Client", "Event", "Forward", "Stats", "Tunnel", "exception", "forward", "https", "tunnels"]
__version__ = _version()

_fork_warning.install()
for _public in (Client, Event, Forward, Stats, Tunnel, forward, https, tunnels):
    _public.__module__ = __name__  # where users find it
