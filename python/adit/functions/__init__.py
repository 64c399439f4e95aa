"""Functions in containers, on demand: see docs/functions.md. ``from adit import App, Image, Queue, web_endpoint``."""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):
    raise ImportError("adit's functions need Python 3.10 or later (forward works with any from 3.9)")


from .. import _names
from . import gpu, later
from .app import App, Stub
from .cls import Cls, enter, exit, method
from .dict import Dict
from .function import Function, FunctionCall, gather
from .image import Image
from .mount import Mount
from .options import Retries
from .queue import Queue
from .schedule import Cron, Period
from .secret import Secret
from .session import current_function_call_id, is_local
from .volume import NetworkFileSystem, Volume
from .web import asgi_app, fastapi_endpoint, web_endpoint, web_server, wsgi_app

__all__ = [
    "App",
    "Cls",
    "Cron",
    "Dict",
    "Function",
    "FunctionCall",
    "Image",
    "Mount",
    "NetworkFileSystem",
    "Period",
    "Queue",
    "Retries",
    "Secret",
    "Stub",
    "Volume",
    "asgi_app",
    "current_function_call_id",
    "enter",
    "exit",
    "fastapi_endpoint",
    "gather",
    "gpu",
    "is_local",
    "method",
    "web_endpoint",
    "web_server",
    "wsgi_app",
]


def __getattr__(name: str) -> later.NotBuilt:
    if name in _names.LATER:
        return later.NotBuilt(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
