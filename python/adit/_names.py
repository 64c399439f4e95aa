"""The names of functions in containers, which are imported when one is asked for: ``import adit`` alone stays as small
as a tunnel needs it."""

from __future__ import annotations

import importlib
from typing import Any

BUILT = (
    "App", "Cls", "Cron", "Dict", "Function", "FunctionCall", "Image", "Mount", "NetworkFileSystem", "Period", "Queue",
    "Retries", "Secret", "Stub", "Volume", "asgi_app", "current_function_call_id", "enter", "exit",
    "fastapi_endpoint", "functions", "gather", "gpu", "is_local", "method", "web_endpoint", "web_server", "wsgi_app",
)  # fmt: skip
LATER = (
    "Sandbox", "build", "CloudBucketMount", "Proxy", "parameter", "batched", "concurrent",
)  # fmt: skip


def find(name: str) -> Any:
    """One of them."""
    if name not in BUILT and name not in LATER:
        raise AttributeError(f"module 'adit' has no attribute {name!r}")
    try:
        functions = importlib.import_module("adit.functions")
    except ImportError as error:
        raise ImportError(f"adit.{name}: {error} (pip install 'adit[functions]')") from None
    return functions if name == "functions" else getattr(functions, name)
