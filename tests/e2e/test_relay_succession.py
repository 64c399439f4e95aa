"""A relay that drains leaves everything but its streams to a successor with the same options."""
import os
import signal
import sqlite3
import threading
import urllib.error

import pytest

from kit import hello
from kit.app import echo, read_exactly
from kit.frames import BIND, BOUND, TCP, Bound, bind
from kit.hostile import HostileAgent
from kit.ports import free_raw_ports
from kit.process import wait_until
from kit.slow_disk import SlowDisk
from kit.tls import BROKEN, how_it_ends


def talk(stream, words=b"hello"):
    stream.sendall(words)
    assert read_exactly(stream, len(words)) == words


class Succession:
    """Relays one after the other, with options that are the same to the letter."""

    def __init__(self, start_relay, drain="600s"):
        self.start_relay = start_relay
        self.listen, admin, first, last = (free_raw_ports(4) + i for i in range(4))
        self.options = ["--admin", f"127.0.0.1:{admin}", "--tcp-ports", f"{first}-{last}", "--drain", drain]
        self.state = None

    def start(self):
        relay = self.start_relay(options=self.options, state=self.state, listen=f"127.0.0.1:{self.listen}")
        self.state = relay.state
        return relay

    def leases(self):
        with sqlite3.connect(os.path.join(self.state, "state.db")) as db:
            return db.execute("SELECT port, free_at_s FROM port_lease ORDER BY port").fetchall()


@pytest.fixture
def succession(start_relay):
    return Succession(start_relay)


def drain(relay):
    relay.process.kill(signal.SIGTERM)
    relay.process.err.wait(lambda line: " draining " in line)


def exchange(one, other):
    """A megabyte each way."""
    for sender, receiver in ((one, other), (other, one)):
        sent = os.urandom(1 << 20)
        sending = threading.Thread(target=sender.sendall, args=(sent,))
        sending.start()
        assert read_exactly(receiver, len(sent)) == sent
        sending.join()


@pytest.mark.both_pumps
def test_a_successor_serves_newcomers_while_the_old_relay_finishes_its_streams(succession, agent, app, visitor):
    old, a = succession.start(), app()
    running = agent(a, "--unencrypted", relay=old)
    streams = [(connect(running), a.accept()) for connect in (visitor, visitor.raw)]
    drain(old)
    new = succession.start()
    assert old.process.running
    running.events.wait("restored")
    newcomers = [(connect(running), a.accept()) for connect in (visitor, visitor.raw)]
    for v, connection in streams + newcomers:
        exchange(v, connection)
    for v, connection in streams:
        connection.close()
        assert not v.recv(1)
        v.close()
    assert old.process.wait() == 0
    for v, connection in newcomers:
        exchange(v, connection)
    assert new.metric("tunnels_now") == 1 and new.metric("streams_now") == 2
    assert succession.leases() == [(running.tcp_port, 0)], "what the old one gave back meanwhile is not written over it"
    assert not running.events.seen("superseded") and len(running.events.seen("open")) == 1, "at no other address"


def test_a_draining_relay_keeps_its_admin_port_until_a_successor_comes(succession, agent, app, visitor):
    old = succession.start()
    v = visitor(agent(app(echo), relay=old))
    talk(v)
    drain(old)
    with pytest.raises(urllib.error.HTTPError) as answer:
        old.get("/healthz")
    assert answer.value.code == 503 and answer.value.read() == b"draining\n"
    new = succession.start()
    assert old.process.running and new.get("/healthz") == "ok\n"
    talk(v, b"the old one goes on")


def test_what_is_revoked_while_a_relay_drains_ends_there_too(succession, agent, app, visitor):
    old = succession.start()
    v = visitor(agent(app(echo), relay=old, token=old.create_token("leaver")))
    talk(v)
    drain(old)
    new = succession.start()
    new.revoke("leaver")
    assert how_it_ends(v) in BROKEN
    assert old.process.wait() == 0


def test_a_successor_that_comes_first_waits_until_the_old_relay_drains(succession, agent, app, visitor):
    old = succession.start()
    running = agent(app(echo), relay=old)
    v = visitor(running)
    talk(v)
    tell = threading.Thread(target=lambda: (wait_until(lambda: waits_for_the_claim(old), "the successor does not come"),
                                            drain(old)))
    tell.start()
    succession.start()
    tell.join()
    running.events.wait("restored")
    talk(v, b"the old one goes on")
    talk(visitor(running), b"and the new one serves")


def waits_for_the_claim(old):
    """Another process has its relay.lock open."""
    lock = os.stat(os.path.join(old.state, "relay.lock"))
    for pid in (p for p in os.listdir("/proc") if p.isdigit() and int(p) != old.process.pid):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), lock):
                    return True
        except OSError:
            pass
    return False


@pytest.mark.unsanitized      # sanitizers want to be loaded before the slow disk
def test_a_draining_relay_opens_no_raw_port_that_its_successor_may_want(start_relay, visitor, box):
    """It was asked for before; a visitor who says hello keeps the link up meanwhile."""
    disk = SlowDisk(box)
    relay = start_relay(prefix=disk.prefix, options=["--drain", "600s"])
    hostile = HostileAgent(box, relay.token())
    hostile.log_in()
    hostile.do("frame", BIND, bind(1))
    started = relay.metric("client_hellos_total")
    v = visitor.connect(relay.address)
    v.sendall(hello.records(hello.client_hello(Bound(hostile.got(BOUND)).host))[:50])
    wait_until(lambda: relay.metric("client_hellos_total") > started, "the hello is not heard")
    disk.hold()
    hostile.tell("frame", BIND, bind(2, TCP))
    hostile.is_heard()
    drain(relay)
    disk.let_through(20)
    hostile.sees("link ended")
    assert not any(line.startswith(f"got {BOUND} 00000002") for line in hostile.program.out.lines)


def test_two_relays_do_not_serve_from_one_folder(succession, box):
    relay = succession.start()
    done = box.adit("relay", "--domain", "r1.test", "--listen", "127.0.0.1:0", "--state", relay.state)
    assert done.returncode == 1 and "another relay serves from it" in done.stderr
