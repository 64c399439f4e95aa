"""The caller's own settings of pip, for the steps of an image that install something: as environment variables, and
with the files that they name beside them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import urllib.parse

from ..engine import Place

_FILES = ("cert", "client-cert")
_LEFT_OUT = ("target", "prefix", "root", "user", "cache-dir", "log", "python", "require-virtualenv", "src", "report")


def read() -> dict[str, str]:
    """By pip's own names (``index-url``), from all its files and variables; the nearest wins."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL).stdout
    order = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listed.splitlines():
        key, _, shown = line.partition("=")
        section, _, name = key.rpartition(".")
        if section not in order or name in _LEFT_OUT:
            continue
        try:
            value = str(ast.literal_eval(shown))
        except (ValueError, SyntaxError):
            continue
        if name not in found or found[name][0] < order[section]:
            found[name] = order[section], value
    return {name: value for name, (_, value) in found.items()}


def without_secrets(value: str) -> str:
    """With what stands before the @ of URLs left out."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", value)


def collect(folder: str, seen_as: str) -> tuple[dict[str, str], list[Place]]:
    """The variables, and the folders that a step needs, too. Files are copied into ``folder``, which the step sees as
    ``seen_as``."""
    variables: dict[str, str] = {}
    places: list[Place] = []
    for name, value in read().items():
        mapped = value
        if name in _FILES:
            if not os.path.isfile(value):
                continue
            shutil.copyfile(value, os.path.join(folder, name))
            mapped = f"{seen_as}/{name}"
        elif name in ("find-links", "constraint"):
            mapped, more = _bring(name, value, folder, seen_as)
            places += more
        variables["PIP_" + name.upper().replace("-", "_")] = mapped
    return variables, places


def _bring(name: str, value: str, folder: str, seen_as: str) -> tuple[str, list[Place]]:
    """Words of which some may be paths of this machine."""
    words: list[str] = []
    places: list[Place] = []
    for word in value.split():
        path = urllib.parse.urlsplit(word).path if word.startswith("file://") else word
        if not os.path.exists(path):
            words += [word] if "://" in word else []
            continue
        beside = f"{name}-{len(words)}"
        if os.path.isdir(path):
            os.mkdir(os.path.join(folder, beside))
            places.append(Place(os.path.realpath(path), f"{seen_as}/{beside}"))
        else:
            shutil.copyfile(path, os.path.join(folder, beside))
        words.append(f"{seen_as}/{beside}")
    return " ".join(words), places
