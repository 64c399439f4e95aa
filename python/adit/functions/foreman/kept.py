"""Apps that stay in the store, from which the next foreman at the same socket has them again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from ..spec import AppSpec
from .apps import DEPLOYED, App
from .store import Tables

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .foreman import Foreman

TABLES = Tables(
    "deployed",
    (
        "CREATE TABLE deployed (id TEXT PRIMARY KEY, foreman TEXT NOT NULL, name TEXT NOT NULL,"
        " version BIGINT NOT NULL, since DOUBLE PRECISION NOT NULL, spec TEXT NOT NULL, bundle BYTEA NOT NULL)",
        "ALTER TABLE deployed ADD COLUMN images TEXT NOT NULL DEFAULT '{}'",
        f"ALTER TABLE deployed ADD COLUMN kind TEXT NOT NULL DEFAULT '{DEPLOYED}'",
    ),
)


async def save(app: App, spec: AppSpec, bundle: bytes, version: int) -> None:
    """A version of it, with the images that it is to have whatever becomes of the files that they were made from."""
    images = await app.foreman.images.built(app.version_id(version))
    await app.foreman.store.write(
        TABLES,
        (
            "INSERT INTO deployed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " version = excluded.version, since = excluded.since, spec = excluded.spec, bundle = excluded.bundle,"
            " images = excluded.images",
            *(
                app.id,
                app.foreman.name,
                app.name,
                version,
                time.time(),
                json.dumps(spec.to_meta()),
                bundle,
                json.dumps(images),
                app.kind,
            ),
        ),
    )


async def forget(app: App) -> None:
    """It is stopped."""
    await app.foreman.store.write(TABLES, ("DELETE FROM deployed WHERE id = ?", app.id))


async def load(foreman: Foreman) -> list[Coroutine[Any, Any, None]]:
    """Has the foreman's apps be those of the one before; how they are there again."""
    resuming = []
    for row in await foreman.store.read(
        TABLES, "SELECT * FROM deployed WHERE foreman = ? ORDER BY since", foreman.name
    ):
        app = foreman.apps[row["id"]] = App(foreman, row["name"], row["kind"], row["id"])
        app.version, app.since = row["version"], row["since"]
        try:
            spec = AppSpec.read(json.loads(row["spec"]))
            foreman.images.restore(app.version_id(app.version), json.loads(row["images"]))
        except Exception as error:  # of another version's
            text = f"app {app.name}: what is kept of it cannot be read: {error} (adit deploy it again)"
            app.tell("failed", function=app.name, error=type(error).__name__, text=text)
            continue
        app.comes_back(spec, bytes(row["bundle"]))
        resuming.append(app.resume(spec, bytes(row["bundle"])))
    return resuming
