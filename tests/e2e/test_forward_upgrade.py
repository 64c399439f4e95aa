"""`adit forward` goes on as its program as it is on the disk now, in the same process, while visitors come."""
import contextlib
import os
import shutil
import signal
import socket
import ssl
import sys
import threading

import pytest

from kit.app import echo, read_exactly, read_until_end, reset
from kit.process import ADIT, Events, children, descriptors, scaled, wait_until
from kit.roles import Tunnel
from kit.tls import BROKEN, how_it_ends
from kit.traffic import Exchange, streams_of_every_kind, talk, talk_between


def upgrade(agent):
    """The agent says so once it is done, and is the process that it was."""
    def told(lines):
        return sum('"event":"upgraded"' in line for line in lines)
    done = told(agent.process.out.lines)
    agent.process.kill(signal.SIGUSR2)
    agent.process.out.wait_until(lambda lines: told(lines) > done, "it does not say that it was upgraded")
    assert agent.process.running


def die(relay):
    relay.process.kill()
    relay.process.wait()


def unnoticed(relay, *agents):
    assert relay.metric("links_total") == relay.metric("links_now") == len(agents)
    return not any(agent.events.seen(kind) for agent in agents
                   for kind in ("reconnecting", "restored", "superseded", "warning"))


def test_streams_of_every_kind_go_on_and_no_relay_notices(start_relay, agent, app, visitor):
    relay = start_relay(options=["--link", "plain"])
    sealed = agent(app(echo), "--unencrypted", relay=relay)
    plain = agent(app(echo), "--unencrypted", "--link", "plain", relay=relay)
    with streams_of_every_kind(visitor, sealed, plain) as visitors:
        for _ in range(5):
            visitors.wait(3)
            upgrade(sealed)
            upgrade(plain)
    assert unnoticed(relay, sealed, plain)


def copied(box):
    """A program of the test's own, to be replaced."""
    path = box.file("adit")
    shutil.copy(ADIT, path)
    return path


def replace(path, content):
    """As an installation does it: the old file lives on for those who run it."""
    with open(path + ".new", "wb") as f:
        f.write(content)
    os.chmod(path + ".new", 0o700)
    os.rename(path + ".new", path)


SAYS = """#!{python}
import os, shutil, socket, struct, sys, time
take_over = [word for word in sys.argv if word.startswith("--take-over=")]
asker = socket.socket(fileno=int(take_over[0].partition("=")[2].split(",")[0])) if take_over else None

def hello(first=1, last=1):
    asker.send(struct.pack("!IHHB", 0x61646670, first, last, 8) + b"impostor")

"""
NO_HEIRS = {
    "is no program": (None, "it ended with status 127"),
    "ends at once": ("sys.exit(7)", "it ended with status 7"),
    "dies": ("os.abort()", "it was ended by signal 6"),
    "says what no adit says": ("asker.send(b'HTTP/1.1 400 Bad Request')\ntime.sleep(600)", "it is no adit"),
    "says nothing": ("time.sleep(600)", "it does not start"),
    "is of another time": ("hello(200, 300)\ntime.sleep(600)", "it takes over in the formats 200 to 300, and not 1"),
    "ends with all that it gets": ("hello()\nasker.recv(2)\nsys.exit(3)", "it ended with status 3"),
    "does not like what it gets": ("hello()\nasker.recv(2)\nasker.send(b'\\0I do not like it')\ntime.sleep(600)",
                                   "I do not like it"),
    "is another one by then": ("hello()\nasker.recv(2)\nshutil.copy(sys.argv[0], sys.argv[0] + '.new')\n"
                               "os.rename(sys.argv[0] + '.new', sys.argv[0])\nasker.send(b'\\1')",
                               "it was replaced while it was asked"),
    "gets all and gives no answer": ("hello()\nasker.recv(2)\ntime.sleep(600)", "it gives no answer"),
}


@pytest.mark.parametrize("part", NO_HEIRS)
def test_a_program_that_cannot_take_over_changes_nothing(relay, agent, app, visitor, box, part):
    program = copied(box)
    running = agent(app(echo), "--unencrypted", program=program)
    body, said = NO_HEIRS[part]
    streams = [visitor(running), visitor.raw(running)]
    with contextlib.ExitStack() as all_of_them:
        for v in streams:
            all_of_them.enter_context(Exchange(v))
        replace(program, b"\x7fELF no more" if body is None else (SAYS.format(python=sys.executable) + body).encode())
        for _ in range(2):
            refused = len(running.events.lines.lines)
            running.process.kill(signal.SIGUSR2)
            line = running.process.out.wait(lambda line: "upgrade_failed" in line, first=refused)
            assert said in line and program in line
        with open(ADIT, "rb") as f:
            replace(program, f.read())
        upgrade(running)
    for v in [*streams, visitor(running), visitor.raw(running)]:
        talk(v, b"as before")
    assert relay.metric("links_total") == 1 and not running.events.seen("reconnecting")


def test_streams_end_as_they_would_have_ended(relay, agent, app, visitor):
    a = app()
    running = agent(a, "--unencrypted")
    for connect in (visitor, visitor.raw):
        (half, at_half), (broken, at_broken), (done, at_done) = ((connect(running), a.accept()) for _ in range(3))
        talk_between(half, at_half)
        talk_between(broken, at_broken)
        half.shutdown(socket.SHUT_WR)
        assert read_until_end(at_half) == b""
        done.sendall(b"the question")
        done.shutdown(socket.SHUT_WR)
        assert read_until_end(at_done) == b"the question"
        at_done.sendall(b"the answer")
        at_done.close()
        upgrade(running)
        assert read_until_end(done) == b"the answer"
        at_half.sendall(b"the answer")
        at_half.close()
        assert read_until_end(half) == b"the answer"
        reset(at_broken)
        assert how_it_ends(broken) in BROKEN
    assert unnoticed(relay, running)


def test_what_nobody_reads_waits_through_an_upgrade(relay, agent, app, visitor):
    a = app()
    running = agent(a, "--unencrypted")
    for connect in (visitor, visitor.raw):
        v = connect(running)
        connection = a.accept()
        sent = os.urandom(scaled(64 << 20, 8 << 20))
        for sender, receiver in ((v, connection), (connection, v)):
            sending = threading.Thread(target=sender.sendall, args=(sent,))
            sending.start()
            for _ in range(3):
                upgrade(running)
            assert read_exactly(receiver, len(sent)) == sent
            sending.join()
    assert unnoticed(relay, running)


def test_data_connections_inside_tls_and_unix_sockets_move_too(start_relay, agent, box, app, visitor):
    relay = start_relay()
    by_unix = agent(app(echo, host="unix:" + box.file("app.sock")), "--data", "tls", relay=relay)
    streams = [visitor(by_unix) for _ in range(3)]
    with contextlib.ExitStack() as all_of_them:
        for v in streams:
            all_of_them.enter_context(Exchange(v))
        for _ in range(3):
            upgrade(by_unix)
            talk(visitor(by_unix))
    assert unnoticed(relay, by_unix)


def test_who_waits_for_an_app_goes_on_to_wait(relay, agent, app, visitor):
    """And is told of it by the header that was to be the first."""
    a = app(started=False)
    running = agent(a, "--app-wait", "1m", "--proxy-protocol")
    v = visitor(running)
    v.sendall(b"early")
    running.events.wait("warning", reason="app")
    upgrade(running)
    upgrade(running)
    a.start()
    connection = a.accept()
    assert read_exactly(connection, 12) == b"\r\n\r\n\0\r\nQUIT\n"
    n = int.from_bytes(read_exactly(connection, 4)[2:])
    read_exactly(connection, n)
    assert read_exactly(connection, 5) == b"early"
    assert relay.metric("links_total") == 1


def test_an_address_stays_kept_and_its_ticket_good(relay, agent, app, visitor, box):
    keep = box.file("ticket")
    running = agent(app(echo), "--keep", keep)
    with open(keep, "rb") as f:
        before = f.read()
    upgrade(running)
    with open(keep, "rb") as f:
        assert f.read() == before, "it is the same holder"
    v = visitor(running)
    die(relay)
    relay.restart()
    running.events.wait("restored")
    assert how_it_ends(v) in BROKEN
    talk(visitor(running))
    assert not running.events.seen("superseded")
    assert running.process.stop() == 0
    again = agent(app(echo), "--keep", keep)
    assert again.same_address_as(running.tunnel)


def test_without_a_relay_it_goes_on_looking_for_one(relay, agent, app, visitor):
    running = agent(app(echo))
    die(relay)
    running.events.wait("reconnecting")
    upgrade(running)
    relay.restart()
    running.events.wait("restored")
    talk(visitor(running))
    assert running.process.running


def test_tokens_and_proxies_that_were_wiped_go_along(relay, agent, app, visitor, box):
    """They are in no argument, and in no file, any more."""
    running = box.start([ADIT, "forward", "--json", "--token", relay.token(), "--proxy=none", str(app(echo).port)])
    events = Events(running.out)
    tunnel = Tunnel(relay, events.wait("open"))
    for _ in range(2):
        done = len(running.out.lines)
        running.kill(signal.SIGUSR2)
        running.out.wait(lambda line: '"event":"upgraded"' in line, first=done)
    with open(f"/proc/{running.pid}/cmdline", "rb") as f:
        assert relay.token().encode() not in f.read()
    talk(visitor(tunnel))
    die(relay)
    relay.restart()
    events.wait("restored")
    talk(visitor(tunnel))


def test_what_was_not_wiped_stays_as_it_is(agent, app, box):
    """A value that ends like an option without one."""
    running = agent(app(echo), "--name=blue=", "--keep=" + box.file("ticket="))
    upgrade(running)
    assert running.process.stop() == 0
    assert running.events.wait("closed")["name"] == "blue="


def test_the_command_behind_goes_on_and_its_end_is_heard_of(relay, agent, app, box):
    """Also when it ends in the midst of the upgrade; and signals are as they were given."""
    script = "trap 'exit 7' TERM; echo started; while :; do sleep 0.01; done"
    running = agent(app(echo), "--", "sh", "-c", script, wait=False).process
    running.out.wait(lambda line: line == "started")
    command, = children(running.pid)
    running.kill(signal.SIGUSR2)
    running.err.wait(lambda line: '"event":"upgraded"' in line)
    assert children(running.pid)[0] == command
    os.kill(int(command), signal.SIGTERM)
    assert running.wait() == 7


def test_an_embedded_relay_goes_on(box, app):
    state = {"XDG_STATE_HOME": box.file("state-home/x").rsplit("/", 1)[0]}
    running = box.start([ADIT, "forward", "--json", str(app(echo).port)], env=state)
    events = Events(running.out)
    opened = events.wait("open")
    relays = children(running.pid)
    for _ in range(2):
        done = len(running.out.lines)
        running.kill(signal.SIGUSR2)
        running.out.wait(lambda line: '"event":"upgraded"' in line, first=done)
    assert children(running.pid) == relays
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", opened["tls_socket"][1])) as s, \
            context.wrap_socket(s, server_hostname=opened["tls_socket"][0]) as v:
        talk(v)
    assert not events.seen("reconnecting")
    assert running.stop() == 0
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in relays), "its relay does not end")


def test_nothing_is_left_behind(relay, agent, app, visitor):
    """No descriptor, no child."""
    running = agent(app(echo), "--unencrypted")
    v = visitor(running)
    talk(v)
    upgrade(running)
    before = descriptors(running.process.pid)
    for _ in range(5):
        upgrade(running)
    talk(v)
    assert descriptors(running.process.pid) <= before
    assert children(running.process.pid) == []
