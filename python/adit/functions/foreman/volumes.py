"""Volumes: the engine's own. All containers that have one run as the same user, since what one of them writes is to be
the next one's, whatever its mode; and since that user owns them, and nobody else may enter them, no other can.

An engine gives a volume that is empty the owner and mode of the folder in the image that it is mounted at."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...exception import NotFoundError
from ..engine import VolumePlace

if TYPE_CHECKING:
    from ..engine import Engine
    from ..spec import FunctionSpec, ImageSpec

USER = 19_999
LABEL = "adit.volume"


def _engine_name(volume: dict[str, Any]) -> str:
    return f"adit-ephemeral-{volume['name']}" if volume.get("ephemeral") else f"adit-{os.getuid()}-{volume['name']}"


def places(spec: FunctionSpec) -> list[VolumePlace]:
    """Where a function's container has which."""
    return [VolumePlace(_engine_name(volume), path) for path, volume in spec.volumes.items()]


def image_with_places(spec: FunctionSpec) -> ImageSpec:
    """A function's image, with folders for them."""
    if not spec.volumes:
        return spec.image
    paths = sorted(spec.volumes)
    step = {
        "kind": "run",
        "command": "\n".join(map(_command, paths)),
        "shown": f"places for volumes: {', '.join(paths)}",
    }
    return replace(spec.image, steps=[*spec.image.steps, step])


def _command(path: str) -> str:
    wrong = "the image has files there (mount it elsewhere)"
    command = (
        f"place={shlex.quote(path)}; install -d -o {USER} -g {USER} -m 700 $place; "
        "folder=$place; while [ $folder != / ]; do folder=$(dirname $folder); chmod a+x $folder; done; "
        f"[ -z \"$(ls -A $place)\" ] || {{ echo volumes: $place: '{wrong}'; exit 1; }}"
    )
    return command.replace("$place", '"$place"').replace("$folder", '"$folder"')


def ephemeral(spec: FunctionSpec) -> list[str]:
    """What the engine calls those that end with the app."""
    return [_engine_name(volume) for volume in spec.volumes.values() if volume.get("ephemeral")]


class Volumes:
    """Those that a foreman has made, and that are to go."""

    def __init__(self, engine: Engine, labels: dict[str, str]) -> None:
        self._engine, self._labels = engine, labels
        self._held: set[str] = set()  # by a with block

    async def prepare(self, spec: FunctionSpec) -> list[dict[str, Any]]:
        """Makes what is missing. NotFoundError where that is not wanted. Returns those that are to end with the app."""
        ending: list[dict[str, Any]] = []
        for volume in spec.volumes.values():
            name = _engine_name(volume)
            if volume.get("ephemeral"):
                await self._make(volume)
                if name not in self._held:
                    ending.append(volume)
            elif not await self._engine.has_volume(name):
                if not volume.get("create"):
                    raise NotFoundError(
                        f"volume {volume['name']}: there is none of that name (use create_if_missing=True)"
                    )
                await self._make(volume)
        return ending

    async def _make(self, volume: dict[str, Any]) -> None:
        labels = {LABEL: volume["name"], **(self._labels if volume.get("ephemeral") else {})}
        await self._engine.make_volume(_engine_name(volume), labels)

    async def hold(self, volume: dict[str, Any]) -> None:
        """An ephemeral one, until it is ended."""
        await self._make(volume)
        self._held.add(_engine_name(volume))

    async def end(self, volume: dict[str, Any]) -> None:
        """Of an ephemeral one."""
        self._held.discard(_engine_name(volume))
        await self._engine.remove_volume(_engine_name(volume))

    async def close(self) -> None:
        """Ends those that are held."""
        for name in list(self._held):
            await self._engine.remove_volume(name)
