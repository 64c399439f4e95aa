"""`make install`: where ld.so, pkg-config and man find what it puts there."""
import os
import re
import subprocess

import pytest

from kit.process import BUILD, DEADLINE_S

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


@pytest.fixture
def installed(box):
    """The folder that it installs into, from a build whose libraries Meson wanted elsewhere: as where dpkg-architecture
    is missing."""
    def run(*argv):
        done = box.run(*argv, seconds=DEADLINE_S * 5)
        assert done.returncode == 0, done.stdout + done.stderr
    run("meson", "configure", BUILD, "-Dlibdir=lib64")
    run("make", "-C", ROOT, "install", f"BUILD={BUILD}", f"DESTDIR={box.file('root')}")
    return box.file("root")


def test_what_is_installed_is_found(installed, box):
    searched = re.findall(r"^(/[^:\s]+):",
                          subprocess.run(["/sbin/ldconfig", "-v", "-N", "-X"], stdout=subprocess.PIPE, text=True,
                                                          stderr=subprocess.DEVNULL).stdout, re.MULTILINE)
    described = box.run("pkg-config", "--variable", "pc_path", "pkg-config").stdout.strip().split(":")
    files = {os.path.join(folder, name).removeprefix(installed) for folder, _, names in os.walk(installed)
             for name in names}
    assert any(f"{folder}/libadit.so.0" in files for folder in searched), (searched, files)
    assert any(f"{folder}/adit.pc" in files for folder in described), (described, files)
    assert {"/usr/local/bin/adit", "/usr/local/include/adit.h", "/usr/local/share/man/man1/adit.1",
            "/usr/local/share/man/man3/adit.3"} <= files
    assert os.access(f"{installed}/usr/local/share/adit/install-certificate", os.X_OK)
    for unit in ("adit-relay.service", "adit-forward@.service", "adit-foreman.service"):
        assert os.path.exists(f"{installed}/usr/local/share/adit/{unit}")
    assert box.run(f"{installed}/usr/local/bin/adit", "--version").returncode == 0


HOST = """project('host', 'c')
executable('host', 'host.c', dependencies: dependency('adit', fallback: 'adit', static: false))
executable('host-static', 'host.c', dependencies: dependency('adit', fallback: 'adit', static: true))
"""


@pytest.mark.unsanitized
def test_a_project_has_it_as_its_subproject(box):
    folder = box.file("host")
    os.makedirs(f"{folder}/subprojects")
    os.symlink(ROOT, f"{folder}/subprojects/adit")
    box.file("host/meson.build", HOST)
    box.file("host/host.c",
             '#include <adit.h>\n#include <stdio.h>\nint main(void) { return puts(adit_version()) < 0; }\n')
    for argv in [["meson", "setup", f"{folder}/b", folder, "-Doptimization=0"],
                 ["ninja", "-C", f"{folder}/b", "host", "host-static"]]:
        done = box.run(*argv, seconds=DEADLINE_S * 5)
        assert done.returncode == 0, done.stdout + done.stderr
    for name in ["host", "host-static"]:
        assert re.fullmatch(r"\d+\.\d+\.\d+\n", box.run(f"{folder}/b/{name}").stdout)
    assert "libadit" not in box.run("ldd", f"{folder}/b/host-static").stdout
