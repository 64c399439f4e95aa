"""Deployed apps in the store, from which the next foreman at the same socket has them again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..spec import AppSpec
from .apps import DEPLOYED, App
from .store import Tables

if TYPE_CHECKING:
    from .foreman import Foreman

TABLES = Tables(
    "deployed",
    (
        "CREATE TABLE deployed (id TEXT PRIMARY KEY, foreman TEXT NOT NULL, name TEXT NOT NULL,"
        " version BIGINT NOT NULL, since DOUBLE PRECISION NOT NULL, spec TEXT NOT NULL, bundle BYTEA NOT NULL)",
    ),
)


async def save(app: App) -> None:
    """Its version of now."""
    spec = json.dumps(app.spec.to_meta())
    await app.foreman.store.write(
        TABLES,
        (
            "INSERT INTO deployed VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " version = excluded.version, since = excluded.since, spec = excluded.spec, bundle = excluded.bundle",
            *(app.id, app.foreman.path, app.name, app.version, app.since, spec, app.bundle),
        ),
    )


async def forget(app: App) -> None:
    """It is stopped."""
    await app.foreman.store.write(TABLES, ("DELETE FROM deployed WHERE id = ?", app.id))


async def load(foreman: Foreman) -> list[App]:
    """What the foreman before had, which begins again."""
    apps = []
    for row in await foreman.store.read(
        TABLES, "SELECT * FROM deployed WHERE foreman = ? ORDER BY since", foreman.path
    ):
        app = App(foreman, row["name"], DEPLOYED, row["id"])
        app.version = row["version"]
        app.put(AppSpec.read(json.loads(row["spec"])), bytes(row["bundle"]))
        app.since = row["since"]
        apps.append(app)
    return apps
