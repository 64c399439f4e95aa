"""A token's byte rate: never more than it allows, by the bytes that the relay counts; all of them arrive, and nobody
else notices."""
import socket
import ssl
import threading
import time

import pytest

from kit import data
from kit.app import echo, ends_by_reset, read_exactly, read_until_end
from kit.process import DEADLINE_S, wait_until
from kit.tls import BROKEN, how_it_ends

RATE = 1_000_000
BURST = RATE // 4                                  # what was not used for a quarter of a second
TOTAL = 1_000_000                                  # a second's and no more: a test has to wait for it

pytestmark = pytest.mark.both_pumps


class Meter:
    """Bytes against time, from before the first byte to after the last: late looks only allow more."""

    def __init__(self, relay):
        self.relay, self.before, self.since = relay, self.count(relay), time.monotonic()

    @staticmethod
    def count(relay):
        return relay.metric("bytes_to_visitors_total") + relay.metric("bytes_from_visitors_total")

    def moved(self):
        moved = self.count(self.relay) - self.before
        allowed = BURST + RATE * (time.monotonic() - self.since)
        assert moved <= allowed, f"{moved} bytes where the rate allows {allowed}"
        return moved

    def has_moved(self, total):
        """A relay counts what it has sent once it has: the visitor may have it before."""
        wait_until(lambda: self.moved() >= total, "bytes are not counted")


@pytest.fixture
def token(relay):
    return relay.create_token("limited", "--max-rate", "1MB/s")


def sends(total):
    def serve(connection):
        for block in data.blocks(total):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        read_until_end(connection)
    return serve


def open_visitor(visitor, tunnel, kind):
    if kind == "raw":
        return visitor.raw(tunnel)
    return visitor(tunnel, version=ssl.TLSVersion.TLSv1_2 if kind == "tls12" else ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("kind", ["tls13", "tls12", "raw"])
def test_a_download_keeps_the_rate_and_arrives_whole(relay, token, agent, app, visitor, kind):
    tunnel, meter = agent(app(sends(TOTAL)), "--unencrypted", token=token), Meter(relay)
    v = open_visitor(visitor, tunnel, kind)
    assert data.digest_stream(v.recv) == (TOTAL, data.digest(TOTAL))
    meter.has_moved(TOTAL)
    assert relay.metric("rate_waits_total") > 0


@pytest.mark.parametrize("kind", ["tls13", "tls12", "raw"])
def test_both_directions_count_and_half_close_works(relay, token, agent, app, visitor, kind):
    tunnel, meter, half = agent(app(echo), "--unencrypted", token=token), Meter(relay), TOTAL // 2
    v = open_visitor(visitor, tunnel, kind)
    v.sendall(data.body(half))                     # the kernels on the way hold what comes back meanwhile
    v.shutdown(socket.SHUT_WR)
    assert data.digest_stream(v.recv) == (half, data.digest(half))
    meter.has_moved(2 * half)


def test_streams_of_one_token_share_its_rate(relay, token, agent, app, visitor):
    tunnels, meter, third = agent([app(sends(TOTAL // 3)), app(sends(TOTAL // 3))],
                                  token=token).tunnels, Meter(relay), TOTAL // 3
    visitors, got = [visitor(tunnels[i % 2]) for i in range(3)], []
    threads = [threading.Thread(target=lambda v=v: got.append(data.digest_stream(v.recv))) for v in visitors]
    for t in threads:
        t.start()
    for t in threads:
        t.join(DEADLINE_S * 10)
    assert got == [(third, data.digest(third))] * 3
    meter.has_moved(3 * third)


def endless(connection):
    while True:
        connection.sendall(bytes(1 << 16))


def test_a_token_without_a_limit_does_not_wait_for_one_that_has_one(relay, agent, app, visitor):
    slow = visitor(agent(app(endless), token=relay.create_token("slow", "--max-rate", "1kB/s")))
    read_exactly(slow, 10_000)
    total = 16 << 20                               # hours, at that rate
    fast = visitor(agent(app(sends(total))))
    assert data.digest_stream(fast.recv) == (total, data.digest(total))
    read_exactly(slow, 1)


def test_revoking_ends_streams_that_wait(relay, token, agent, app, visitor):
    v = visitor(agent(app(endless), token=token))
    read_exactly(v, BURST)
    relay.revoke("limited")
    assert how_it_ends(v) in BROKEN


def test_a_visitor_that_resets_while_bytes_wait_resets_the_app(relay, token, agent, app, visitor):
    a = app()
    v = visitor(agent(a, token=token))
    connection = a.accept()
    threading.Thread(target=lambda: [connection.sendall(bytes(1 << 16)) for _ in range(8)]).start()
    read_exactly(v, BURST)
    v.reset()
    assert ends_by_reset(connection)
