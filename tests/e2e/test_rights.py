"""What a relay's process may do once it serves: its user, its capabilities, its system calls, its files."""
import ctypes
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import tempfile

import pytest

from kit.app import echo, read_exactly
from kit.certificate import OwnCertificate
from kit.process import ADIT, BUILD, DEADLINE_S, LIBC, SANITIZED, threads
from kit.roles import Relay

USER = "daemon"                        # any that there is everywhere, and that is not root

wants_root = pytest.mark.skipif(os.geteuid() != 0, reason="being another user wants root")


def rights_line(relay):
    line = relay.process.err.wait(lambda line: " rights " in line)
    return dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line))


def lines_of(relay):
    return relay.process.err.text()


def serves(relay, agent, app, visitor):
    v = visitor(agent(app(echo), relay=relay))
    v.sendall(b"hello")
    return read_exactly(v, 5) == b"hello"


def landlock_version():
    return LIBC.syscall(444, None, ctypes.c_size_t(0), 1)


@pytest.fixture
def host():
    """A folder that all may enter, as / is."""
    with tempfile.TemporaryDirectory(prefix="adit-host-") as path:
        os.chmod(path, 0o755)
        yield path


class UsersRelay(Relay):
    """It finds nothing of the test's own folder, which is root's: its log says that it is ready, and where."""

    def start(self):
        self.process = self.box.start([ADIT, "relay", "--domain", self.domain, "--listen", self.listen, "--state",
                                       self.state, "--tcp-listen", "127.0.0.1", *self.options])
        line = self.process.err.wait(lambda line: " relay_ready " in line)
        self.host, self.port = "127.0.0.1", int(re.search(r"listen=127.0.0.1:(\d+)", line).group(1))


@pytest.fixture
def relay_as(box, host):
    """relay_as(user) is a relay that root starts, with a state folder that is not there yet."""
    return lambda user, **more: UsersRelay(box, state=os.path.join(host, "state"), options=["--user", user], **more)


@wants_root
def test_a_relay_that_root_starts_binds_a_low_port_and_serves_as_its_user(relay_as, agent, app, visitor):
    relay = relay_as(USER, listen="127.0.0.1:443")
    user = pwd.getpwnam(USER)
    for status in threads(relay.process.pid):
        assert set(status["Uid"].split()) == {str(user.pw_uid)} and set(status["Gid"].split()) == {str(user.pw_gid)}
    assert os.stat(relay.state).st_uid == user.pw_uid and os.stat(relay.state).st_mode & 0o777 == 0o700
    assert serves(relay, agent, app, visitor)


def test_every_thread_of_a_relay_is_without_capabilities_and_filtered(relay, agent, app, visitor):
    assert serves(relay, agent, app, visitor)
    all_of_them = threads(relay.process.pid)
    assert len(all_of_them) > 3        # the first one, the workers', the keeper's, the log's
    for status in all_of_them:
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")} == {"0000000000000000"}
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2" or "without libseccomp" in lines_of(relay)
        assert os.geteuid() != 0 or status["CapBnd"] == "0000000000000000"


def test_the_start_line_and_the_status_say_what_holds(relay):
    line = rights_line(relay)
    assert line["no_new_privileges"] == "yes" and line["capabilities"] == "none"
    assert line["seccomp"].strip('"').startswith("yes") or "without libseccomp" in line["seccomp"]
    assert line["landlock"].strip('"').startswith("yes" if landlock_version() > 0 else "no: ")
    told = json.loads(relay.get("/status"))["rights"]
    assert {k: v.strip('"') for k, v in line.items() if k in told} == told
    assert set(told) == {"user", "no_new_privileges", "capabilities", "dumpable", "seccomp", "landlock", "key_process"}


@wants_root
def test_a_state_folder_of_another_user_is_told_with_the_remedy(box, host):
    state = os.path.join(host, "state")
    os.mkdir(state, 0o700)
    done = box.adit("relay", "--domain", "r1.test", "--listen", "127.0.0.1:0", "--state", state, "--user", USER)
    assert done.returncode == 1
    assert f"it belongs to root, and the relay is to run as user {USER} (chown -R {USER}: {state}" in done.stderr


@wants_root
def test_a_certificate_that_its_user_may_not_read_is_refused_at_the_start(box, host):

    own = OwnCertificate(box)
    done = box.adit("relay", "--domain", "r1.test", "--listen", "127.0.0.1:0", "--state", os.path.join(host, "state"),
                    "--user", USER, "--cert", own.cert, "--key", own.key)
    assert done.returncode == 1
    assert "Permission denied (it must be readable by the relay's user)" in done.stderr


@wants_root
def test_root_takes_the_owner_of_the_state_folder(box, host):
    state = os.path.join(host, "state")
    os.mkdir(state, 0o700)
    os.chown(state, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)
    relay = UsersRelay(box, state=state)
    assert rights_line(relay)["user"] == USER


@wants_root
def test_a_user_that_does_not_exist_is_told(box, host):
    done = box.adit("relay", "--domain", "r1.test", "--state", os.path.join(host, "state"), "--user", "no-such-user")
    assert done.returncode == 1 and "there is no such user (make it: useradd" in done.stderr


@wants_root
def test_only_root_becomes_somebody_else(box, host):
    program = os.path.join(host, "adit")
    subprocess.run(["cp", ADIT, program], check=True)
    done = box.run("setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", program, "relay", "--domain",
                   "r1.test", "--state", os.path.join(host, "state"), "--user", "nobody")
    assert done.returncode == 1 and "only root can start a relay as somebody else (this is daemon)" in done.stderr


@pytest.mark.skipif(SANITIZED, reason="what looks into a sanitizer's program is the sanitizer")
def test_programs_of_its_user_cannot_look_into_it(relay_as):
    if os.geteuid() != 0:
        pytest.skip("being another user wants root")
    relay = relay_as(USER)
    done = subprocess.run(["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "cat",
                           f"/proc/{relay.process.pid}/environ"], capture_output=True, text=True)
    assert done.returncode != 0 and "Permission denied" in done.stderr


class TakenOver:
    """A relay in which an attacker does what a test tells him."""

    def __init__(self, box, start_relay, **options):
        path = box.file(box.unique("taken-over"))
        library = os.path.join(BUILD, "tests", "e2e", "libtaken-over.so")
        self.relay = start_relay(prefix=["env", f"LD_PRELOAD={library}", f"TAKEN_OVER={path}"], **options)
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(DEADLINE_S)
            door.bind(path)
            door.listen(100)
            self.attacker = door.accept()[0]
        os.unlink(path)
        self.attacker.settimeout(DEADLINE_S)
        box.closers.append(self.attacker.close)

    def open(self, path, flags=os.O_RDONLY):
        self.attacker.sendall(f"open {flags} {path}\n".encode())
        return int(self.attacker.makefile().readline()) >= 0

    def execute(self, path):
        self.attacker.sendall(f"execute {path}\n".encode())


@pytest.fixture
def taken_over(box, start_relay):
    """taken_over(options=...) is a relay that was taken over."""
    return lambda **options: TakenOver(box, start_relay, **options)


not_sanitized = pytest.mark.skipif(SANITIZED, reason="a sanitizer's program is let to do more")
landlocked = pytest.mark.skipif(landlock_version() <= 0, reason="this kernel has no Landlock")


@not_sanitized
@landlocked
def test_a_relay_that_was_taken_over_reaches_no_files_but_its_own(taken_over, host):
    secret = os.path.join(host, "secret")
    with open(secret, "w") as f:
        f.write("of somebody else")
    there = taken_over()
    assert not there.open(secret) and not there.open(f"{secret}.new", os.O_CREAT | os.O_WRONLY)
    assert there.open(f"{there.relay.state}/state.db")


@not_sanitized
def test_a_relay_that_was_taken_over_and_starts_a_program_ends(taken_over):
    there = taken_over()
    if "without libseccomp" in rights_line(there.relay)["seccomp"]:
        pytest.skip("this build has no libseccomp")
    there.execute("/bin/true")
    assert there.relay.process.wait() == -signal.SIGSYS


@not_sanitized
@landlocked
def test_a_relay_that_was_taken_over_cannot_read_its_keys_files(box, taken_over):
    own = OwnCertificate(box)
    there = taken_over(options=["--cert", own.cert, "--key", own.key])
    files = [own.key, f"{there.relay.state}/operator.key", f"{there.relay.state}/ticket.key"]
    assert all(map(os.path.exists, files))
    assert there.open(f"{there.relay.state}/state.db") and not any(map(there.open, files))
