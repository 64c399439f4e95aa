"""A relay with a certificate from a public authority is checked against those of the system, wherever they are: the
OpenSSL in the package was built on Debian, and knows that one's folders only."""

import os
import shutil
import subprocess

import pytest
from conftest import ended
from kit.roles import Relay

DOMAIN = "r1.test"

ELSEWHERE = r"""
set -e
mount -t tmpfs none /etc
if [ -e /usr/lib/ssl ]; then mount -t tmpfs none /usr/lib/ssl; fi
if [ -n "$2" ]; then mkdir -p "$(dirname "$2")"; cp "$1" "$2"; fi
exec "$3" -c 'from adit import forward
with forward(2) as tunnel: print(tunnel.host)'
"""


@pytest.fixture
def public(box):
    """A relay whose chain ends at an authority of its own, as a public one's does."""

    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=box.path, timeout=60)

    box.file("leaf.ext", f"subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}\n")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=authority", "-days", "2")
    openssl("req", *new, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", f"/CN={DOMAIN}")
    by = ["-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-extfile", "leaf.ext", "-days", "2"]
    openssl("x509", "-req", "-in", "leaf.csr", "-out", "leaf.pem", *by)
    return Relay(box, domain=DOMAIN, options=["--cert", box.file("leaf.pem"), "--key", box.file("leaf.key")])


@pytest.fixture
def elsewhere(box, public):
    """elsewhere(path) opens a tunnel on a machine whose only authorities are in the file path."""
    unshare = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace may be made here")

    def start(path="", **env):
        import sys

        argv = [*unshare, "sh", "-c", ELSEWHERE, "sh", box.file("root.pem"), path, sys.executable]
        return box.start(argv, env={"ADIT_TOKEN": public.token(), **env})

    return start


@pytest.mark.parametrize(
    "path",
    [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ],
)
def test_the_systems_authorities_are_found(elsewhere, path):
    assert ended(elsewhere(path)).endswith(DOMAIN)


def test_a_machine_without_any_says_so(elsewhere):
    program = elsewhere()
    ended(program, 1)
    assert "install ca-certificates" in program.err.text()


def test_the_environments_come_first(elsewhere, box):
    box.file("empty.pem", "")
    program = elsewhere("/etc/ssl/cert.pem", SSL_CERT_FILE=box.file("empty.pem"))
    ended(program, 1)
    assert "Error" in program.err.text()
    assert ended(elsewhere(SSL_CERT_FILE=box.file("root.pem"))).endswith(DOMAIN)


def test_a_folder_of_the_environment(elsewhere, box):
    name = subprocess.run(
        ["openssl", "x509", "-in", box.file("root.pem"), "-noout", "-hash"], capture_output=True, text=True
    )
    folder = box.file("folder")
    os.mkdir(folder)
    shutil.copy(box.file("root.pem"), os.path.join(folder, name.stdout.strip() + ".0"))
    assert ended(elsewhere(SSL_CERT_DIR=folder)).endswith(DOMAIN)
