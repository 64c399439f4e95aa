"""Several relays: a fresh agent tries all at once and stays with the first whose handshake is complete. Distance is
made here by a gate that holds back what a relay answers; the test of delays in time is test_distance.py."""
import socket
import threading

import pytest

from kit.app import echo, read_exactly
from kit.process import DEADLINE_S


class Gate:
    """A TCP proxy that keeps the relay's answers until it is opened."""

    def __init__(self, target):
        self.target, self.opened, self.sent = target, threading.Event(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.dial = "%s:%d" % self.listener.getsockname()
        self.ended = threading.Semaphore(0)
        threading.Thread(target=self._accept_all, daemon=True).start()

    def _accept_all(self):
        while True:
            try:
                inner = self.listener.accept()[0]
            except OSError:
                return
            outer = socket.create_connection(self.target, DEADLINE_S)
            outer.settimeout(None)
            sent = bytearray()
            self.sent.append(sent)
            threading.Thread(target=self._copy, args=(inner, outer, sent), daemon=True).start()
            threading.Thread(target=self._copy, args=(outer, inner, None), daemon=True).start()

    def _copy(self, a, b, record):
        try:
            while data := a.recv(1 << 16):
                if record is not None:
                    record += data
                else:
                    assert self.opened.wait(DEADLINE_S)
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if record is not None:
            self.ended.release()

    def close(self):
        self.opened.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def gate(box):
    def start(relay):
        g = Gate(relay.address)
        box.closers.append(g.close)
        return g
    return start


@pytest.fixture
def two_relays(start_relay, gate):
    """The near one, the far one, the gate before the far one, and a token for each."""
    near, far = start_relay(domain="near.test"), start_relay(domain="far.test")
    held = gate(far)
    return near, far, held, [near.create_token("n"), far.create_token("f", dial=held.dial)]


def start(agent, box, app, relay, tokens, **options):
    return agent(app(echo), "--token-file", box.file("second", tokens[1]), relay=relay, token=tokens[0], **options)


@pytest.mark.parametrize("first", ["near", "far"])
def test_only_the_winner_is_authenticated_to(two_relays, agent, app, box, first):
    """What the loser ever sees of us is a ClientHello."""
    near, far, held, tokens = two_relays
    running = start(agent, box, app, near, tokens if first == "near" else tokens[::-1])
    assert running.host.endswith(".near.test")
    assert held.ended.acquire(timeout=DEADLINE_S), "the loser's connection is closed while it is still silent"
    held.opened.set()
    assert len(held.sent) == 1 and held.sent[0][:1] == b"\x16"
    assert len(held.sent[0]) == 5 + int.from_bytes(held.sent[0][3:5], "big"), "one record"
    assert "link_up" not in far.process.err.text() and "owner=" not in far.process.err.text()


def test_a_refusal_by_the_winner_moves_on_to_the_next(two_relays, agent, app, box):
    near, far, held, tokens = two_relays
    revoked = agent(app(echo), relay=near, token=tokens[0])
    near.revoke("n")
    revoked.events.wait("closed", reason="token_revoked")        # so the relay knows by now
    running = start(agent, box, app, far, tokens, wait=False)
    warning = running.events.wait("warning")
    assert "near.test" in warning["text"] and warning["reason"] == "token_revoked"
    held.opened.set()
    assert running.events.wait("open")["tls_socket"][0].endswith(".far.test")


def test_when_all_refuse_the_agent_ends_with_the_reason(two_relays, box, app):
    near, far, held, tokens = two_relays
    held.opened.set()
    near.revoke("n")
    far.revoke("f")
    files = [box.file(f"t{i}", token) for i, token in enumerate(tokens)]
    done = box.adit("forward", app(echo).port, "--token-file", files[0], "--token-file", files[1])
    assert done.returncode == 1 and "revoked" in done.stderr


def test_a_relay_that_never_answers_holds_nothing_up(start_relay, agent, app, box, visitor):
    """It accepts the connection and is silent; the other one serves at once, not after a deadline."""
    relay, dumb = start_relay(domain="works.test"), socket.create_server(("127.0.0.1", 0))
    box.closers.append(dumb.close)
    silent = start_relay(domain="silent.test").create_token("s", dial="127.0.0.1:%d" % dumb.getsockname()[1])
    running = start(agent, box, app, relay, [silent, relay.token()])
    assert running.host.endswith(".works.test") and running.tunnel.event["open_ms"] < 5000
    v = visitor(running)
    v.sendall(b"x")
    assert read_exactly(v, 1) == b"x"


def test_an_agent_with_an_address_goes_back_to_its_relay_only(two_relays, agent, app, box):
    """Racing is for a fresh start: while its relay is away, another one is of no use to it."""
    near, far, held, tokens = two_relays
    running = start(agent, box, app, near, tokens)
    url = running.tunnel.url
    held.opened.set()
    near.process.kill()
    near.process.wait()
    running.events.wait("reconnecting")
    near.restart()
    running.events.wait("restored")
    assert running.tunnel.url == url and len(running.events.seen("open")) == 1
    assert len(held.sent) == 1, "the far relay was not dialled again"
