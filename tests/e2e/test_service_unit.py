"""What the units of service/ give their programs, without systemd: a user of no rights, with a certificate from
certbot, whose folders are root's alone."""
import configparser
import os
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from kit import tls
from kit.app import echo, read_exactly
from kit.certificate import OwnCertificate
from kit.process import ADIT
from kit.roles import Relay

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
HOOK = os.path.join(ROOT, "service", "install-certificate")
UID, GROUP = 61184, "daemon"            # the first that systemd takes for DynamicUser; any group that is there


@pytest.fixture
def host():
    """A folder that all may enter, as / is."""
    if os.geteuid() != 0:
        pytest.skip("being another user wants root")
    with tempfile.TemporaryDirectory(prefix="adit-host-") as path:
        os.chmod(path, 0o755)
        yield path


class Certbot:
    """Its folders and links, and what it does at a renewal."""

    def __init__(self, host, box):
        self.own, self.root, self.count, self.box = OwnCertificate(box), os.path.join(host, "letsencrypt"), 0, box
        self.live = os.path.join(self.root, "live", "r1.test")
        self.installed = os.path.join(host, "adit", "certificate.pem")
        for folder in ("archive", "live"):
            os.makedirs(os.path.join(self.root, folder, "r1.test"), 0o700)
            os.chmod(os.path.join(self.root, folder), 0o700)
        self.renew()

    def renew(self):
        """Returns the new serial number."""
        self.count += 1
        serial = self.own.issue()
        for name, path, mode in (("fullchain", self.own.cert, 0o644), ("privkey", self.own.key, 0o600)):
            file = os.path.join(self.root, "archive", "r1.test", f"{name}{self.count}.pem")
            shutil.copyfile(path, file)
            os.chmod(file, mode)
            link = os.path.join(self.live, f"{name}.pem")
            if os.path.lexists(link):
                os.unlink(link)
            os.symlink(file, link)
        done = self.box.run(HOOK,
                            env={"RENEWED_LINEAGE": self.live, "RENEWED_DOMAINS": "r1.test *.r1.test",
                                 "ADIT_CERTIFICATE": self.installed,
                                       "ADIT_GROUP": GROUP})
        assert done.returncode == 0, done.stderr
        return serial


def as_the_unit_does(*more):
    """User, group, groups, capabilities and what else DynamicUser brings."""
    return ["setpriv", f"--reuid={UID}", f"--regid={UID}",
            f"--groups={subprocess.check_output(['getent', 'group', GROUP], text=True).split(':')[2]}",
            "--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service",
            "--bounding-set=-all,+net_bind_service", "--no-new-privs", *more]


class UnitsRelay(Relay):
    """It finds nothing of the test's own folder, which is root's: its log says that it is ready, and where."""

    def start(self):
        self.process = self.box.start([*self.prefix, self.program, "relay", "--domain", self.domain, "--listen",
                                       self.listen, "--state", self.state,
                                       "--tcp-listen", "127.0.0.1", *self.options])
        line = self.process.err.wait(lambda line: " relay_ready " in line)
        self.host, self.port = "127.0.0.1", int(re.search(r"listen=127.0.0.1:(\d+)", line).group(1))


@pytest.fixture
def certbot(host, box):
    return Certbot(host, box)


@pytest.fixture
def units_relay(host, box, certbot):
    state, program = os.path.join(host, "state"), os.path.join(host, "adit-relay")
    os.mkdir(state, 0o700)
    os.chown(state, UID, UID)
    shutil.copy(ADIT, program)
    return UnitsRelay(box, state=state, prefix=as_the_unit_does(), program=program,
                      options=["--cert", certbot.installed, "--key", certbot.installed])


def serial(visitor, tunnel, own):
    v = visitor(tunnel, context=tls.context(own.ca))
    v.sendall(b"hello")
    assert read_exactly(v, 5) == b"hello"
    return int(v.tls.getpeercert()["serialNumber"], 16)


def test_what_certbot_renews_reaches_a_relay_that_may_not_read_its_folder(units_relay, certbot, agent, app, visitor,
                                                                          box):
    assert box.run(*as_the_unit_does("cat", f"{certbot.live}/fullchain.pem")).returncode != 0
    tunnel = agent(app(echo), relay=units_relay)
    before = serial(visitor, tunnel, certbot.own)
    new = certbot.renew()
    units_relay.process.err.wait(lambda line: " certificate_reloaded" in line)
    assert serial(visitor, tunnel, certbot.own) == new != before
    assert "certificate_refused" not in units_relay.process.err.text()


def test_a_renewal_is_never_seen_by_halves(units_relay, certbot):
    """Whenever the relay reads, chain and key belong together: it is asked to at every moment of many renewals."""
    for _ in range(20):
        certbot.renew()
        for _ in range(5):
            units_relay.process.kill(signal.SIGHUP)
    units_relay.process.stop()
    assert "certificate_reloaded" in units_relay.process.err.text()
    assert "certificate_refused" not in units_relay.process.err.text()


def test_the_key_is_for_the_group_alone_and_nothing_else_is_left(certbot):
    st = os.stat(certbot.installed)
    assert st.st_mode & 0o777 == 0o640 and st.st_uid == 0
    assert os.listdir(os.path.dirname(certbot.installed)) == ["certificate.pem"]


def test_a_renewal_that_fails_leaves_what_was_there(certbot, box):
    before = open(certbot.installed).read()
    env = {"ADIT_CERTIFICATE": certbot.installed, "ADIT_GROUP": GROUP}
    assert box.run(HOOK, certbot.own.cert, "/nonexistent", env=env).returncode != 0
    assert box.run(HOOK, env=env).returncode == 2
    assert open(certbot.installed).read() == before
    assert os.listdir(os.path.dirname(certbot.installed)) == ["certificate.pem"]


@pytest.fixture
def agents_unit(host, box):
    """start(token, port): what the agent's unit starts, with what systemd provides."""
    unit = configparser.ConfigParser(interpolation=None, comment_prefixes="#", strict=False)
    unit.optionxform = str
    unit.read(os.path.join(ROOT, "service", "adit-forward@.service"))
    service = unit["Service"]
    assert (
        service["DynamicUser"] == "yes"
        and service["Restart"] == "on-failure"
        and unit["Install"]["WantedBy"] == "multi-user.target"
    )
    program = os.path.join(host, "adit")
    shutil.copy(ADIT, program)

    def start(token, port):
        name, path = service["LoadCredential"].split(":")
        state = os.path.join(host, service["StateDirectory"].replace("%i", str(port)))
        credentials = os.path.join(host, "credentials")
        for folder in (credentials, state):
            os.makedirs(folder, 0o700, exist_ok=True)
            os.chown(folder, UID, UID)
        os.chmod(os.path.dirname(state), 0o755)
        with open(os.path.join(credentials, name), "w") as f:
            f.write(token + "\n")
        os.chown(f.name, UID, UID)
        words = service["ExecStart"].replace("%d", credentials).replace("%S", host).replace("%i", str(port)).split()
        assert path.startswith("/etc/adit/") and words.pop(0) == "/usr/local/bin/adit"
        return box.start(["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--bounding-set=-all",
                          "--no-new-privs", program, *words],
                         env={"HOME": "/"})
    return start


def test_the_agents_unit_may_start_before_its_relay_and_keeps_its_address(relay, agents_unit, app):
    token, a, urls = relay.token(), app(echo), []
    relay.process.stop()
    for _ in range(2):
        program = agents_unit(token, a.port)
        if not urls:
            program.err.wait(lambda line: "as soon as a relay can be reached" in line)
            relay.restart()
        urls.append(program.out.wait(lambda line: line.startswith("https://")).split()[0])
        assert program.stop() == 0
    assert urls[0] == urls[1]


def test_the_readmes_commands_and_the_relays_unit_are_those_of_the_hook():
    readme = open(os.path.join(ROOT, "README.md")).read()
    unit = open(os.path.join(ROOT, "service", "adit-relay.service")).read().splitlines()
    hook = open(HOOK).read()
    file, = re.findall(r"ADIT_CERTIFICATE:-([^}]*)}", hook)
    group, = re.findall(r"ADIT_GROUP:-([^}]*)}", hook)
    assert (
        f"--cert {file} --key {file}" in readme and "--deploy-hook /usr/local/share/adit/install-certificate" in readme
    )
    assert f"SupplementaryGroups={group}" in unit and "DynamicUser=yes" in unit
