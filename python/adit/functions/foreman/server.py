"""The foreman and its sockets: one for its caller, who may do all, and one for each container, which is thereby known
and may only fetch its work, answer it, call functions of its app and use queues whose ids it has."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ... import exception
from ...exception import Error, InvalidError, NotFoundError
from .. import wire
from ..spec import AppSpec
from . import owner
from .apps import App
from .calls import Calls
from .endpoint import Endpoint, ticket_path
from .images import Images
from .queues import Queues
from .relays import Relay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..engine import Engine, Resources
    from ..wire import Meta
    from .calls import Call
    from .pool import Worker

    Answer = tuple[Meta, bytes]
    Verb = Callable[[Worker | None, Meta, bytes], Awaitable[Answer]]

WAIT_MAX_S = 60.0
BODY_MAX = 128 << 20  # of one message of a container
BODIES, CALLER_BODIES = 2, 64  # that are read at once from one socket


def _wait(meta: Meta) -> float:
    wait = meta.get("wait", 0)
    return min(float(wait), WAIT_MAX_S) if isinstance(wait, (int, float)) else 0.0


class Foreman:
    """Everything of one caller."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.folder = tempfile.mkdtemp(prefix="adit-")  # 0700
        self.path = os.path.join(self.folder, "caller.sock")
        self.labels = owner.labels()
        self.relay, self.calls, self.queues = Relay(), Calls(), Queues()
        self.apps: dict[str, App] = {}
        self.images = Images(engine, self.folder, self.labels, self._tell_all)
        self._resources: Resources | None = None
        self._caller: web.AppRunner | None = None

    async def open(self) -> None:
        """Removes what was left behind by callers that died, and listens."""
        owner.mark(self.folder)
        await owner.sweep(self.engine)
        self._caller = await self.serve(self.path, None)

    async def resources(self) -> Resources:
        """What the engine's machine has."""
        if self._resources is None:
            self._resources = await self.engine.resources()
        return self._resources

    def _tell_all(self, kind: str, **what: Any) -> None:
        for app in self.apps.values():
            app.tell(kind, **what)

    async def close(self) -> None:
        """Ends all; nothing stays."""
        await asyncio.gather(*(app.close() for app in self.apps.values()))
        await self.relay.close()
        if self._caller is not None:
            await self._caller.cleanup()
        await self.engine.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- HTTP ---

    async def serve(self, path: str, worker: Worker | None) -> web.AppRunner:
        """A socket for a container, or for the caller."""
        app = web.Application(client_max_size=BODY_MAX if worker else wire.PAYLOAD_MAX)
        verbs = RUNNER_VERBS if worker else CALLER_VERBS
        reading = asyncio.Semaphore(BODIES if worker else CALLER_BODIES)

        async def handle(request: web.Request) -> web.StreamResponse:
            name = request.match_info["verb"]
            try:
                if worker is None and name == "app_news":
                    return await self._stream_news(request)
                async with reading:
                    meta, payload = wire.unpack(await request.read())
                verb = verbs.get(name)
                if verb is None:
                    raise NotFoundError(f"{name}: there is no such verb here (are both sides of one version of adit?)")
                answer = await verb(self, worker, meta, payload)
                return await _send(request, *answer)
            except web.HTTPException:
                raise
            except Error as error:
                status, said = 400, wire.pack({"error": type(error).__name__, "text": str(error)})
            except (KeyError, TypeError, ValueError, AttributeError) as error:  # whatever a stranger may write
                text = f"{name}: this is not understood: {type(error).__name__}: {error}"
                status, said = 400, wire.pack({"error": "InvalidError", "text": text})
            return web.Response(status=status, body=said)

        app.router.add_post("/{verb}", handle)
        runner = web.AppRunner(
            app,
            handler_cancellation=True,
            keepalive_timeout=3600,
            access_log=None,
            shutdown_timeout=0,
            lingering_time=0,
        )
        await runner.setup()
        await web.UnixSite(runner, path).start()
        os.chmod(path, 0o666 if worker else 0o600)
        return runner

    async def _stream_news(self, request: web.Request) -> web.StreamResponse:
        meta, _ = wire.unpack(await request.read())
        app = self._app(meta["app"])
        response = web.StreamResponse()
        await response.prepare(request)
        while (news := await app.news()) is not None:
            await response.write(json.dumps(news).encode() + b"\n")
        return response

    def _app(self, identity: str) -> App:
        app = self.apps.get(identity)
        if app is None:
            raise NotFoundError(f"app {identity}: it has ended")
        return app

    # --- apps: for the caller ---

    async def app_create(self, _: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """A new app, and with ``replaces`` one in another's place."""
        app = App(self, AppSpec.read(meta["spec"]), payload)
        self.apps[app.id] = app
        app.warm()
        return {"app": app.id}, b""

    async def app_close(self, _: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """Ends an app."""
        app = self.apps.get(meta["app"])
        if app is not None:
            await app.close()
            self.apps.pop(app.id, None)
        return {}, b""

    async def app_serve(self, _: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """Opens an app's web endpoints, or gives it those of the version before, once its containers are there."""
        app = self._app(meta["app"])
        old = self.apps.get(meta.get("replaces") or "")
        urls: dict[str, str] = {}
        for pool in app.pools.values():
            if pool.spec.web is not None and not pool.workers:
                pool.start_one()
        for name, pool in app.pools.items():
            if pool.spec.web is None:
                continue
            endpoint = old.endpoints.get(name) if old else None
            if endpoint is None:
                client = await self.relay.client()
                path = os.path.join(self.folder, f"{len(os.listdir(self.folder))}-{name}"[:32])
                endpoint = Endpoint(pool, client, path, ticket_path(app.spec.name, name, pool.spec.web.label))
                app.endpoints[name] = endpoint
                await endpoint.open()
            before, app.endpoints[name] = endpoint.pool, endpoint
            endpoint.point(pool)
            worker, why = await endpoint.ready()
            if worker is None and old is not None:
                endpoint.point(before)
                app.endpoints.clear()
                raise exception.ExecutionError(f"{name}: {why}")
            urls[name] = endpoint.url
        if old is not None:
            for name in urls:
                old.endpoints.pop(name, None)
        ca_file = (await self.relay.client()).ca_file
        return {"urls": urls, "ca_file": ca_file}, b""

    # --- calls ---

    async def call(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """Calls a function; a container, one of its own app."""
        app = worker.pool.app if worker else self._app(meta["app"])
        return {"call": app.call(str(meta["function"]), payload).id}, b""

    def _call(self, worker: Worker | None, meta: Meta) -> Call:
        return self.calls.find(meta["call"], worker.pool.app.id if worker else None)

    async def call_get(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """Its outcome; it stays there to be asked for again."""
        call = self._call(worker, meta)
        if not await call.wait(_wait(meta)):
            return {"not_yet": True}, b""
        assert call.outcome is not None
        return call.outcome

    async def call_pieces(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """What a generator has given beyond the first ``have``, or its outcome."""
        call, have = self._call(worker, meta), int(meta["have"])
        if not await call.wait(_wait(meta), beyond=have):
            return {"not_yet": True}, b""
        pieces = call.pieces[have:]
        if pieces:
            return {"status": "piece"}, wire.pack_items(pieces)
        assert call.outcome is not None
        return call.outcome

    async def call_cancel(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """Ends it, and the container that it runs in."""
        call = self._call(worker, meta)
        call.fail("CancelledError", f"{call.function}: the call was cancelled")
        app = self.apps.get(call.app)
        for busy in app.pools[call.function].workers if app else ():
            if busy.call is call:
                busy.cancel()
        return {}, b""

    # --- queues ---

    async def queue_create(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """An ephemeral one, or the one of a name."""
        name = meta.get("name")
        queue = self.queues.create(name, int(meta.get("maxsize", 0)), missing=bool(meta.get("create", True)))
        if worker and name is None:
            worker.pool.app.queues.add(queue.id)
        return {"queue": queue.id}, b""

    async def queue_end(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """Ends an ephemeral one."""
        await self.queues.end(meta["queue"])
        return {}, b""

    async def queue_put(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """Puts items."""
        queue = self.queues.find(meta["queue"])
        items, ttl = wire.unpack_items(payload), float(meta["ttl"])
        try:
            n = await queue.put(items, str(meta["partition"]), ttl, _wait(meta), some=bool(meta.get("some")))
        except exception.QueueFullError:
            return {"not_yet": True}, b""
        return {"put": n}, b""

    async def queue_get(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """Takes items; they are put back when whoever asked goes away before they are sent."""
        queue, partition = self.queues.find(meta["queue"]), str(meta["partition"])
        items = await queue.get(int(meta["n"]), partition, _wait(meta))
        if not items:
            return {"not_yet": True}, b""
        answer: Meta = _Undo({"n": len(items)})
        answer.undo = lambda: queue.put_back(items, partition)  # type: ignore[attr-defined]
        return answer, wire.pack_items(items)

    async def queue_peek(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """Items that stay."""
        return {}, wire.pack_items(self.queues.find(meta["queue"]).peek(str(meta["partition"])))

    async def queue_len(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """How many there are."""
        queue = self.queues.find(meta["queue"])
        return {"n": queue.count(str(meta["partition"]), total=bool(meta.get("total")))}, b""

    async def queue_clear(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """Forgets items."""
        await self.queues.find(meta["queue"]).clear(str(meta["partition"]), everything=bool(meta.get("all")))
        return {}, b""

    # --- work: for containers ---

    async def work(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """What a runner begins with."""
        assert worker is not None
        pool = worker.pool
        seconds = pool.spec.timeout + 300
        answer = {
            "spec": asdict(pool.spec),  # of this function alone: others have secrets of their own
            "app_id": pool.app.id,
            "token": await self.relay.token_for(f"fn-{worker.id}", seconds),
        }
        return answer, pool.app.bundle

    async def ready(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """The function is there and can be called."""
        assert worker is not None
        worker.is_ready()
        return {}, b""

    async def next(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """The next call."""
        assert worker is not None
        worker.is_ready()
        call = worker.call or await worker.pool.take(worker, 0)
        if call is None:
            if worker.pool.may_end(worker):
                return {"end": True}, b""
            call = await worker.pool.take(worker, min(_wait(meta), worker.pool.spec.idle_timeout))
        if call is None:
            return {"not_yet": True}, b""
        return (worker.begin(call) if worker.call is None else {"call": call.id}), call.payload

    async def piece(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """A generator's next value."""
        assert worker is not None
        if worker.call is None or worker.call.id != meta["call"]:
            raise NotFoundError("call: it is not this container's")
        worker.call.give(payload)
        return {}, b""

    async def result(self, worker: Worker | None, meta: Meta, payload: bytes) -> Answer:
        """What came of a call."""
        assert worker is not None
        outcome = dict(meta["outcome"])
        if outcome.get("status") not in ("ok", "raised"):
            raise InvalidError("result: its status is unknown")
        worker.finish(str(meta["call"]), outcome, payload)
        return {}, b""


class _Undo(dict):  # type: ignore[type-arg]
    """An answer that is to be undone when it cannot be sent."""

    undo: Callable[[], Awaitable[None]] | None = None


async def _send(request: web.Request, meta: Meta, payload: bytes) -> web.StreamResponse:
    undo = getattr(meta, "undo", None)
    if undo is None:
        return web.Response(body=wire.pack(meta, payload))
    response = web.Response(body=wire.pack(meta, payload))
    try:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("whoever asked has gone")
        await response.prepare(request)
        await response.write_eof()
    except BaseException:
        await asyncio.shield(undo())
        raise
    return response


_SHARED = {
    name: getattr(Foreman, name)
    for name in [
        "call",
        "call_get",
        "call_pieces",
        "call_cancel",
        "queue_create",
        "queue_end",
        "queue_put",
        "queue_get",
        "queue_peek",
        "queue_len",
        "queue_clear",
    ]
}
CALLER_VERBS = {**_SHARED, **{name: getattr(Foreman, name) for name in ("app_create", "app_close", "app_serve")}}
RUNNER_VERBS = {
    **_SHARED,
    **{name: getattr(Foreman, name) for name in ("work", "ready", "next", "piece", "result")},
}
