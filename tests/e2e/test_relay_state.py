"""A state folder that has lost something, before the start or while the relay runs."""
import os

import pytest

from kit.app import echo, read_exactly
from kit.frames import BIND, BOUND, STATE, TCP, UNBOUND, Bound, bind, u
from kit.hostile import HostileAgent
from kit.process import ADIT


def talk(stream, words=b"hello"):
    stream.sendall(words)
    assert read_exactly(stream, len(words)) == words


def in_state(relay, name):
    return os.path.join(relay.state, name)


def lose(relay, name, manner):
    if manner == "missing":
        os.unlink(in_state(relay, name))
    else:
        os.truncate(in_state(relay, name), 0)


def every_command(box, relay):
    yield "relay", box.adit("relay", "--domain", "r1.test", "--listen", "127.0.0.1:0", "--state", relay.state)
    for words in (["create", "another"], ["create", "another", "--domain", "r1.test"], ["list"], ["revoke", "gone"]):
        yield words[0], box.adit("token", *words, "--state", relay.state)


@pytest.mark.parametrize("manner", ["missing", "empty"])
def test_a_lost_database_opens_no_revoked_token(relay, box, manner):
    relay.create_token("gone")
    relay.revoke("gone")
    relay.process.stop()
    lose(relay, "state.db", manner)
    for command, done in every_command(box, relay):
        assert (
            done.returncode == 1 and "state.db: missing or empty" in done.stderr and "--reset-state" in done.stderr
        ), (command, done.stderr)
    assert os.path.exists(in_state(relay, "state.db")) == (manner == "empty"), "nothing is made"


def test_a_lost_database_is_made_anew_on_purpose(relay, agent, app, visitor, box):
    """Keys stay, and with them tokens, names and the authority that visitors trust."""
    keep = box.file("keep")
    authority = open(relay.authority).read()
    before = agent(app(echo), "--keep", keep)
    relay.process.stop()
    before.process.stop()
    lose(relay, "state.db", "missing")
    relay.options.append("--reset-state")
    relay.restart()
    line = relay.process.err.wait(lambda line: "state_reset" in line)
    assert " warn " in line and "made_anew=state.db" in line
    after = agent(app(echo), "--keep", keep)
    assert after.url == before.url and open(relay.authority).read() == authority
    talk(visitor(after))
    relay.process.stop()
    relay.options.remove("--reset-state")
    relay.restart()
    after.events.wait("restored")


def test_a_lost_key_is_told_and_made_anew_on_purpose(relay, box):
    relay.token()
    relay.process.stop()
    lose(relay, "operator.key", "missing")
    for command, done in every_command(box, relay):
        assert done.returncode == 1 and "operator.key: missing" in done.stderr and "--reset-state" in done.stderr, (
            command,
            done.stderr,
        )
    relay.options.append("--reset-state")
    relay.restart()
    assert "made_anew=operator.key" in relay.process.err.wait(lambda line: "state_reset" in line)
    done = box.adit("forward", "8000", env={"ADIT_TOKEN": relay.token()})
    assert done.returncode == 1 and "does not trust the operator" in done.stderr


@pytest.mark.parametrize("name", ["ticket.key", "authority.pem", "authority.key"])
def test_a_relay_does_not_start_without_a_key_that_it_has_used(relay, box, name):
    relay.process.stop()
    lose(relay, name, "missing")
    _, done = next(every_command(box, relay))
    assert done.returncode == 1 and f"{name}: missing" in done.stderr and "--reset-state" in done.stderr, done.stderr


def test_reset_state_without_a_loss_changes_nothing_and_is_told(relay, box):
    before = {name: open(in_state(relay, name)).read()
              for name in ("operator.key", "ticket.key", "authority.key", "authority.pem")}
    relay.create_token("stays")
    relay.process.stop()
    relay.options.append("--reset-state")
    relay.restart()
    assert " warn " in relay.process.err.wait(lambda line: "state_not_reset" in line)
    assert before == {name: open(in_state(relay, name)).read() for name in before}
    assert "stays" in box.adit("token", "list", "--state", relay.state).stdout


def test_no_port_is_promised_by_a_folder_that_has_gone(relay, box):
    hostile = HostileAgent(box, relay.token())
    hostile.log_in()
    hostile.do("frame", BIND, bind(1, TCP))
    assert Bound(hostile.got(BOUND)).id == u(1, 4)
    os.rename(relay.state, relay.state + ".aside")
    line = relay.process.err.wait(lambda line: "state_lost" in line)
    assert " error " in line and relay.state in line
    hostile.do("frame", BIND, bind(2, TCP))
    assert hostile.got(UNBOUND)[:6] == u(2, 4) + u(STATE, 2)
    os.rename(relay.state + ".aside", relay.state)
    relay.process.err.wait(lambda line: "state_found" in line)
    hostile.do("frame", BIND, bind(3, TCP))
    assert Bound(hostile.got(BOUND)).id == u(3, 4)


def test_an_embedded_relay_heals_its_folder_by_itself(box, app):
    """It has promised nothing to anybody but the user who runs it."""
    def forward():
        program = box.start([ADIT, "forward", "--json", str(app(echo).port)])
        program.out.wait(lambda line: '"open"' in line)
        assert program.stop() == 0
    forward()
    folder = os.path.join(box.home, ".local", "state", "adit", "embedded")
    for name in ("state.db", "operator.key", "ticket.key", "authority.key"):
        os.unlink(os.path.join(folder, name))
        forward()
