"""meson-python, and what it does not do here. It tags a stable-ABI wheel with the Python that built it (cp311-abi3),
and the extension is built for 3.9 and later (limited_api in meson.build). Its source distributions hold nothing from
outside this folder."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import mesonpy
from mesonpy import build_editable, get_requires_for_build_editable, get_requires_for_build_wheel
from packaging.version import Version
from pyproject_metadata import StandardMetadata

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]

PYTHON_TAG = "cp39"
EPOCH = 315532800  # 1980, the first that a zip knows
PROJECT = Path(__file__).resolve().parent.parent
# What a source distribution consists of: of this folder, and of the core.
PACKAGE = ["README.md", "adit", "backend", "licenses", "meson.build", "pyproject.toml", "setup.py", "src"]
CORE = [
    "LICENSE",
    "include",
    "meson.build",
    "meson_options.txt",
    "service",
    "src",
    "tools/sources",
    "tools/static-library",
]


def version():
    """As backend/core has it, which puts the core in its place, or says why it cannot."""
    done = subprocess.run(["sh", PROJECT / "backend" / "core"], check=False, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip() if done.returncode == 0 else sys.exit(1)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    version()
    built = mesonpy.build_wheel(wheel_directory, config_settings, metadata_directory)
    if "-abi3-" not in built:
        return built
    path = os.path.join(wheel_directory, built)
    retag = [sys.executable, "-m", "wheel", "tags", "--remove", "--python-tag", PYTHON_TAG, path]
    return subprocess.run(retag, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]


def get_requires_for_build_sdist(config_settings=None):
    return []


def sources(folder, names):
    """Path within the folder, and file, of each: but not what editors and interpreters leave there."""
    for name in names:
        path = folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            within = file.relative_to(folder)
            if file.is_file() and not any(part.startswith((".", "__pycache__")) for part in within.parts):
                yield within, file


def build_sdist(sdist_directory, config_settings=None):
    """Of the same sources the same bytes, wherever and whenever."""
    root = Path(f"adit-{version()}")
    metadata = StandardMetadata.from_pyproject(tomllib.loads((PROJECT / "pyproject.toml").read_text()), PROJECT)
    metadata.version = Version(version())
    members = {root / "PKG-INFO": bytes(metadata.as_rfc822())}
    for folder, names in {Path("."): PACKAGE, Path("subprojects/adit"): CORE}.items():
        members |= {root / folder / within: file.read_bytes() for within, file in sources(PROJECT / folder, names)}
    path = Path(sdist_directory) / f"{root}.tar.gz"
    with (
        path.open("wb") as f,
        gzip.GzipFile("", "wb", fileobj=f, mtime=0) as z,
        tarfile.open(fileobj=z, mode="w") as tar,
    ):
        for name, content in members.items():
            member = tarfile.TarInfo(str(name))
            member.size, member.mode = len(content), 0o755 if content.startswith(b"#!") else 0o644
            member.mtime = int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH))
            tar.addfile(member, io.BytesIO(content))
    return path.name
