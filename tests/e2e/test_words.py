"""No command dies, or stands still, because of where its words go."""
import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios

import pytest

from kit.app import echo, read_exactly
from kit.process import ADIT, DEADLINE_S, Lines, die_with_parent, wait_until
from kit.roles import Relay, Tunnel


def fill(fd):
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"\n" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"\n")
    os.set_blocking(fd, True)


def asleep():
    """A pipe that is full, and whose reader sleeps."""
    read, write = os.pipe()
    fill(write)
    return [read], write


def asleep_without_blocking():
    (read,), write = asleep()
    os.set_blocking(write, False)
    return [read], write


def gone():
    read, write = os.pipe()
    os.close(read)
    return [], write


def socket_asleep():
    here, there = socket.socketpair()
    fill(there.fileno())
    return [here.detach()], there.detach()


def stopped_terminal():
    """As by Ctrl-S."""
    main, side = pty.openpty()
    termios.tcflow(side, termios.TCOOFF)
    return [main], side


def terminal():
    main, side = pty.openpty()
    return [main], side


def terminal_gone():
    main, side = pty.openpty()
    os.close(main)
    return [], side


def full_disk():
    return [], os.open("/dev/full", os.O_WRONLY)


PLACES = {"closed": None, "full disk": full_disk, "reader gone": gone, "reader asleep": asleep,
          "reader asleep, without blocking": asleep_without_blocking, "socket": socket_asleep,
          "terminal stopped": stopped_terminal, "terminal gone": terminal_gone, "terminal": terminal}
everywhere = pytest.mark.parametrize("place", [place for place in PLACES if place != "terminal"])


class Silent:
    """A program some of whose streams lead to such a place."""

    def __init__(self, box, argv, place, streams, env=None):
        self.opened, fd = PLACES[place]() if PLACES[place] else ([], os.open("/dev/null", os.O_WRONLY))

        def begin():
            die_with_parent()
            for number in (signal.SIGPIPE, signal.SIGXFSZ):      # which Python ignores
                signal.signal(number, signal.SIG_DFL)
            for number in streams if PLACES[place] is None else ():
                os.close(number)
        given = {name: fd if number in streams else subprocess.PIPE for name, number in (("stdout", 1), ("stderr", 2))}
        self.popen = subprocess.Popen([str(a) for a in argv], env={**box.env, "TERM": "xterm", **(env or {})},
                                      stdin=subprocess.DEVNULL, preexec_fn=begin, **given)
        os.close(fd)
        self.out, self.err = (Lines(s or ()) for s in (self.popen.stdout, self.popen.stderr))
        self.pid = self.popen.pid
        box.closers.append(lambda: [self.popen.kill(), self.popen.wait(), *map(os.close, self.opened)])

    def wait(self):
        return self.popen.wait(DEADLINE_S)

    def stop(self):
        self.popen.send_signal(signal.SIGTERM)
        return self.wait()


class SilentBox:
    """What a Relay starts, it starts so."""

    def __init__(self, box, place):
        self.box, self.place = box, place

    def __getattr__(self, name):
        return getattr(self.box, name)

    def start(self, argv, env=None):
        return Silent(self.box, argv, self.place, [1, 2], env)


def start_agent(box, relay, app, *options, place, streams=(1, 2), prefix=()):
    file = box.file("token", relay.token())
    return Silent(box, [*prefix, ADIT, "forward", "--token-file", file, app.port, *options], place, streams)


def its_tunnel(relay, app):
    """As the relay knows it; the agent has nobody to tell."""
    def hosts():
        return [t["host"] for t in json.loads(relay.get("/status"))["tunnels"]]
    wait_until(hosts, "no tunnel is open")
    return Tunnel(relay, {"url": "", "port": app.port, "tls_socket": [hosts()[0], relay.port], "tcp_socket": None})


def ask(visitor):
    visitor.sendall(b"hello")
    return read_exactly(visitor, 5) == b"hello"


def visit(visitor, tunnel):
    v = visitor(tunnel)
    assert ask(v)
    v.close()


def goes_on(agent, relay, app, visitor):
    v = visitor(its_tunnel(relay, app))
    assert ask(v)
    relay.process.kill()                 # of which there is something to tell
    relay.process.wait()
    v.close()
    relay.restart()
    v = visitor(its_tunnel(relay, app))
    assert ask(v)
    v.close()
    assert agent.stop() == 0


@everywhere
@pytest.mark.parametrize("form", [["--json"], []], ids=["json", "text"])
def test_an_agent_goes_on_whatever_becomes_of_its_words(relay, app, box, visitor, place, form):
    a = app(echo)
    goes_on(start_agent(box, relay, a, *form, place=place), relay, a, visitor)


@pytest.mark.parametrize("place", ["reader gone", "reader asleep"])
def test_an_agent_that_has_lost_one_of_its_streams_uses_the_other(relay, app, box, visitor, place):
    a = app(echo)
    for lost, other in ((1, "err"), (2, "out")):
        agent = start_agent(box, relay, a, "--json", place=place, streams=[lost])
        its_tunnel(relay, a)
        relay.process.kill()
        getattr(agent, other).wait(lambda line: "relay r1.test: " in line)
        relay.process.wait()
        relay.restart()
        assert agent.stop() == 0


TOSTOP = """
import ctypes, fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
mode = termios.tcgetattr(1)
mode[3] |= termios.TOSTOP
termios.tcsetattr(1, termios.TCSANOW, mode)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    os.execv(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
status = os.waitpid(pid, os.WUNTRACED)[1]
sys.exit(99 if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status))
"""


def test_an_agent_in_the_background_is_not_stopped_by_a_terminal_that_stops_who_writes(relay, app, box, visitor):
    a = app(echo)
    goes_on(start_agent(box, relay, a, place="terminal", prefix=[sys.executable, "-c", TOSTOP]), relay, a, visitor)


def test_a_command_behind_an_agent_has_its_words_where_it_was_given_them(relay, app, box):
    """The agent's own way with them is not the command's: it dies of the signal, and finds closed what was closed."""
    for place, command, status in (("reader gone", ["cat", "/proc/self/status"], 128 + signal.SIGPIPE),
                                   ("closed", ["sh", "-c", "[ -e /proc/$$/fd/1 ] || exit 6"], 6)):
        assert start_agent(box, relay, app(echo), "--", *command, place=place, streams=[1]).wait() == status


@everywhere
def test_a_relay_goes_on_whatever_becomes_of_its_log(box, app, agent, visitor, place):
    relay = Relay(SilentBox(box, place), options=["--log-level", "debug"])
    tunnel = agent(app(echo), relay=relay)
    for _ in range(10):
        visit(visitor, tunnel)
    assert relay.get("/healthz") == "ok\n"
    assert relay.process.stop() == 0


def test_a_log_says_how_much_of_it_was_lost(box, app, agent, visitor):
    """Its reader goes away, and another comes."""
    fifo = box.file("log")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    relay = Relay(box, prefix=["sh", "-c", f'exec "$0" "$@" 2>{fifo}'], options=["--log-level", "debug"])
    tunnel = agent(app(echo), relay=relay)
    os.close(reader)
    for n in range(1, 4):
        visit(visitor, tunnel)
        wait_until(lambda: relay.metric("streams_closed_total") == n, "the stream does not end")
    log = Lines(open(fifo, "rb"))
    visit(visitor, tunnel)
    assert re.search(r" warn log_lines_lost lines=[1-9]", log.wait(lambda line: "lines_lost" in line))
    log.wait(lambda line: " stream_closed " in line)


# --- commands that are asked something ---

UNWRITABLE = ["closed", "full disk", "reader gone", "terminal gone"]


@pytest.fixture
def state(box):
    path = box.file("tokens")
    assert box.adit("token", "create", "first", "--state", path, "--domain", "r1.test").returncode == 0
    return path


def states(box, state):
    done = box.adit("token", "list", "--json", "--state", state)
    return {t["name"]: t["state"] for t in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("place", UNWRITABLE)
def test_a_token_that_cannot_be_shown_is_an_error_and_not_good(box, state, place):
    done = Silent(box, [ADIT, "token", "create", "lost", "--state", state], place, [1])
    assert done.wait() == 1
    done.err.wait(lambda line: line.startswith("adit: standard output: ") and "revoked" in line)
    assert states(box, state) == {"first": "live", "lost": "revoked"}


@pytest.mark.parametrize("place", UNWRITABLE)
@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["forward", "--help"], ["token", "list"]], ids=" ".join)
def test_what_was_asked_for_and_cannot_be_written_is_an_error(box, state, place, argv):
    done = Silent(box, [ADIT, *argv, *(["--state", state] if argv[0] == "token" else [])], place, [1])
    assert done.wait() == 1
    done.err.wait(lambda line: line.startswith("adit: standard output: "))


def test_a_file_that_may_become_no_longer_is_an_error(box):
    """And not a signal that ends the command without a word."""
    done = box.run("sh", "-c", f"ulimit -f 4; exec {ADIT} forward --help >{box.file('help')}")
    assert done.returncode == 1 and "File too large" in done.stderr


def test_a_token_waits_for_a_reader_that_is_slow(box, state):
    """Whoever reads page by page is given it all, and holds nobody up meanwhile."""
    done = Silent(box, [ADIT, "token", "create", "slow", "--state", state], "reader asleep", [1])
    wait_until(lambda: "slow" in states(box, state), "no token is made")
    assert box.adit("token", "revoke", "first", "--state", state).returncode == 0
    read = done.opened[0]
    text = b""
    while not text.endswith(b"\n") or not text.strip():
        text += os.read(read, 65536)
    assert re.fullmatch(rb"\n+adit1_\S+\n", text) and done.wait() == 0
    assert states(box, state) == {"first": "revoked", "slow": "live"}


@everywhere
def test_a_command_ends_though_nobody_hears_why_it_failed(relay, box, place):
    token = box.file("token", relay.token())
    assert Silent(box, [ADIT, "frobnicate"], place, [1, 2]).wait() == 2
    assert Silent(box, [ADIT, "forward", "8000", "--token-file", "/nonexistent"], place, [1, 2]).wait() == 1
    assert Silent(box, [ADIT, "login", "--token-file", token], place, [1, 2]).wait() == 0
    assert Silent(box, [ADIT, "logout"], place, [1, 2]).wait() == 0
    assert Silent(box, [ADIT, "token", "create", "x", "--state", relay.state], place, [2]).wait() == 0
