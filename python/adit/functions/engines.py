"""Which engine a caller has: that of this machine, or a cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..exception import ConfigError

if TYPE_CHECKING:
    from .engine import Engine

ALL = DOCKER, KUBERNETES = "docker", "kubernetes"
VARIABLE, REGISTRY = "ADIT_ENGINE", "ADIT_REGISTRY"


def chosen() -> str:
    """By the variable, which ``--engine`` sets."""
    name = os.environ.get(VARIABLE) or DOCKER
    if name not in (DOCKER, KUBERNETES):
        raise ConfigError(f"{VARIABLE}: {name} is none of {DOCKER} (podman, too) and {KUBERNETES}")
    return name


async def connect() -> Engine:
    """That one."""
    if chosen() == KUBERNETES:
        from .engine.kubernetes import Kubernetes

        return await Kubernetes.connect()
    from .engine.docker import Docker

    return await Docker.connect()
