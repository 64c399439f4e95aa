"""Signals and children as whoever starts adit has it: what was ignored stays ignored, and as process 1 (here: as a
subreaper, which is given orphans just so) it leaves no zombies."""
import os
import re
import signal
import sys
import termios

import pytest

from kit.app import echo, read_exactly
from kit.process import ADIT, children, name_of, wait_until

GIVEN = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD, signal.SIGUSR1]

# Starts the rest of its arguments with some signals ignored and no others (neither those of the interpreter's own, nor
# of whoever runs the tests in the background or under nohup), one blocked, as a subreaper.
PREFIX = """
import ctypes, os, signal, sys
for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
for number in eval(sys.argv[1]): signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR2])
ctypes.CDLL(None).prctl(36, 1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def having_ignored(*numbers):
    return [sys.executable, "-c", PREFIX, repr([int(n) for n in numbers])]


def names(numbers):
    return signal.Signals(numbers).name


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM], ids=names)
def test_an_ignored_signal_does_not_end_an_agent(relay, agent, app, number):
    running = agent(app(echo), prefix=having_ignored(number))
    running.process.kill(number)
    relay.process.kill()                     # by the second event, whatever came before the first was looked at
    running.events.wait("reconnecting")
    relay.process.wait()
    relay.restart()
    running.events.wait("restored")
    assert running.process.running


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGHUP], ids=names)
def test_an_ignored_signal_does_not_drain_a_relay(start_relay, agent, app, visitor, ignored):
    relay = start_relay(prefix=having_ignored(ignored))
    v = visitor(agent(app(echo), relay=relay))
    v.sendall(b"a")
    assert read_exactly(v, 1) == b"a"
    relay.process.kill(ignored)
    relay.process.kill(signal.SIGTERM)       # were it the second, it would end the stream at once
    relay.process.err.wait(lambda line: "draining" in line)
    v.sendall(b"b")
    assert read_exactly(v, 1) == b"b"
    assert not [line for line in relay.process.err.lines if "certificate" in line]
    v.half_close()
    assert relay.process.wait() == 0


@pytest.mark.parametrize("ignored", [[], GIVEN, *([n] for n in GIVEN)], ids=lambda l: "+".join(map(names, l)) or "none")
def test_a_command_gets_its_signals_as_they_were_given(relay, box, app, ignored):
    done = box.run(*having_ignored(*ignored), ADIT, "forward", app(echo).port, "--", "grep", "^Sig[BI]",
                   "/proc/self/status",
                   env={"ADIT_TOKEN": relay.token()})
    assert done.returncode == 0, done.stderr
    seen = {name: int(bits, 16) for name, bits in re.findall(r"(\w+):\s(\w+)", done.stdout)}
    assert seen == {"SigIgn": sum(1 << n - 1 for n in ignored), "SigBlk": 1 << signal.SIGUSR2 - 1}


def test_a_commands_status_is_kept_where_ends_of_children_are_ignored(relay, box, app):
    done = box.run(*having_ignored(signal.SIGCHLD), ADIT, "forward", app(echo).port, "--", "sh", "-c", "exit 7",
                   env={"ADIT_TOKEN": relay.token()})
    assert done.returncode == 7


def test_a_question_is_not_ended_by_an_ignored_signal(box):
    """Of `adit login`, on a terminal."""
    terminal, side = os.openpty()
    program = box.start([*having_ignored(signal.SIGINT, signal.SIGHUP), ADIT, "login"], stdin=side)
    os.close(side)
    wait_until(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, "it does not ask")
    for number in (signal.SIGINT, signal.SIGHUP):
        program.kill(number)
    os.write(terminal, b"no token\n")
    assert program.wait() == 1 and "interrupted" not in program.err.text()
    os.close(terminal)


def of_others(pid):
    """Its children but for the relay's own processes."""
    return [child for child in children(pid) if name_of(child) not in ("adit-starter", "adit-keys")]


class TestOrphans:
    # Makes an orphan and waits until its zombie has gone, too.
    SCRIPT = """
orphan=$(sh -c 'sleep 0 >/dev/null & echo $!')
while kill -0 "$orphan" 2>/dev/null; do sleep 0.01; done
exit 7
"""

    def test_a_commands_orphans_are_reaped_and_its_status_is_ours(self, relay, box, app):
        done = box.run(*having_ignored(), ADIT, "forward", app(echo).port, "--", "sh", "-c", self.SCRIPT,
                       env={"ADIT_TOKEN": relay.token()})
        assert done.returncode == 7, done.stderr

    def test_so_are_they_beside_a_relay_of_its_own(self, box, app):
        done = box.run(*having_ignored(), ADIT, "forward", app(echo).port, "--", "sh", "-c", self.SCRIPT)
        assert done.returncode == 7, done.stderr

    @pytest.mark.parametrize("command", ["forward", "relay"])
    def test_of_others_it_reaps_those_from_before_and_those_to_come(self, relay, start_relay, agent, app, command):
        shell = ["sh", "-c", "sleep 0 & sleep 100 & exec \"$@\"", "sh"]
        prefix = [*having_ignored(), "/bin/sh", *shell[1:]]
        pid = (start_relay(prefix=prefix) if command == "relay" else agent(app(echo), prefix=prefix)).process.pid
        wait_until(lambda: len(of_others(pid)) == 1, "there are zombies from before")
        os.kill(int(of_others(pid)[0]), signal.SIGKILL)
        wait_until(lambda: not of_others(pid), "there is a new zombie")
