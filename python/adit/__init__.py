"""Give a local TCP port a public address::

    from adit import forward

    with forward(8000) as tunnel:
        print(tunnel.url)

Functions in containers, ``from adit import App, Image, Queue, web_endpoint``, are an extra (docs/functions.md).

See :func:`forward`, and :mod:`adit.exception` for what can go wrong.
"""

from typing import TYPE_CHECKING

from . import _fork_warning, exception
from ._adit import version as _version
from ._client import Client
from ._events import Event
from ._forward import Forward, forward
from ._https import https
from ._registry import tunnels
from ._tunnel import Stats, Tunnel

if not TYPE_CHECKING:  # who checks types knows the names below
    from ._names import find as __getattr__  # noqa: F401
else:
    from .functions import (
        App as App,
        Cls as Cls,
        Cron as Cron,
        Dict as Dict,
        Function as Function,
        FunctionCall as FunctionCall,
        Image as Image,
        Mount as Mount,
        NetworkFileSystem as NetworkFileSystem,
        Period as Period,
        Queue as Queue,
        Retries as Retries,
        Secret as Secret,
        Stub as Stub,
        Volume as Volume,
        asgi_app as asgi_app,
        current_function_call_id as current_function_call_id,
        enter as enter,
        exit as exit,
        fastapi_endpoint as fastapi_endpoint,
        gather as gather,
        gpu as gpu,
        is_local as is_local,
        method as method,
        web_endpoint as web_endpoint,
        web_server as web_server,
        wsgi_app as wsgi_app,
    )

__all__ = ["Client", "Event", "Forward", "Stats", "Tunnel", "exception", "forward", "https", "tunnels"]
__version__ = _version()

_fork_warning.install()
for _public in (Client, Event, Forward, Stats, Tunnel, forward, https, tunnels):
    _public.__module__ = __name__  # where users find it
