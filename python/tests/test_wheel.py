"""The package as it is installed: what it exports, what it needs, what it brings."""
import os
import re
import shutil
import ssl
import subprocess
import sys

import pytest
from kit.process import DEADLINE_S

import adit
from adit import _adit, _program

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BINARIES = [_adit.__file__, _program.PATH]
GLIBC_FLOOR = (2, 36)              # as docs/python.md tells
SYSTEM = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def read(*argv, **options):
    return subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=True, **options).stdout


def test_the_version_is_the_project_s():
    with open(os.path.join(ROOT, "meson.build")) as f:
        version = re.search(r"version: '([^']+)'", f.read()).group(1)
    assert adit.__version__ == version
    assert read(_program.PATH, "--version").split()[1] == version


def test_the_extension_exports_its_entry_only():
    names = [line.split() for line in read("nm", "-D", "--defined-only", _adit.__file__).splitlines()]
    assert [name.split("@")[0] for _, kind, name in names if kind != "A"] == ["PyInit__adit"]


@pytest.mark.parametrize("path", BINARIES, ids=os.path.basename)
def test_nothing_but_libc_is_needed(path):
    needed = set(re.findall(r"NEEDED\s+(\S+)", read("objdump", "-p", path)))
    assert needed <= SYSTEM


@pytest.mark.parametrize("path", BINARIES, ids=os.path.basename)
def test_the_oldest_glibc_is_the_documented_one(path):
    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([0-9.]+)", read("objdump", "-T", path))}
    assert max(versions) <= GLIBC_FLOOR
    with open(os.path.join(ROOT, "docs", "python.md")) as f:
        assert "glibc {}.{}".format(*GLIBC_FLOOR) in f.read()


def test_the_command_is_the_packaged_program(box):
    other = box.file("adit", "#!/bin/sh\necho wrong\n", 0o755)
    command = os.path.join(os.path.dirname(sys.executable), "adit")
    done = box.run(command, "--version", env={"PATH": f"{os.path.dirname(other)}:/usr/bin:/bin"})
    assert done.stdout == f"adit {adit.__version__}\n", done.stderr


@pytest.mark.parametrize("first", ["ssl", "adit"])
def test_python_s_own_tls_works_beside_ours(script, relay, app, first):
    """Both libraries make a TLS connection in one process; each is its own OpenSSL."""
    program = script("""
import sys
if sys.argv[1] == "ssl":
    import ssl, adit
else:
    import adit
    import ssl
import socket
with adit.forward(int(sys.argv[2])) as tunnel:
    context = ssl.create_default_context(cafile=sys.argv[3])
    with socket.create_connection(("127.0.0.1", int(sys.argv[4]))) as raw, context.wrap_socket(raw, server_hostname=tunnel.host) as tls:
        tls.sendall(b"hello")
        print(tls.recv(5).decode(), ssl.OPENSSL_VERSION)
    """, first, app().port, relay.authority, relay.port)
    assert program.wait() == 0, program.report()
    assert program.out.text() == f"hello {ssl.OPENSSL_VERSION}"
    assert program.err.text() == ""


def test_the_stubs_are_those_of_the_extension():
    done = subprocess.run([sys.executable, "-m", "mypy.stubtest", "adit._adit", "--ignore-missing-stub"], capture_output=True, text=True,
                          timeout=120, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root, for a mount namespace")
def test_it_works_on_a_machine_without_compiler_and_headers(box, relay, app):
    """Compilers, headers, pkg-config's files and the libraries it was built with are hidden; then a tunnel serves."""
    hidden = ["/usr/include", "/usr/lib/gcc", "/usr/lib/x86_64-linux-gnu/pkgconfig", "/usr/lib/llvm-14"]
    files = ["/usr/bin/gcc", "/usr/bin/cc", "/usr/bin/clang", "/usr/bin/pkg-config", "/usr/bin/meson", "/usr/bin/ninja"]
    libraries = [os.path.join("/usr/lib/x86_64-linux-gnu", name) for name in os.listdir("/usr/lib/x86_64-linux-gnu")
                 if name.startswith(("libevent", "libsqlite3", "libssl", "libcrypto")) and not os.path.islink(
                     os.path.join("/usr/lib/x86_64-linux-gnu", name))]
    with open("/proc/self/maps") as maps:
        own = {line.split()[-1] for line in maps if "/lib" in line}       # what this Python itself needs stays
    commands = ["set -e", "mount --make-rprivate /"]
    commands += [f"mount --bind /dev/null {path}" for path in sorted({os.path.realpath(path) for path in [*files, *libraries]} - own)
                 if os.path.exists(path)]
    commands += [f"mount -t tmpfs none {path}" for path in hidden if os.path.isdir(path)]
    program = """
import os, socket, ssl, sys, adit
assert not os.listdir("/usr/include")
with adit.forward(int(sys.argv[1])) as tunnel:
    context = ssl.create_default_context(cafile=sys.argv[2])
    with socket.create_connection(("127.0.0.1", int(sys.argv[3]))) as raw, context.wrap_socket(raw, server_hostname=tunnel.host) as tls:
        tls.sendall(b"bare")
        print(tls.recv(4).decode())
"""
    script = box.file("bare.sh", "\n".join([*commands, 'exec "$@"', ""]))
    done = box.run("unshare", "-m", "/bin/sh", script, sys.executable, "-c", program, app().port, relay.authority, relay.port,
                   env={"ADIT_TOKEN": relay.token()})
    assert done.stdout == "bare\n", done.stderr
