"""Back-pressure from end to end, with bounded memory in between."""
import socket
import threading

import pytest

from kit import data
from kit.app import read_exactly
from kit.process import DEADLINE_S, SANITIZED, resident_bytes, scaled

pytestmark = pytest.mark.both_pumps

GROWTH_MAX = (512 if SANITIZED else 24) << 20      # for twenty streams; buffers of the kernel do not count


def fill(sock_of, write):
    """Writes until the other side has taken nothing for as long as it may reasonably think; returns how much went."""
    sock_of.settimeout(1)
    sent = 0
    try:
        while sent < 1 << 30:
            write(bytes(1 << 16))
            sent += 1 << 16
    except (TimeoutError, BlockingIOError):
        return sent
    raise AssertionError("a gigabyte went nowhere")


@pytest.mark.parametrize("kind", ["tls", "raw"])
def test_an_app_that_never_reads_blocks_the_visitor(relay, agent, app, visitor, kind):
    a = app()
    tunnel = agent(a, "--unencrypted")
    pids = (relay.process.pid, tunnel.process.pid)
    before, streams = [resident_bytes(pid) for pid in pids], []
    for _ in range(20):
        v = visitor.raw(tunnel) if kind == "raw" else visitor(tunnel)
        streams.append((v, a.accept()))
    threads = [threading.Thread(target=fill, args=(v if kind == "raw" else v.sock, v.sendall)) for v, _ in streams]
    for t in threads:
        t.start()
    for t in threads:
        t.join(DEADLINE_S * 10)
    grown = [resident_bytes(pid) - b for pid, b in zip(pids, before)]
    assert all(g < GROWTH_MAX for g in grown), f"relay and agent grew by {grown}"
    fresh = visitor(tunnel)
    fresh.sendall(b"others go on")
    assert read_exactly(a.accept(), 12) == b"others go on"


@pytest.mark.parametrize("kind", ["tls", "raw"])
def test_a_visitor_that_never_reads_blocks_the_app(relay, agent, app, visitor, kind):
    a = app()
    tunnel = agent(a, "--unencrypted")
    pids = (relay.process.pid, tunnel.process.pid)
    before, streams = [resident_bytes(pid) for pid in pids], []
    for _ in range(20):
        v = visitor.raw(tunnel) if kind == "raw" else visitor(tunnel)
        streams.append((v, a.accept()))
    threads = [threading.Thread(target=fill, args=(c, c.sendall)) for _, c in streams]
    for t in threads:
        t.start()
    for t in threads:
        t.join(DEADLINE_S * 10)
    grown = [resident_bytes(pid) - b for pid, b in zip(pids, before)]
    assert all(g < GROWTH_MAX for g in grown), f"relay and agent grew by {grown}"


def test_a_blocked_stream_goes_on_where_it_stopped(relay, agent, app, visitor):
    a, total = app(receive_buffer=8192), scaled(128 << 20, 64 << 20)
    v = visitor(agent(a))
    connection = a.accept()
    v.settimeout(DEADLINE_S * 10)
    writer = threading.Thread(target=lambda: ([v.sendall(b) for b in data.blocks(total)], v.half_close()))
    writer.start()
    writer.join(1)
    assert writer.is_alive(), "the app has read nothing, so the visitor cannot be done"
    assert data.digest_stream(connection.recv) == (total, data.digest(total))
    writer.join(DEADLINE_S)


def test_one_direction_passes_while_the_other_is_blocked(relay, agent, app, visitor):
    a = app()
    v = visitor.raw(agent(a, "--unencrypted"))
    connection = a.accept()
    fill(v, v.sendall)
    v.settimeout(DEADLINE_S)
    total = scaled(32 << 20, 1 << 20)
    writer = threading.Thread(target=lambda: (connection.sendall(data.body(total)),
                                              connection.shutdown(socket.SHUT_WR)))
    writer.start()
    assert data.digest_stream(v.recv) == (total, data.digest(total))
    writer.join(DEADLINE_S)
