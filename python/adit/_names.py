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
# Modal's names that are not here, each with what to use instead.
LATER = {
    "Sandbox": "have a function start it with subprocess.run, or use adit shell FILE -- COMMAND",
    "SandboxSnapshot": "have an image with the steps that lead there",
    "build": "use Image.run_function, or @enter()",
    "batched": "use allow_concurrent_inputs=, or send lists",
    "concurrent": "use @app.function(allow_concurrent_inputs=...)",
    "parameter": "have __init__ take it: Model(size=3)",
    "CloudBucketMount": "use Volume.from_name, or the bucket's own client with network=[...]",
    "Proxy": "use network=[...]",
    "SharedVolume": "use Volume.from_name",
    "FilePatternMatcher": "give ignore= a list of patterns",
    "SchedulerPlacement": "remove it",
    "create_package_mounts": "use Mount.from_local_python_packages",
    "container_app": "import the app from its module",
    "current_input_id": "use current_function_call_id",
    "enable_output": "with app.run(): shows it, unless show_progress=False",
    "interact": "use adit shell",
    "Environment": "remove it",
    "Workspace": "remove it",
}


def find(name: str) -> Any:
    """One of them."""
    if name not in BUILT and name not in LATER:
        import difflib  # noqa: PLC0415

        near = difflib.get_close_matches(name, BUILT, 1)
        hint = f" (did you mean {near[0]}?)" if near and not name.startswith("_") else ""
        raise AttributeError(f"module 'adit' has no attribute {name!r}{hint}")
    try:
        functions = importlib.import_module("adit.functions")
    except ImportError as error:
        raise ImportError(f"adit.{name}: {error} (pip install 'adit[functions]')") from None
    return functions if name == "functions" else getattr(functions, name)
