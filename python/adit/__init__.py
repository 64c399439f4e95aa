"""Give a local TCP port a public address::

    from adit import forward

    with forward(8000) as tunnel:
        print(tunnel.url)

See :func:`forward`, and :mod:`adit.exception` for what can go wrong.
"""

from . import exception
from ._adit import version as _version
from ._client import Client
from ._forward import Forward, forward
from ._https import https
from ._tunnel import Tunnel

__all__ = ["Client", "Forward", "Tunnel", "exception", "forward", "https"]
__version__ = _version()
