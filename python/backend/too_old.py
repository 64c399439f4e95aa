"""For a Python that is too old, however old: its pip gets metadata that tell it so, in time. Nothing is installed
before (see pyproject.toml): what that would say comes from other packages, and is about them."""

import os
import re
import sys


def requires_python():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "pyproject.toml")) as f:
        return re.search('^requires-python = "(.*)"$', f.read(), re.MULTILINE).group(1)


def refuse(*args, **kwargs):
    sys.exit("adit: Python %d.%d is too old (it needs Python %s)" % (sys.version_info[:2] + (requires_python(),)))


def require_nothing(config_settings=None):
    return []


def prepare_metadata(metadata_directory, config_settings=None):
    folder = os.path.join(metadata_directory, "adit-0.dist-info")
    os.mkdir(folder)
    with open(os.path.join(folder, "METADATA"), "w") as f:
        f.write("Metadata-Version: 2.1\nName: adit\nVersion: 0\nRequires-Python: %s\n" % requires_python())
    return os.path.basename(folder)


get_requires_for_build_wheel = get_requires_for_build_editable = get_requires_for_build_sdist = require_nothing
prepare_metadata_for_build_wheel = prepare_metadata_for_build_editable = prepare_metadata
build_wheel = build_editable = build_sdist = refuse
