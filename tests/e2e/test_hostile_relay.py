"""What an agent takes from a relay that lies. The relay is played here: it has the real one's authority, so the
handshake succeeds."""
import contextlib
import itertools
import os
import socket
import ssl
import subprocess
import threading

import pytest

from kit.app import echo
from kit.frames import BAD_TICKET, BIND, BOUND, GOODBYE, INTERNAL, PING, TICKET, UNBOUND, WANT, WELCOME, frame, text8, u
from kit.process import DEADLINE_S, SANITIZED, descriptors, resident_bytes

WARM_MAX = 256


def welcome(share=bytes([9]) + bytes(31)):
    return frame(WELCOME, u(1, 2) + share + text8("r1.test") + u(1, 8) + u(10000, 4) + u(2, 2))


def bound(tunnel, label, ticket=b"t" * 100):
    return frame(BOUND,
                 tunnel + text8(f"{label}.r1.test") + u(443, 2) + text8("") + u(0, 2) + u(0, 1) + u(len(ticket),
                                                                                                    2) + ticket)


class Liar:
    """Serves each control link by play(stream, first tunnel's id); data connections are closed at once."""

    def __init__(self, box, relay, play):
        csr, key, leaf, names = (box.file(f"liar.{x}") for x in ("csr", "key", "pem", "names"))
        box.file("liar.names", "subjectAltName=DNS:r1.test\nextendedKeyUsage=serverAuth\n")
        run = lambda *argv: subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
            "-out", csr, "-subj", "/")
        run("openssl", "x509", "-req", "-in", csr, "-CA", relay.authority, "-CAkey",
            os.path.join(relay.state, "authority.key"), "-days", "2",
            "-set_serial", "77", "-extfile", names, "-out", leaf)
        with open(leaf, "a") as chain, open(relay.authority) as authority:
            chain.write(authority.read())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.num_tickets = 0
        self.context.load_cert_chain(leaf, key)
        self.context.set_alpn_protocols(["adit/1"])
        self.play, self.links, self.played = play, 0, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        box.closers.append(self.listener.close)
        self.dial = "%s:%d" % self.listener.getsockname()
        threading.Thread(target=self._accept_all, daemon=True).start()

    def _accept_all(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, sock):
        with contextlib.suppress(OSError, StopIteration), sock:
            sock.settimeout(DEADLINE_S)
            if sock.recv(1, socket.MSG_PEEK) != b"\x16":
                return
            with self.context.wrap_socket(sock, server_side=True) as stream:
                self.links += 1
                frames = read_frames(stream)
                tunnel = next(body[:4] for kind, body in frames if kind == BIND)
                self.play(stream, tunnel, frames)
                self.played.set()
                for _ in frames:
                    pass


def read_frames(stream):
    data = b""
    while piece := stream.recv(1 << 16):
        data += piece
        while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[1:4], "big"):
            end = 4 + int.from_bytes(data[1:4], "big")
            yield data[0], data[4:end]
            data = data[end:]


@pytest.fixture
def liar(box, relay, agent, app):
    """liar(play, *options): an agent at a lying relay, and the liar."""
    def start(play, *options):
        l = Liar(box, relay, play)
        running = agent(app(echo), *options, dial=l.dial, wait=False)
        return running, l
    return start


def lives(running):
    """It has kept its head: bounded, and it ends as it should."""
    assert running.process.running
    assert descriptors(running.process.pid) < 2 * WARM_MAX + 60, "each with one for its app"
    assert SANITIZED or resident_bytes(running.process.pid) < 64 << 20
    assert running.process.stop() == 0


@pytest.mark.parametrize("lie", [
    b"\xff\xff\xff\xff", frame(BOUND, b"short"), frame(PING, b""), u(BOUND, 1) + u(1 << 23, 3),
    frame(GOODBYE, u(0, 2) + text8("\x1b[2J")),
    frame(BOUND, u(1, 4) + text8("a b.r1.test") + u(443, 2) + text8("") + u(0, 2) + u(0, 1) + u(0, 2)), welcome(),
    bytes(4096)], ids=lambda lie: lie[:6].hex())
def test_a_malformed_frame_ends_the_link_and_the_agent_tries_again(liar, lie):
    running, l = liar(lambda stream, tunnel, frames: stream.sendall(welcome() + lie))
    warning = running.events.wait("warning")
    assert "\x1b" not in warning["text"]
    assert l.played.wait(DEADLINE_S)
    lives(running)


def test_a_share_of_zeros_agrees_on_nothing(liar):
    running, _ = liar(lambda stream, tunnel, frames: stream.sendall(welcome(bytes(32))))
    assert "keys" in running.events.wait("warning")["text"]
    lives(running)


def test_frames_for_unknown_tunnels_and_of_unknown_types_are_ignored(liar):
    nobody = u(4711, 4)

    def play(stream, tunnel, frames):
        stream.sendall(welcome() + frame(200, b"x" * 1000) + bound(nobody, "n" * 24) + frame(UNBOUND,
                                                                                             nobody + u(INTERNAL,
                                                                                                        2) + text8(""))
                       + frame(TICKET, nobody + u(3, 2) + b"abc") + bound(tunnel, "a" * 24))
    running, l = liar(play)
    assert running.events.wait("open")["tls_socket"] == ["a" * 24 + ".r1.test", 443]
    assert l.links == 1
    lives(running)


@pytest.mark.parametrize("came", ["", "the moon is in the wrong house"])
def test_a_reason_of_a_later_version_is_shown_with_its_number_and_passes(liar, came):
    answers = itertools.chain([frame(GOODBYE, u(4711, 2) + text8(came))], itertools.repeat(None))

    def play(stream, tunnel, frames):
        stream.sendall(welcome() + (next(answers) or bound(tunnel, "a" * 24)))
    running, _ = liar(play)
    warning = running.events.wait("warning")
    assert warning["reason"] == "unknown" and "4711" in warning["text"] and came in warning["text"], warning
    assert "the relay failed" not in warning["text"]
    running.events.wait("open")
    lives(running)


def test_a_refusal_for_a_reason_of_a_later_version_is_shown_with_its_number(liar):
    running, l = liar(lambda stream, tunnel, frames: stream.sendall(welcome() + frame(UNBOUND,
                                                                                      tunnel + u(99, 2) + text8(""))))
    closed = running.events.wait("closed")
    assert closed["reason"] == "unknown" and "99" in closed["text"] and "update the agent" in closed["text"], closed


def test_a_flood_of_wants_opens_a_bounded_number_of_connections(liar):
    def play(stream, tunnel, frames):
        stream.sendall(welcome() + bound(tunnel, "a" * 24))
        for _ in range(200):
            stream.sendall(frame(WANT, u(65535, 2)) * 50)
    running, l = liar(play)
    running.events.wait("open")
    assert l.played.wait(DEADLINE_S)
    lives(running)


def test_a_flood_of_pings_that_is_not_read_is_bounded(liar):
    def play(stream, tunnel, frames):
        stream.sendall(welcome() + bound(tunnel, "a" * 24))
        with contextlib.suppress(OSError):
            for _ in range(2000):
                stream.sendall(frame(PING, bytes(8)) * 500)
    running, l = liar(play)
    running.events.wait("open")
    running.events.wait("reconnecting")
    lives(running)


def test_addresses_without_end_are_not_taken(liar):
    """Each is kept, because the host may hold its text; so a relay that refuses its own tickets again and again is not
    believed."""
    def play(stream, tunnel, frames):
        stream.sendall(welcome())
        for i in range(1000):
            stream.sendall(bound(tunnel, f"{i:024d}") + frame(UNBOUND, tunnel + u(BAD_TICKET, 2) + text8("")))
    running, l = liar(play)
    running.events.wait("open")
    assert running.events.wait("closed")["reason"] == "ticket"
    assert len(running.events.seen("open")) <= 3
    assert running.process.wait() == 1


def test_tickets_without_end_are_not_all_written(liar, box):
    keep = box.file("keep")

    def play(stream, tunnel, frames):
        stream.sendall(welcome() + bound(tunnel, "a" * 24))
        for i in range(5000):
            stream.sendall(frame(TICKET, tunnel + u(200, 2) + bytes([i % 256]) * 200))
    running, l = liar(play, "--keep", keep)
    running.events.wait("open")
    assert l.played.wait(DEADLINE_S)
    with open(keep) as f:
        assert "ticket dHR0dHR0" in f.read(), "the first"
    lives(running)
