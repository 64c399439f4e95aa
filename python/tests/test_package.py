"""What is in the wheel, and where it runs."""

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT, ended

import adit

WHEEL = os.environ.get("ADIT_WHEEL", "")
PACKAGE = os.path.dirname(adit.__file__)
EXTENSION = os.path.join(PACKAGE, "_adit.abi3.so")
PROGRAM = os.path.join(PACKAGE, "bin", "adit")
TOOLS = os.path.dirname(sys.executable)
COMMAND = os.path.join(TOOLS, "adit")
with_wheel = pytest.mark.skipif(not WHEEL, reason="ADIT_WHEEL does not name the wheel")


def ignore_nothing():
    """Whoever runs the tests may do so in the background, or under nohup."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def run(*argv, **options):
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=True, preexec_fn=ignore_nothing, **options
    )
    return done.stdout


def declared_version():
    with open(os.path.join(ROOT, "meson.build")) as f:
        return re.search(r"^  version: '(.*)',$", f.read(), re.MULTILINE).group(1)


def test_one_version_everywhere():
    version = declared_version()
    assert adit.__version__ == version
    assert version in run(COMMAND, "--version") and version in run(PROGRAM, "--version")
    from importlib.metadata import version as of_package

    assert of_package("adit") == version


def test_the_command_is_the_packages_program(box):
    trap = box.file("adit", "#!/bin/sh\necho trapped\n", mode=0o755)
    env = {**box.env, "PATH": os.path.dirname(trap) + ":" + box.env["PATH"]}
    assert run("adit", env=env) == "trapped\n"
    assert "trapped" not in run(COMMAND, "--version", env=env)
    assert run(COMMAND, "relay", "--help", env=env) == run(PROGRAM, "relay", "--help", env=env)


def test_the_package_can_be_run_as_a_module():
    assert run(sys.executable, "-m", "adit", "--version") == run(PROGRAM, "--version")
    assert run(sys.executable, "-m", "adit", "relay", "--help") == run(PROGRAM, "relay", "--help")
    run(sys.executable, "-c", "import adit.__main__")  # which tools do that look at all modules
    failed = subprocess.run([sys.executable, "-m", "adit", "frobnicate"], capture_output=True, check=False)
    assert failed.returncode == 2 and failed.stderr.startswith(b"adit: frobnicate: no such command")


def test_a_command_does_not_inherit_what_the_interpreter_ignores(box):
    ignored = run(COMMAND, "forward", "8000", "--", "grep", "SigIgn", "/proc/self/status", env=box.env)
    assert int(ignored.split()[1], 16) == 0


def test_the_module_exports_its_entry_alone():
    names = [line.split()[-1].split("@")[0] for line in run("nm", "-D", "--defined-only", EXTENSION).splitlines()]
    assert set(names) - {"ADIT_PYTHON"} == {"PyInit__adit"}  # some linkers list the version, too


LIBC = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


@pytest.mark.parametrize("path", [EXTENSION, PROGRAM])
def test_nothing_but_libc_is_needed(path):
    assert set(re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", path))) <= LIBC


def documented_glibc():
    with open(os.path.join(ROOT, "docs", "python.md")) as f:
        return re.search(r"glibc (\d+\.\d+)", f.read()).group(1)


@pytest.mark.parametrize("path", [EXTENSION, PROGRAM])
def test_the_documented_glibc_is_enough(path):
    versions = re.findall(r"\bGLIBC_(\d+)\.(\d+)", run("readelf", "-V", path))
    wanted = max((int(major), int(minor)) for major, minor in versions)
    assert wanted <= tuple(map(int, documented_glibc().split(".")))


@with_wheel
def test_auditwheel_agrees_that_it_is():
    told = " ".join(
        run("auditwheel", "show", WHEEL, env={**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"}).split()
    )
    assert re.search(
        rf'consistent with the following platform tag: "manylinux_{documented_glibc().replace(".", "_")}_', told
    )


@with_wheel
def test_the_wheel_is_for_every_python_from_3_9():
    platform = f"cp39-abi3-manylinux_{documented_glibc().replace('.', '_')}_{os.uname().machine}"
    assert re.fullmatch(rf"adit-.*-{platform}\.whl", os.path.basename(WHEEL))
    with zipfile.ZipFile(WHEEL) as z:
        names = z.namelist()
        tags = z.read(next(n for n in names if n.endswith(".dist-info/WHEEL"))).decode()
    assert re.findall("^Tag: (.*)$", tags, re.MULTILINE) == [platform]
    assert {n.rsplit("/", 1)[1] for n in names if "/licenses/" in n} >= {"LICENSE", "libevent.txt"}
    assert {"adit/py.typed", "adit/_adit.pyi", "adit/bin/adit", "adit/_adit.abi3.so"} <= set(names)
    assert not [n for n in names if n.startswith(("include/", "lib/")) or n.endswith((".a", ".h"))]


@with_wheel
def test_the_extension_uses_the_stable_abi_alone():
    done = subprocess.run(
        [sys.executable, "-m", "abi3audit", "--strict", "--report", WHEEL], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stubs_agree_with_the_extension(box):
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "adit._adit", "--ignore-disjoint-bases"],
        capture_output=True,
        text=True,
        cwd=box.path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_type_checker_finds_a_misspelt_option(box):
    lines = ["import adit", "c = adit.Client()", "c.forward(1, drain=2, keep='t')", "c.forward(1, dran=2)"]
    text = "\n".join([*lines, "adit.forward(1, dran=2)"])
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", box.file("program.py", text)],
        capture_output=True,
        text=True,
        cwd=box.path,
    )
    errors = [line.split(":") for line in done.stdout.splitlines() if ": error: " in line]
    assert [line for _, line, *_ in errors] == ["4", "5"] and done.stdout.count("dran") == 2, done.stdout


ANOTHER_MACHINE = r"""
set -e
python=$(readlink -f "$1") wheel=$2 work=$3
mount -t tmpfs none /usr/include
for tool in cc gcc c99 c89 clang g++ c++ meson ninja pkg-config pkgconf make as ld; do
  for path in $(which -a "$tool" || true); do mount --bind /dev/null "$(readlink -f "$path")"; done
done
for file in /usr/lib/*/libcrypto.so.3 /usr/lib/*/libssl.a /usr/lib/*/libcrypto.a; do
  case $file in *.a) if [ -e "$file" ]; then mount --bind /dev/null "$file"; fi ;; esac
done
if printf 'int main(void){return 0;}' | cc -x c -o "$work/a" - 2>/dev/null; then echo 'there is a compiler'; exit 1; fi
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-index --disable-pip-version-check "$wheel"
"$work/venv/bin/adit" --version
exec "$work/venv/bin/python" -W ignore -c 'from adit import forward
with forward(2) as tunnel: print(tunnel.url)'
"""


@with_wheel
def test_it_runs_on_a_machine_without_compiler_and_headers(box):
    """In a mount namespace where compilers are empty files and /usr/include is an empty folder."""
    unshare = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace may be made here")
    program = box.start([*unshare, "sh", "-c", ANOTHER_MACHINE, "sh", sys.executable, WHEEL, box.path])
    assert re.search(r"^https://\w+\.adit\.localhost:\d+$", ended(program), re.MULTILINE)
