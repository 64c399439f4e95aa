"""What callers have apps do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exception import InvalidError, NotFoundError
from ..spec import AppSpec
from .apps import DEPLOYED, DETACHED, RUN, App
from .verbs import CALLER, Answer, verb

if TYPE_CHECKING:
    from .foreman import Foreman
    from .verbs import Asked


def _begin(foreman: Foreman, name: str, kind: str) -> App:
    if kind not in (RUN, DETACHED, DEPLOYED):
        raise InvalidError(f"app: {kind}: there is no such kind")
    if kind != RUN and foreman.state is None:
        raise InvalidError(
            "foreman: it ends with this program, and what is deployed is to stay (start one: adit foreman)"
        )
    app = App(foreman, name, kind)
    foreman.apps[app.id] = app
    return app


@verb(CALLER)
async def app_create(asked: Asked) -> Answer:
    """A new app."""
    spec = AppSpec.read(asked.meta["spec"])
    app = _begin(asked.foreman, spec.name, str(asked.meta.get("kind", RUN)))
    try:
        await app.begin(spec, asked.payload)
    except BaseException:
        await asked.foreman.end_app(app)
        raise
    return Answer({"app": app.id})


@verb(CALLER)
async def app_named(asked: Asked) -> Answer:
    """The deployed app of that name, or a new one, which has nothing yet."""
    name = str(asked.meta["name"])
    app = asked.foreman.find_deployed(name) or _begin(asked.foreman, name, DEPLOYED)
    return Answer({"app": app.id, "version": app.version})


@verb(CALLER)
async def app_find(asked: Asked) -> Answer:
    """The id of an app, or of one that has ended."""
    return Answer({"app": asked.past_app.id})


@verb(CALLER)
async def app_update(asked: Asked) -> Answer:
    """Another version of an app, once it is up."""
    foreman, app = asked.foreman, asked.app
    try:
        await app.update(AppSpec.read(asked.meta["spec"]), asked.payload)
    except BaseException:
        if app.kind == DEPLOYED and app.version == 0 and not app.updating:  # nobody else begins it
            await foreman.end_app(app)
        raise
    about = {"urls": app.urls, "version": app.version, "schedules": foreman.schedules.describe(app)}
    return Answer({**about, "ca_file": foreman.relay.ca_file})


@verb(CALLER)
async def app_close(asked: Asked) -> Answer:
    """Ends an app; ``now``: also what is ending already, without the moment that it has to do so by itself."""
    foreman, name = asked.foreman, str(asked.meta["app"])
    app = foreman.find_app(name) or foreman.find_ending(name)
    if app is not None:
        if asked.meta.get("now"):
            app.hurry()
        await foreman.end_app(app)
        name = app.id
    elif asked.meta.get("must"):
        raise NotFoundError(f"app {name}: there is none of that name (see: adit app list)")
    used = foreman.meter.take_run(name)
    return Answer({"used": foreman.prices.sum(used)} if used or app is not None else {})


@verb(CALLER)
async def app_list(asked: Asked) -> Answer:
    """All that there are, the oldest first."""
    foreman = asked.foreman
    apps = [(app, "ended") for app in foreman.ended] + [(app, app.kind) for app in foreman.apps.values()]
    return Answer({"apps": [_describe(app, state) for app, state in apps if app.version or app.kind != DEPLOYED]})


def _describe(app: App, state: str) -> dict[str, object]:
    return {
        "app": app.id,
        "name": app.name,
        "state": state,
        "version": app.version,
        "since": app.since,
        "containers": sum(len(pool.workers) for pool in app.pools.values()),
        "calls": app.under_way,
        "functions": list(app.spec.functions),
        "urls": app.urls,
        "schedules": app.foreman.schedules.describe(app),
    }


@verb(CALLER)
async def function_find(asked: Asked) -> Answer:
    """A function of a deployed app, for its callers."""
    app = asked.app
    spec = app.pool(str(asked.meta["function"])).spec
    url = app.urls.get(spec.name)
    return Answer({"app": app.id, "is_generator": spec.is_generator, "is_web": spec.web is not None, "url": url})
