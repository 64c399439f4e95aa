"""``adit image list`` and ``prune``: the layers that functions' images are made of, as the engine keeps them."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from typing import TYPE_CHECKING

from .command_line import Parser

if TYPE_CHECKING:
    from .engine import Engine, Stored

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration (such as 12h, 7d or 2w)")
    return int(match[1]) * _UNITS[match[2]]


def _age(layer: Stored) -> str:
    seconds = max(0.0, time.time() - layer.created)
    unit = next(u for u in reversed(_UNITS) if seconds >= _UNITS[u] or u == "s")
    return f"{seconds / _UNITS[unit]:.0f}{unit}"


def _size(n: int) -> str:
    return f"{n / 1e6:,.1f} MB"


async def _layers(engine: Engine) -> list[Stored]:
    """Ours, the newest first. Images that others made from them have the label, too, but not the name."""
    from .foreman.images import LABEL, LAYER

    found = [i for i in await engine.stored(LABEL) if i.tags == [f"{LAYER}:{i.labels[LABEL][:40]}"]]
    return sorted(found, key=lambda layer: -layer.created)


async def _list(engine: Engine, as_json: bool) -> None:
    from .foreman.images import STEP

    layers = await _layers(engine)
    if as_json:
        for i in layers:
            about = {"id": i.id, "tag": i.tags[0], "step": i.labels.get(STEP), "bytes": i.own_bytes}
            print(json.dumps({**about, "created": i.created}))
        return
    for i in layers:
        identity = i.id.removeprefix("sha256:")[:12]
        print(f"{identity}  {_age(i):>4}  {_size(i.own_bytes):>10}  {i.labels.get(STEP, '')[:80]}")
    print(f"{len(layers)} layers, {_size(sum(i.own_bytes for i in layers))}")


async def _prune(engine: Engine, older_than: float, dry: bool) -> None:
    from .foreman import owner

    old = [i for i in await _layers(engine) if time.time() - i.created >= older_than]
    if not dry:
        await owner.sweep(engine)
    gone = 0
    freed = 0
    for layer in old:  # what was made from another one is newer, and goes before it
        if dry or await engine.drop(layer.id):
            gone += 1
            freed += layer.own_bytes
    word = "Would remove" if dry else "Removed"
    kept = f"; in use: {len(old) - gone}" if gone < len(old) else ""
    print(f"{word} {gone} layer{'' if gone == 1 else 's'}, {_size(freed)}{kept}")


async def _do(given: argparse.Namespace) -> None:
    from .engine.docker import Docker

    engine = await Docker.connect()
    try:
        if given.action == "list":
            await _list(engine, given.json)
        else:
            await _prune(engine, given.older_than, given.dry_run)
    finally:
        await engine.close()


def image(words: list[str]) -> int:
    """The command."""
    parser = Parser(
        "image",
        "Shows the layers that were built for functions' images, and removes those that no container uses. What is "
        "removed is built again when it is needed.",
        "adit image list",
        "adit image prune --older-than 7d --dry-run  what it would remove",
    )
    listing, pruning = parser.actions("list: show them, the newest first", "prune: remove them")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    pruning.add_argument("--older-than", type=_duration, default=0.0, metavar="DURATION", help="such as 12h, 7d or 2w")
    pruning.add_argument("--dry-run", action="store_true", help="tell what would be removed")
    asyncio.run(_do(parser.parse_args(words)))
    return 0
