"""meson-python, which tags a stable-ABI wheel with the Python that built it (cp311-abi3): the extension is built for
3.9 and later (limited_api in meson.build), so the wheel is told to be that."""

import os
import subprocess
import sys

import mesonpy

PYTHON_TAG = "cp39"

build_editable = mesonpy.build_editable
build_sdist = mesonpy.build_sdist
get_requires_for_build_editable = mesonpy.get_requires_for_build_editable
get_requires_for_build_sdist = mesonpy.get_requires_for_build_sdist
get_requires_for_build_wheel = mesonpy.get_requires_for_build_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    built = mesonpy.build_wheel(wheel_directory, config_settings, metadata_directory)
    if "-abi3-" not in built:
        return built
    path = os.path.join(wheel_directory, built)
    retag = [sys.executable, "-m", "wheel", "tags", "--remove", "--python-tag", PYTHON_TAG, path]
    return subprocess.run(retag, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
