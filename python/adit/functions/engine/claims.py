"""Volumes in a cluster: claims of storage, which it finds or makes by its own rules. Pods on several nodes may have one
at a time, so what is claimed is ReadWriteMany; whoever wants something else makes the claim himself."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Any, cast

from lightkube.resources.core_v1 import PersistentVolumeClaim

from ...exception import RemoteError
from .told import CONFLICT, FORBIDDEN, NOT_FOUND, status_of, told

if TYPE_CHECKING:
    from lightkube import AsyncClient

SIZE, CLASS = "ADIT_VOLUME_SIZE", "ADIT_VOLUME_CLASS"
USUAL_SIZE = "10Gi"
RIGHTS = "volumes.yaml"
NAME_MAX = 63
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def claim_name(volume: str) -> str:
    """What the claim of a volume is called: the same, where a cluster takes such a name."""
    if _NAME.fullmatch(volume) and len(volume) <= NAME_MAX:
        return volume
    end = "-" + hashlib.sha256(volume.encode()).hexdigest()[:8]
    return re.sub("[^a-z0-9-]", "-", volume.lower())[: NAME_MAX - len(end)] + end


class Claims:
    """Those of one namespace. ``own`` are labels of what this foreman makes."""

    def __init__(self, api: AsyncClient, own: dict[str, Any]) -> None:
        self._api, self._own = api, own

    async def has(self, volume: str) -> bool:
        """Whether there is one for it, whoever has made it."""
        fields: dict[str, Any] = {"metadata.name": claim_name(volume)}
        with told(RIGHTS):
            return bool([claim async for claim in self._api.list(PersistentVolumeClaim, fields=fields)])

    async def make(self, volume: str, marks: dict[str, str]) -> None:
        """Unless there is one. What it is of is a setting, or the cluster's."""
        of: dict[str, Any] = {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": os.environ.get(SIZE) or USUAL_SIZE}},
        }
        if storage := os.environ.get(CLASS):
            of["storageClassName"] = storage
        about = {"name": claim_name(volume), "labels": self._own, "annotations": marks}
        claim = PersistentVolumeClaim.from_dict({"metadata": about, "spec": of})
        try:
            with told(RIGHTS):
                await self._api.create(cast("PersistentVolumeClaim", claim))
        except RemoteError as error:
            if status_of(error) != CONFLICT:
                raise

    async def remove(self, volume: str) -> None:
        """When no Pod has it any more; the cluster sees to that."""
        try:
            with told(RIGHTS):
                await self._api.delete(PersistentVolumeClaim, claim_name(volume))
        except RemoteError as error:
            if status_of(error) != NOT_FOUND:
                raise

    async def marked(self, label: str) -> list[tuple[str, dict[str, str]]]:
        """Those of this foreman's with such a mark, and all of their marks; none, where it may not have any."""
        found = []
        try:
            with told():
                async for claim in self._api.list(PersistentVolumeClaim, labels=self._own):
                    marks = (claim.metadata.annotations if claim.metadata is not None else None) or {}
                    if label in marks and claim.metadata is not None:
                        found.append((str(claim.metadata.name), dict(marks)))
        except RemoteError as error:
            if status_of(error) != FORBIDDEN:
                raise
        return found
