"""What only happens when things happen at once: links lost, taken over and revoked under load, on a relay of four
workers."""
import random
import socket
import ssl
import threading
import time

import pytest

from kit.app import echo, read_exactly
from kit.process import descriptors, scaled, wait_descriptors
from kit.tls import TlsVisitor

pytestmark = pytest.mark.relay_options("--workers", "4", "--drain", "0")
WORDS = b"the quick brown fox" * 50
TORN = (OSError, ssl.SSLError, AssertionError, EOFError)


class Crowd:
    """Visitors that come, speak with the app and go, several at a time, until they are stopped. Being torn is part of
    the game; to read anything but what was said is not."""

    def __init__(self, visitor, tunnels, threads=4):
        self.visitor, self.tunnels, self.over = visitor, tunnels, threading.Event()
        self.served, self.torn, self.wrong = 0, 0, []
        self.contexts = {t: visitor.context(t) for t in tunnels}
        self.changed = threading.Condition()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]
        for t in self.threads:
            t.start()

    def _visit(self, tunnel, raw):
        if raw:
            stream = socket.create_connection(("127.0.0.1", tunnel.tcp_port), 20)
        else:
            stream = TlsVisitor(tunnel.relay.address, tunnel.host, self.contexts[tunnel])
        try:
            stream.settimeout(20)
            stream.sendall(WORDS)
            answer = b""
            while len(answer) < len(WORDS):
                piece = stream.recv(65536)
                if not piece:
                    raise EOFError
                answer += piece
                if not WORDS.startswith(answer):
                    self.wrong.append(answer)
        finally:
            stream.close()

    def _run(self, seed):
        dice = random.Random(seed)
        while not self.over.is_set():
            tunnel = dice.choice(self.tunnels)
            try:
                self._visit(tunnel, tunnel.tcp_port and dice.random() < 0.3)
                ok = True
            except TORN:
                ok = False
                self.over.wait(0.01)
            with self.changed:
                self.served += ok
                self.torn += not ok
                self.changed.notify_all()

    def wait_served(self, more, seconds=60):
        with self.changed:
            goal = self.served + more
            assert self.changed.wait_for(lambda: self.served >= goal,
                                         seconds), f"served {self.served} of {goal}, torn {self.torn}"

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(60)
        assert not self.wrong


def count(lines, event):
    return sum(f" {event} " in line for line in lines)


def test_tunnels_taken_over_under_load_stay_with_the_newest(relay, agent, app, visitor, box):
    """Two copies of an agent with one ticket file: the newer serves, the older is told, and the raw port follows."""
    a, keep = app(echo), box.file("keep")
    running = agent(a, "--unencrypted", "--keep", keep)
    crowd = Crowd(visitor, [running.tunnel])
    for _ in range(scaled(8, 3)):
        newer = agent(a, "--unencrypted", "--keep", keep)
        assert newer.same_address_as(running)
        running.events.wait("superseded")
        running.process.stop()
        running = newer
        crowd.wait_served(10)
    crowd.stop()
    assert relay.metric("tunnels_now") == 1
    with socket.create_connection(("127.0.0.1", running.tcp_port), 20) as raw:
        raw.sendall(b"still here")
        assert read_exactly(raw, 10) == b"still here"


@pytest.mark.relay_options("--workers", "4", "--drain", "0", "--log-level", "debug")
def test_agents_killed_at_random_points_leave_nothing_behind(relay, agent, app, visitor, box):
    dice, a = random.Random(1), app(echo)
    keeps = [box.file(f"keep{i}") for i in range(3)]
    agents = [agent(a, "--unencrypted", "--keep", k) for k in keeps]
    before = descriptors(relay.process.pid)
    crowd = Crowd(visitor, [x.tunnel for x in agents], threads=6)
    for _ in range(scaled(12, 4)):
        i = dice.randrange(len(agents))
        crowd.wait_served(dice.randrange(1, 6))
        agents[i].process.kill()
        back = agent(a, "--unencrypted", "--keep", keeps[i])
        assert back.same_address_as(agents[i])
        agents[i] = back
    crowd.wait_served(20)
    crowd.stop()
    for x in agents:
        x.process.stop()
    log = relay.process.err
    log.wait_until(lambda lines: count(lines, "tunnel_closed") == count(lines, "tunnel_open"), "tunnels stay behind")
    streams = relay.metric("streams_total")
    log.wait_until(lambda lines: count(lines, "stream_closed") == streams, "streams stay behind")
    assert relay.metric("streams_now") == relay.metric("tunnels_now") == 0
    wait_descriptors(relay.process.pid, before)


def test_a_token_revoked_under_load_ends_its_own_tunnels_only(relay, agent, app, visitor):
    a = app(echo)
    doomed = agent(a, "--unencrypted", token=relay.create_token("doomed"))
    other = agent(a, "--unencrypted", token=relay.create_token("other"))
    streams = [visitor(doomed) for _ in range(5)] + [visitor.raw(doomed) for _ in range(5)]
    for s in streams:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
    crowd = Crowd(visitor, [doomed.tunnel, other.tunnel])
    crowd.wait_served(20)
    doomed.process.freeze()               # its link cannot answer
    relay.revoke("doomed")
    began = time.monotonic()
    for s in streams:
        s.settimeout(20)
        with pytest.raises((ConnectionResetError, ssl.SSLError, OSError)):
            while s.recv(65536):
                pass
            raise ConnectionResetError    # an end, which raw streams have without an alert
    assert time.monotonic() - began < 5
    crowd.tunnels = [other.tunnel]
    crowd.wait_served(20)
    crowd.stop()
    assert relay.metric("tunnels_now") == 1


def test_a_relay_stopped_under_load_ends_by_itself(relay, agent, app, visitor):
    a = app(echo)
    agents = [agent(a, "--unencrypted") for _ in range(3)]
    crowd = Crowd(visitor, [x.tunnel for x in agents], threads=6)
    crowd.wait_served(30)
    assert relay.process.stop() == 0
    crowd.stop()
    relay.restart()
    for x in agents:
        x.events.wait("restored")
    after = Crowd(visitor, [x.tunnel for x in agents])
    after.wait_served(20)
    after.stop()


def test_a_visitor_in_mid_handshake_finds_its_tunnel_again_after_the_link_was_replaced(relay, agent, app, visitor, box):
    """It holds its Finished back while the agent is killed and its successor takes the address over."""
    a, keep = app(echo), box.file("keep")
    first = agent(a, "--keep", keep)
    waiting = [visitor(first, hold_finished=True) for _ in range(8)]
    first.process.kill()
    second = agent(a, "--keep", keep)
    assert second.same_address_as(first)
    for v in waiting:
        v.sendall(WORDS)
    for v in waiting:
        assert read_exactly(v, len(WORDS)) == WORDS


def test_a_ticket_for_a_port_outside_the_range_is_refused_and_the_relay_lives(start_relay, agent, app, visitor, box):
    a, keep = app(echo), box.file("keep")
    relay = start_relay(options=["--tcp-ports", "21000-21099"])
    first = agent(a, "--unencrypted", "--keep", keep, relay=relay)
    first.process.stop()
    relay.process.stop()
    relay.options = ["--tcp-ports", "40000-40009"]
    relay.restart()
    second = agent(a, "--unencrypted", "--keep", keep, relay=relay, wait=False)
    third = agent(a, "--unencrypted", relay=relay)
    assert 40000 <= third.tcp_port <= 40009
    assert relay.process.running
    second.process.stop()
