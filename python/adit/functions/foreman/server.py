"""A foreman's sockets: one for its caller, who may do all, and one for each container, which is thereby known and may
only fetch its work, answer it, call functions of its app and use queues whose ids it has."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from aiohttp import web

from ... import __version__
from ...exception import Error, InvalidError, NotFoundError
from .. import wire
from . import app_verbs, call_verbs, descriptors, dict_verbs, queue_verbs, unix, volume_verbs, work_verbs  # noqa: F401  (they enter themselves into the tables)
from .verbs import CALLER, RUNNER, Asked

if TYPE_CHECKING:
    from .foreman import Foreman
    from .verbs import Answer
    from .worker import Worker

BODY_MAX = 128 << 20  # of one message of a container
BODIES, CALLER_BODIES = 1, 64  # that are read at once from one socket
BODY_S = 60.0  # for one of a container to come
SILENT_S = 7 * 24 * 3600.0  # that a connection is kept: whoever works on a call says nothing for as long as that takes
END_S = 0.1  # for answers that are under way when it ends (0 would be for ever)
CONNECTIONS = 256  # of one container
OF_SPARES = ("work", "token")  # what one may ask for that does not know yet what it is to be
ACCEPTED = 16  # at once, before the first of them counts


async def serve(foreman: Foreman, path: str, worker: Worker | None) -> web.AppRunner:
    """A socket for a container, or for the caller."""
    app = web.Application(client_max_size=BODY_MAX if worker else wire.PAYLOAD_MAX)
    verbs = RUNNER if worker else CALLER
    reading = asyncio.Semaphore(BODIES if worker else CALLER_BODIES)

    async def handle(request: web.Request) -> web.StreamResponse:
        name = request.match_info["verb"]
        try:
            async with reading:
                said = await _read(request, worker)  # whole, or whoever sends it would not hear the answer
                _check_version(request.headers.get(wire.VERSION, __version__), worker)
                meta, payload = wire.unpack(said)
            asked = Asked(foreman, worker, meta, payload)
            if worker is None and name == "app_news":
                return await _stream_news(request, asked)
            verb = verbs.get(name) if worker is None or not worker.pool.spare or name in OF_SPARES else None
            if verb is None:
                raise NotFoundError(f"{name}: there is no such verb here (are both sides of one version of adit?)")
            return await _send(request, await verb(asked))
        except web.HTTPException:
            raise
        except ConnectionError:  # nobody hears the answer, and nothing is wrong here
            said = b""
        except Error as error:
            said = wire.pack({"error": wire.kind_of(error), "text": str(error)})
        except Exception as error:  # whatever a stranger may write
            text = f"{name}: this is not understood: {type(error).__name__}: {error}"
            said = wire.pack({"error": "InvalidError", "text": text})
        return web.Response(status=400, body=said)

    listening: list[asyncio.Server] = []

    async def shut(_: web.Application) -> None:
        for server in listening:
            server.close()

    app.on_shutdown.append(shut)
    app.router.add_post("/{verb}", handle)
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        keepalive_timeout=SILENT_S,
        access_log=None,
        shutdown_timeout=END_S,
        lingering_time=0,
    )
    await runner.setup()
    if worker is None:
        await web.UnixSite(runner, path).start()
        os.chmod(path, 0o600)
    else:
        app_server = runner.server
        assert app_server is not None

        def admit() -> asyncio.Protocol:
            n = len(app_server.connections)
            return (
                _Refusal()
                if n > CONNECTIONS - ACCEPTED or (n >= descriptors.FEW and descriptors.are_short())
                else app_server()
            )

        own = unix.bind(path)
        listening.append(await asyncio.get_running_loop().create_unix_server(admit, sock=own, backlog=ACCEPTED))
    return runner


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


async def _read(request: web.Request, worker: Worker | None) -> bytes:
    """A message. A container's is not begun to be read when it says to be too large, and is to come in time."""
    if worker is None:
        return await request.read()
    if (request.content_length or 0) > BODY_MAX:
        raise web.HTTPRequestEntityTooLarge(BODY_MAX, request.content_length or 0)
    return await asyncio.wait_for(request.read(), BODY_S)


def _check_version(theirs: str, worker: Worker | None) -> None:
    if theirs == __version__:
        return
    if worker is None:
        text = f"foreman: it is of adit {__version__}, and its caller of {theirs} (pip install adit=={__version__})"
        raise InvalidError(text)
    if worker.is_taken:  # which finishes what it has, and gets nothing more
        worker.pool.end(worker)
        return
    text = f"container: it is of adit {theirs}, and its foreman of {__version__} (adit deploy its app again)"
    worker.end("ExecutionError", f"{worker.pool.spec.name}: {text}")
    raise InvalidError(text)


_LISTENING = {"past": True, "follow": True, "holds": False}


async def _stream_news(request: web.Request, asked: Asked) -> web.StreamResponse:
    how = {name: bool(asked.meta.get(name, default)) for name, default in _LISTENING.items()}
    lines = asked.past_app.news.listen(**how)
    response = web.StreamResponse()
    async with contextlib.aclosing(lines):
        await response.prepare(request)
        async for line in lines:
            await response.write(line)
    return response


async def _send(request: web.Request, answer: Answer) -> web.StreamResponse:
    response = web.Response(body=wire.pack(answer.meta, answer.payload))
    if answer.undo is None:
        return response
    try:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("whoever asked has gone")
        await response.prepare(request)
        await response.write_eof()
    except BaseException:
        await asyncio.shield(answer.undo())
        raise
    if answer.sent is not None:
        answer.sent()
    return response
