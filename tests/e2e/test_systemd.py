"""The units of service/ under a real systemd, with what README says to do beside them."""
import os
import re
import shutil

import pytest

from kit import tls
from kit.app import App, echo, read_exactly
from kit.certificate import OwnCertificate
from kit.process import ADIT, wait_until
from kit.systemd import Machine

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SHARE = "/usr/local/share/adit"
LIVE = "/etc/letsencrypt/live/r1.test"
CONFIGURATION = """domain = r1.test
cert = /etc/adit/certificate.pem
key = /etc/adit/certificate.pem
listen = 0.0.0.0:443
listen = unix:/run/adit-relay/socket
redirect-http = 0.0.0.0:80
admin = 127.0.0.1:9090
"""
COULD_NOT_CONNECT = 7                   # of curl
pytestmark = pytest.mark.unsanitized          # a sanitizer wants rights that the units take away


@pytest.fixture
def machine(box):
    """With an installed adit, and everything that README has one prepare for a relay."""
    m = Machine(box)
    shutil.copy(ADIT, m.path("/usr/local/bin/adit"))
    for name in os.listdir(f"{ROOT}/service"):
        shutil.copy(f"{ROOT}/service/{name}", m.path(SHARE))
    m.certificate = OwnCertificate(box)
    m.serial = renew(m)
    m.write("/etc/adit/relay.conf", CONFIGURATION)
    return m


def renew(m):
    """Certbot's files, which root alone may read, and its hook. Returns the certificate's number."""
    serial = m.certificate.issue()
    for name, path in (("fullchain.pem", m.certificate.cert), ("privkey.pem", m.certificate.key)):
        m.write(f"{LIVE}/{name}", open(path).read(), 0o600)
    os.chmod(m.path("/etc/letsencrypt/live"), 0o700)
    m.done("env", f"RENEWED_LINEAGE={LIVE}", f"{SHARE}/install-certificate")
    return serial


def install(m, unit):
    """As the unit's own first lines say."""
    name, at, _ = unit.removesuffix(".service").partition("@")
    m.done("cp", f"{SHARE}/{name}{at}.service", "/etc/systemd/system")
    m.done("systemctl", "daemon-reload")


def enable(m, unit):
    install(m, unit)
    m.done("systemctl", "enable", "--now", unit)


@pytest.fixture
def relay(machine):
    enable(machine, "adit-relay")
    return machine


class Site:
    """An app of that machine, with the address that the agent's unit gives it."""

    def __init__(self, m, box):
        self.machine, self.context = m, tls.context(m.certificate.ca)
        self.app = m.connected(lambda: App(echo))
        box.closers.append(self.app.close)
        self.unit = f"adit-forward@{self.app.port}"
        m.write("/etc/adit/token", m.done("adit", "token", "create", "laptop"), 0o600)
        m.write("/etc/ssl/certs/ca-certificates.crt", open(m.certificate.ca).read())
        enable(m, self.unit)
        wait_until(lambda: "https://" in m.journal(f"--unit={self.unit}"), "the agent's unit has no address")
        self.host = re.search(r"https://([^/\s]+)", m.journal(f"--unit={self.unit}")).group(1)

    def visitor(self, box):
        v = self.machine.connected(lambda: tls.TlsVisitor(("127.0.0.1", 443), self.host, self.context))
        box.closers.append(v.close)
        return v

    def serial(self, box):
        """Whose certificate serves a visitor that is served."""
        v = self.visitor(box)
        assert answers(v)
        return int(v.tls.getpeercert()["serialNumber"], 16)


def answers(v):
    v.sendall(b"hello")
    return read_exactly(v, 5) == b"hello"


@pytest.fixture
def site(relay, box):
    return Site(relay, box)


def test_the_units_serve_a_visitor_with_what_certbots_hook_installed(site, box):
    m = site.machine
    assert site.serial(box) == m.serial
    assert m.done("curl", "--silent", "http://127.0.0.1:9090/healthz") == "ok\n"
    assert m.done("curl", "--silent", "--output", "/dev/null", "--write-out", "%{redirect_url}",
                  "--connect-to", "::127.0.0.1:", f"http://{site.host}/x") == f"https://{site.host}/x"


def test_the_units_relay_gives_up_what_the_unit_leaves_it(relay):
    wait_until(lambda: " rights " in relay.journal("--unit=adit-relay"), "it does not say its rights")
    line, = [line for line in relay.journal("--unit=adit-relay").splitlines() if " rights " in line]
    assert " user=adit-relay no_new_privileges=yes capabilities=none dumpable=no " in line
    assert "yes" in line.split("seccomp=")[1].split("landlock=")[0] or "without libseccomp" in line
    assert "Operation not permitted" not in line


def test_a_relay_that_dies_comes_back_with_its_addresses(site, box):
    m = site.machine
    assert site.serial(box) == m.serial
    m.done("systemctl", "kill", "--signal=KILL", "adit-relay")
    wait_until(lambda: "the link to the relay is back" in m.journal(f"--unit={site.unit}"),
               "the agent does not come back")
    assert site.serial(box) == m.serial
    assert m.property("adit-relay", "NRestarts") == "1" and m.property(site.unit, "NRestarts") == "0"


def test_a_reload_upgrades_with_a_renewed_certificate_and_takes_nothing_away(site, box):
    m, before = site.machine, site.visitor(box)
    for _ in range(2):
        process = m.property("adit-relay", "MainPID")
        m.serial = renew(m)
        m.done("systemctl", "reload", "adit-relay")
        assert site.serial(box) == m.serial and answers(before)
        assert m.property("adit-relay", "MainPID") != process and m.property("adit-relay", "ActiveState") == "active"
    assert m.property("adit-relay", "NRestarts") == "0"
    assert "the connection to the relay was lost" not in m.journal(f"--unit={site.unit}")
    assert "not our child" not in m.journal()


def test_an_upgraded_relay_that_dies_comes_back(site, box):
    m = site.machine
    m.done("systemctl", "reload", "adit-relay")
    m.done("systemctl", "kill", "--signal=KILL", "adit-relay")
    wait_until(lambda: "the link to the relay is back" in m.journal(f"--unit={site.unit}"),
               "the agent does not come back")
    assert site.serial(box) == m.serial and m.property("adit-relay", "NRestarts") == "1"


def test_a_stop_waits_for_streams_and_is_no_failure(site, box):
    m, v = site.machine, site.visitor(box)
    assert answers(v)
    stop = m.start("systemctl", "stop", "adit-relay")
    wait_until(lambda: " draining " in m.journal("--unit=adit-relay"), "it does not drain")
    wait_until(lambda: m.run("curl", "--silent", "--insecure", "https://127.0.0.1").returncode == COULD_NOT_CONNECT,
               "the door stays open")
    assert answers(v) and stop.running
    v.half_close()
    assert v.recv(1) == b"" and stop.wait() == 0
    assert m.property("adit-relay", "Result") == "success"


def test_a_wrong_option_is_not_tried_again(machine):
    with open(machine.path("/etc/adit/relay.conf"), "a") as f:
        f.write("no-such-thing = 1\n")
    install(machine, "adit-relay")
    assert machine.run("systemctl", "start", "adit-relay").returncode != 0
    assert machine.property("adit-relay", "ActiveState") == "failed"
    assert "no-such-thing: no such setting" in machine.journal("--unit=adit-relay")


def test_what_root_does_with_the_state_of_a_relay_at_rest_leaves_it_to_the_relays_user(relay):
    relay.done("systemctl", "stop", "adit-relay")
    relay.done("adit", "token", "create", "laptop")
    relay.done("adit", "token", "revoke", "laptop")
    relay.done("systemctl", "start", "adit-relay")
    relay.done("adit", "token", "create", "desktop")
    assert relay.done("adit", "token", "list").count("live") == 1


def test_another_user_reaches_the_relay_at_its_socket(site):
    m = site.machine
    m.write("/tmp/token", open(m.path("/etc/adit/token")).read())
    agent = m.start("env", "ADIT_RELAY=unix:/run/adit-relay/socket", "setpriv", "--reuid=daemon", "--regid=daemon",
                    "--clear-groups", "adit", "forward", "--token-file", "/tmp/token", str(site.app.port))
    agent.out.wait(lambda line: line.startswith("https://"))


@pytest.mark.parametrize("unit, most", [("adit-relay.service", 2.0), ("adit-forward@8000.service", 2.0)])
def test_a_unit_leaves_its_program_little_to_do_beside_its_work(machine, unit, most):
    install(machine, unit)
    assert machine.exposure(unit) < most
