"""The web side of a function, in its container: a server at a socket that the foreman joins visitors to."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .spec import WebSpec

SOCKET = "/run/adit/web.sock"


def _listener() -> socket.socket:
    """Where visitors come, which the foreman hands over: nothing of the container's is in a folder of the machine."""
    with socket.socket(socket.AF_UNIX) as way:
        way.connect(SOCKET)
        _, [descriptor], _, _ = socket.recv_fds(way, 1, 1)
    return socket.socket(fileno=descriptor)


def _endpoint(web: WebSpec, function: Callable[..., Any]) -> Any:
    import fastapi
    from fastapi.middleware.cors import CORSMiddleware

    pages: dict[str, Any] = {} if web.docs else {"docs_url": None, "redoc_url": None, "openapi_url": None}
    app = fastapi.FastAPI(title=function.__name__, **pages)
    if web.cors:
        app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    app.add_api_route("/", function, methods=[web.method])
    return app


def _application(web: WebSpec, function: Callable[..., Any]) -> Any:
    if web.kind == "endpoint":
        return _endpoint(web, function)
    application = function()
    if web.kind == "wsgi":
        from a2wsgi import WSGIMiddleware

        return WSGIMiddleware(application)
    return application


def serve(web: WebSpec, function: Callable[..., Any], ready: Callable[[], object]) -> None:
    """Until the container ends."""
    if web.kind == "server":
        function()
        _serve_port(web, ready)
        return
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        _application(web, function),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
        proxy_headers=False,
    )
    Server(config).run(sockets=[_listener()])


def _serve_port(web: WebSpec, ready: Callable[[], object]) -> None:
    """A server of the function's own, behind our socket."""
    end = time.monotonic() + web.startup_timeout
    while True:
        try:
            socket.create_connection(("127.0.0.1", web.port), 1).close()
            break
        except OSError:
            if time.monotonic() > end:
                print(
                    f"web_server: nothing listens on port {web.port} after {web.startup_timeout:g} s", file=sys.stderr
                )
                sys.exit(1)
            time.sleep(0.02)
    listener = _listener()
    listener.listen(128)
    ready()
    while True:
        _pass_on(listener.accept()[0], web.port)


def _pass_on(visitor: socket.socket, port: int) -> None:
    """To the server. While that takes nobody, or no thread more can be had, visitors go, and others may come."""
    try:
        app = socket.create_connection(("127.0.0.1", port))
    except OSError:
        visitor.close()
        return
    try:
        for source, sink in ((visitor, app), (app, visitor)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()
    except RuntimeError:
        _end(visitor, app)


def _end(*ends: socket.socket) -> None:
    """Also for a thread that reads there."""
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        _end(source, sink)
