"""What the caller has apps do."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from ... import exception
from ..spec import AppSpec
from .apps import App
from .endpoint import Endpoint, ticket_path
from .verbs import CALLER, Answer, verb

if TYPE_CHECKING:
    from .verbs import Asked


@verb(CALLER)
async def app_create(asked: Asked) -> Answer:
    """A new app."""
    spec = AppSpec.read(asked.meta["spec"])
    for function in spec.functions.values():
        await asked.foreman.gpus.check(function)
    app = App(asked.foreman, spec, asked.payload)
    asked.foreman.apps[app.id] = app
    try:
        for function in spec.functions.values():
            app.volumes += await asked.foreman.volumes.prepare(function)
    except BaseException:
        del asked.foreman.apps[app.id]
        await asyncio.shield(app.close())
        raise
    app.warm()
    return Answer({"app": app.id})


@verb(CALLER)
async def app_close(asked: Asked) -> Answer:
    """Ends an app."""
    app = asked.foreman.apps.get(asked.meta["app"])
    if app is None:
        return Answer({})
    await app.close()
    asked.foreman.apps.pop(app.id, None)
    return Answer({"used": asked.foreman.prices.sum(asked.foreman.meter.take_run(app.id))})


@verb(CALLER)
async def app_serve(asked: Asked) -> Answer:
    """Opens an app's web endpoints, or gives it those of the version that it ``replaces``, once its containers are
    there."""
    foreman, app = asked.foreman, asked.app
    old = foreman.apps.get(asked.meta.get("replaces") or "")
    urls: dict[str, str] = {}
    for pool in app.pools.values():
        if pool.spec.web is not None and not pool.workers:
            pool.start_one()
    for name, pool in app.pools.items():
        if pool.spec.web is None:
            continue
        endpoint = old.endpoints.get(name) if old else None
        if endpoint is None:
            client = await foreman.relay.client()
            path = os.path.join(foreman.folder, f"{len(os.listdir(foreman.folder))}-{name}"[:32])
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
    return Answer({"urls": urls, "ca_file": (await foreman.relay.client()).ca_file})
