"""This very package as a wheel again, from the files that are installed, for the images."""

from __future__ import annotations

import functools
import io
import os
import zipfile
from importlib import metadata

from ...exception import ConfigError

_TIME = (1980, 1, 1, 0, 0, 0)  # the same files are the same wheel
_LEFT_OUT = ("INSTALLER", "REQUESTED", "direct_url.json")


@functools.lru_cache(maxsize=1)
def own_wheel() -> tuple[str, bytes]:
    """Its file name and contents."""
    distribution = metadata.distribution("adit")
    tag = next(
        (line[5:] for line in (distribution.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")), ""
    )
    record = distribution.read_text("RECORD") or ""
    paths = [p for p in distribution.files or [] if _belongs(str(p))]
    if not any(str(p) == "adit/bin/adit" for p in paths):
        raise ConfigError(
            "adit: it is installed in a way that cannot be taken into an image, such as by pip install --editable "
            "(use pip install ./python)"
        )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(paths, key=str):
            with open(os.fspath(path.locate()), "rb") as file:
                data = file.read()
                mode = os.fstat(file.fileno()).st_mode
            if path.name == "RECORD":
                data = "".join(line for line in record.splitlines(True) if _belongs(line.split(",")[0])).encode()
            info = zipfile.ZipInfo(str(path), _TIME)
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return f"adit-{distribution.version}-{tag}.whl", out.getvalue()


def _belongs(path: str) -> bool:
    return not path.startswith("..") and not path.endswith(".pyc") and path.rpartition("/")[2] not in _LEFT_OUT
