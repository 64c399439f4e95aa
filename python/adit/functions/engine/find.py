"""Where this user's container engine is, and what to type when there is none."""

from __future__ import annotations

import contextlib
import json
import os
import shutil

from ...exception import ConfigError

SOCKETS = ("/var/run/docker.sock", "{runtime}/docker.sock", "{runtime}/podman/podman.sock", "/run/podman/podman.sock")


def _context_host() -> str | None:
    """Where `docker context use` points."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    with contextlib.suppress(OSError, ValueError, KeyError):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            name = os.environ.get("DOCKER_CONTEXT") or json.load(file).get("currentContext", "default")
        for entry in os.scandir(os.path.join(folder, "contexts", "meta")):
            with open(os.path.join(entry.path, "meta.json"), encoding="utf-8") as file:
                meta = json.load(file)
            if meta["Name"] == name:
                return str(meta["Endpoints"]["docker"]["Host"])
    return None


def find_host() -> str:
    """The address of this user's engine."""
    return where()[0]


def where() -> tuple[str, str]:
    """The address of this user's engine, and what says so."""
    if host := os.environ.get("DOCKER_HOST"):
        return host, "DOCKER_HOST"
    if host := _context_host():
        return host, "docker context"
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    paths = [path.format(runtime=runtime) for path in SOCKETS]
    for path in paths:
        if os.path.exists(path):
            return f"unix://{path}", "its usual socket"
    raise ConfigError(
        f"engine: no container engine was found: DOCKER_HOST is not set, and there is no {', '.join(paths)} "
        f"({how_to_start()}; adit doctor tells more)"
    )


def how_to_start() -> str:
    """What to type where no engine runs."""
    if shutil.which("dockerd"):
        return "start Docker: sudo systemctl start docker"
    if shutil.which("podman"):
        return "start podman's service: systemctl --user enable --now podman.socket"
    return f"install {'Docker: sudo apt-get install docker.io' if shutil.which('apt-get') else 'Docker or podman'}"


def how_to_use(host: str) -> str:
    """What to type where an engine's address is known and leads nowhere."""
    path = host.removeprefix("unix://")
    if path == host:
        return "is it running, and is that its address?"
    if not os.path.exists(path):
        return f"is it running? else {how_to_start()}"
    if not os.access(path, os.R_OK | os.W_OK):
        return "you may not use it: sudo usermod -aG docker $USER, and log in again"
    return "is it running?"
