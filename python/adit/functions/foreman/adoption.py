"""What a foreman that comes back takes over: containers that live on and the calls that they are at, and calls that
wait. What a container is, its labels and the store say; never the container."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from ...exception import Error, RemoteError
from . import ledger, owner
from .amounts import Amounts, Bill
from .worker import LABEL, Taken

if TYPE_CHECKING:
    from ..engine import Running
    from .calls import Call
    from .foreman import Foreman
    from .store import Row
    from .worker import Worker

GONE = "its container is gone since the foreman was restarted (was the engine, too, or the container removed?)"


async def take_over(foreman: Foreman) -> list[Worker]:
    """All that there is, with the foreman's apps there already."""
    there: dict[str, Running] = {}
    for running, labels in await foreman.engine.leftovers(LABEL):
        if labels.get(owner.LABEL) == foreman.labels[owner.LABEL]:
            there[labels[LABEL]] = running
    await foreman.answers.load()
    await foreman.tokens.load()
    for held in await foreman.shelf.held(foreman.apps):
        _put_back(foreman, held)
    since = {app.id: app.news.last for app in foreman.apps.values()}
    rows = await foreman.ledger.workers()
    found = await asyncio.gather(*(_adopt(foreman, row, there.get(row["id"]), since) for row in rows))
    workers = {worker.id: worker for worker in found if worker is not None}
    for row, call in await foreman.ledger.calls(foreman.calls.budget):
        _take_call(foreman, row, call, workers)
    for worker in workers.values():  # not before: of a call that nobody knows the outcome would be lost
        worker.hear()
    return list(workers.values())


def _put_back(foreman: Foreman, row: Row) -> None:
    holding = foreman.queues if row["kind"] == "queue" else foreman.dicts
    holding.restore(row)
    if row["app"] and not row["name"]:
        foreman.apps[row["app"]].endings[row["id"]] = lambda: holding.end(row["id"])


async def _adopt(foreman: Foreman, row: Row, running: Running | None, since: dict[str, float]) -> Worker | None:
    app = foreman.apps.get(row["app"])
    folder = os.path.join(foreman.folder, row["id"])
    if app is None or running is None or not row["ready"] or row["boot"] != owner.boot():
        foreman.ledger.worker_gone(row["id"])
        return None
    bill = Bill.of(row["spec"], app.name, app.id, row["gpus"])
    try:
        if not await foreman.engine.adopt(running, since[app.id], folder):
            raise RemoteError("it has ended")
        metered = await foreman.meter.adopt(running, bill)
        await foreman.gpus.keep(row["gpus"])
    except Error:
        foreman.ledger.worker_gone(row["id"])
        return None
    pool = app.pool_again(row["version"], row["pool"], row["spec"])
    return pool.adopt(Taken(row["id"], folder, metered, row["gpus"], row["inputs"]))


def _take_call(foreman: Foreman, row: Row, call: Call, workers: dict[str, Worker]) -> None:
    app, worker = foreman.apps.get(call.app), workers.get(row["worker"])
    if app is None:
        call.on_done.append(foreman.ledger.done)
        call.fail("CancelledError", f"{call.function}: its app has ended")
        return
    app.take_call(call)
    if worker is not None:
        worker.resume(call, row["slot"], row["began"], ledger.amounts(row["mark"]))
    elif call.began:
        call.used = Amounts()
        app.lost(call, f"{call.function}: {GONE}")
    else:
        app.waiting.append(call)
