"""How streams end: a clean end of one direction leaves the other open, everything else is a reset on the other side."""
import os
import signal
import socket
import ssl
import threading

import pytest

from kit import data
from kit.app import echo, ends_by_reset, read_exactly, read_until_end, reset
from kit.process import DEADLINE_S, links_of, scaled, wait_until
from kit.tls import BROKEN, how_a_visit_ends, how_it_ends

pytestmark = pytest.mark.both_pumps

KINDS = ["tls1.3", "tls1.2", "raw"]
VERSIONS = {"tls1.3": ssl.TLSVersion.TLSv1_3, "tls1.2": ssl.TLSVersion.TLSv1_2}


# TLS 1.2 has no half-close: RFC 5246 section 7.2.1 ends both directions at once.
half_closing = pytest.mark.parametrize("kind", ["tls1.3", "raw"], indirect=True)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def visit(visitor, kind):
    """visit(tunnel) is a visitor of the test's kind."""
    return lambda tunnel: visitor.raw(tunnel) if kind == "raw" else visitor(tunnel, version=VERSIONS[kind])


@pytest.fixture
def stream(relay, agent, app, visit):
    """The visitor's end, the app's end, the agent; a message has passed each way."""
    a = app()
    running = agent(a, "--unencrypted")
    v = visit(running)
    connection = a.accept()
    v.sendall(b"ping")
    assert read_exactly(connection, 4) == b"ping"
    connection.sendall(b"pong")
    assert read_exactly(v, 4) == b"pong"
    return v, connection, running


@half_closing
def test_the_visitor_ends_first_and_still_reads(stream):
    v, connection, _ = stream
    total = scaled(32 << 20, 1 << 20)
    v.sendall(b"last words")
    v.shutdown(socket.SHUT_WR)
    assert read_until_end(connection) == b"last words"
    writer = threading.Thread(target=lambda: (connection.sendall(data.body(total)), connection.close()))
    writer.start()
    assert data.digest_stream(v.recv) == (total, data.digest(total))
    writer.join(DEADLINE_S)


@half_closing
def test_the_app_ends_first_and_still_reads(stream):
    v, connection, _ = stream
    total, result = scaled(32 << 20, 1 << 20), []
    connection.sendall(b"last words")
    connection.shutdown(socket.SHUT_WR)
    assert read_until_end(v) == b"last words"
    reader = threading.Thread(target=lambda: result.append(data.digest_stream(connection.recv)))
    reader.start()
    for block in data.blocks(total):
        v.sendall(block)
    v.shutdown(socket.SHUT_WR)
    reader.join(DEADLINE_S)
    assert result == [(total, data.digest(total))]


def test_what_the_app_wrote_before_closing_is_delivered_whole(stream):
    """Delivered means delivered, though the visitor reads only after the app has gone."""
    v, connection, _ = stream
    total = 200_000
    connection.sendall(data.body(total))
    connection.close()
    assert data.digest_stream(v.recv) == (total, data.digest(total))
    v.close()


def test_what_the_app_wrote_is_delivered_though_the_visitor_goes_on_sending(stream):
    """Unread input when a socket is closed makes the kernel reset it and destroy what was not read yet."""
    v, connection, _ = stream
    total = 200_000
    v.sendall(data.body(50_000))
    assert read_exactly(connection, 50_000)
    connection.sendall(data.body(total))
    connection.shutdown(socket.SHUT_WR)
    v.sendall(data.body(50_000))
    assert data.digest_stream(v.recv) == (total, data.digest(total))


@pytest.mark.parametrize("link", ["sealed", "plain"])
@pytest.mark.relay_options("--link", "plain")
def test_an_early_answer_reaches_a_visitor_whose_relay_is_late(relay, agent, app, visit, kind, link):
    """The app answers and resets in mid-upload; its agent has passed both on before the relay has read that the visitor
    was accepted, and the first thing that the relay does then is to write more of the upload."""
    a = app()
    running = agent(a, "--unencrypted", "--link", link)
    wait_until(lambda: relay.metric("data_connections_warm_now") > 0, "no data connection is warm")
    running.process.freeze()
    v = visit(running)
    v.sendall(b"upload")
    wait_until(lambda: relay.metric("bytes_from_visitors_total") > 0, "the upload does not begin")
    relay.process.freeze()
    v.sendall(b"more of it")
    held = links_of(running.process.pid, "socket")
    running.process.kill(signal.SIGCONT)
    connection = a.accept()
    assert read_exactly(connection, 6) == b"upload"
    connection.sendall(b"503 busy")
    reset(connection)
    wait_until(lambda: held - links_of(running.process.pid, "socket"), "the agent keeps the data connection")
    relay.process.kill(signal.SIGCONT)
    assert read_exactly(v, 8) == b"503 busy"
    assert how_it_ends(v) in BROKEN


def test_a_reset_by_the_visitor_reaches_the_app(stream):
    v, connection, _ = stream
    reset(v.sock if hasattr(v, "sock") else v)
    assert ends_by_reset(connection)


def test_a_reset_by_the_app_reaches_the_visitor(stream):
    v, connection, _ = stream
    reset(connection)
    assert how_it_ends(v) in BROKEN


def test_a_reset_by_the_visitor_in_mid_download_reaches_the_app(stream):
    v, connection, _ = stream
    v.settimeout(DEADLINE_S)
    sent = threading.Thread(target=lambda: v.recv(1 << 16))
    sent.start()
    connection.sendall(data.body(1 << 20))
    sent.join(DEADLINE_S)
    reset(v.sock if hasattr(v, "sock") else v)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:
            connection.sendall(bytes(1 << 20))


@pytest.mark.parametrize("kind", ["tls1.3", "tls1.2"], indirect=True)
def test_an_end_without_close_notify_is_a_reset_for_the_app(relay, stream):
    """On a raw port there is no close_notify, and a FIN is a clean end. The relay sees no more of it than the agent's
    reset."""
    v, connection, _ = stream
    v.sendall(b"half a mess")
    assert read_exactly(connection, 11) == b"half a mess"
    v.truncate()
    assert ends_by_reset(connection)
    wait_until(lambda: 'adit_streams_closed_total{reason="wire_reset"} 1' in relay.get("/metrics"),
               "it is counted otherwise")


def test_killing_the_agent_resets_both_sides(stream):
    """A killed process sends FIN unless its sockets were told otherwise, which would look like a clean end."""
    v, connection, agent = stream
    agent.process.kill()
    assert how_it_ends(v) in BROKEN
    assert ends_by_reset(connection)


def test_killing_the_relay_resets_both_sides(stream, relay):
    v, connection, _ = stream
    relay.process.kill()
    assert how_it_ends(v) in BROKEN
    assert ends_by_reset(connection)


def test_a_stopped_agent_is_back_pressure_and_not_an_end(stream):
    v, connection, agent = stream
    agent.process.freeze()
    v.sendall(b"patience")
    agent.process.kill(signal.SIGCONT)
    assert read_exactly(connection, 8) == b"patience"


def test_sigterm_of_the_agent_ends_it_with_status_0(stream):
    _, _, agent = stream
    assert agent.process.stop() == 0


def test_a_visitor_who_is_faster_than_the_app_waits_for_it(relay, agent, app, visit):
    a = app(echo, started=False)
    tunnel = agent(a, "--unencrypted")
    v = visit(tunnel)
    v.sendall(b"early")
    assert f":{a.port}: it is not there yet" in tunnel.events.wait("warning")["text"]
    a.start()
    assert read_exactly(v, 5) == b"early"
    assert not tunnel.events.seen("warning")[1:]


def test_an_app_that_has_gone_is_a_failure_that_the_visitor_sees(relay, agent, app, visit, kind):
    a = app(echo)
    tunnel = agent(a, "--unencrypted")
    v = visit(tunnel)
    v.sendall(b"x")
    assert read_exactly(v, 1) == b"x"
    a.close()
    assert how_a_visit_ends(visit, tunnel) == "reset"  # an alert would read as a broken certificate
    assert f":{a.port}: it refused" in tunnel.events.wait("warning")["text"], (
        "the user is told which app does not answer"
    )


def test_an_app_that_answers_and_resets_at_once_is_heard(relay, agent, app, visit, kind):
    """However soon the reset comes: often before the agent has looked whether it is connected."""
    def serve(connection):
        connection.sendall(b"503 busy")
        reset(connection)
    tunnel = agent(app(serve), "--unencrypted")
    for _ in range(50):
        assert read_exactly(visit(tunnel), 8) == b"503 busy"
    assert not tunnel.events.seen("warning")


def test_an_app_that_only_resets_was_there(relay, agent, app, visit, kind):
    tunnel = agent(app(reset), "--unencrypted")
    for _ in range(20):
        assert how_a_visit_ends(visit, tunnel) == "reset"
    assert not tunnel.events.seen("warning")


def test_streams_leave_nothing_behind(relay, agent, app, visitor):
    """Descriptors return to where they were, the data connections kept warm aside."""
    a = app(lambda connection: connection.sendall(connection.recv(100)))
    tunnel = agent(a)

    def one():
        v = visitor(tunnel)
        v.sendall(b"x")
        assert read_until_end(v) == b"x"
        v.half_close()
        read_end(v.sock)
    one()
    pids = (relay.process.pid, tunnel.process.pid)
    before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
    for _ in range(100):
        one()
    after = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
    assert all(b <= a + 24 for a, b in zip(before, after)), (before, after)


def read_end(sock):
    try:
        while sock.recv(1000):
            pass
    except OSError:
        pass
