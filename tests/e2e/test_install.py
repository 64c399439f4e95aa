"""`make install`: where ld.so, pkg-config and man find what it puts there."""
import os
import re
import subprocess

import pytest

from kit.process import BUILD, DEADLINE_S

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


@pytest.fixture
def installed(box):
    """The folder that it installs into, from a build whose libraries Meson wanted elsewhere: as where dpkg-architecture is missing."""
    def run(*argv):
        done = box.run(*argv, seconds=DEADLINE_S * 5)
        assert done.returncode == 0, done.stdout + done.stderr
    run("meson", "configure", BUILD, "-Dlibdir=lib64")
    run("make", "-C", ROOT, "install", f"BUILD={BUILD}", f"DESTDIR={box.file('root')}")
    return box.file("root")


def test_what_is_installed_is_found(installed, box):
    searched = re.findall(r"^(/[^:\s]+):", subprocess.run(["/sbin/ldconfig", "-v", "-N", "-X"], stdout=subprocess.PIPE, text=True,
                                                          stderr=subprocess.DEVNULL).stdout, re.MULTILINE)
    described = box.run("pkg-config", "--variable", "pc_path", "pkg-config").stdout.strip().split(":")
    files = {os.path.join(folder, name).removeprefix(installed) for folder, _, names in os.walk(installed) for name in names}
    assert any(f"{folder}/libadit.so.0" in files for folder in searched), (searched, files)
    assert any(f"{folder}/adit.pc" in files for folder in described), (described, files)
    assert {"/usr/local/bin/adit", "/usr/local/include/adit.h", "/usr/local/share/man/man1/adit.1", "/usr/local/share/man/man3/adit.3"} <= files
    assert os.access(f"{installed}/usr/local/share/adit/install-certificate", os.X_OK)
    assert box.run(f"{installed}/usr/local/bin/adit", "--version").returncode == 0
