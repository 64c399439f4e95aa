"""Networks that let only TLS through: data connections then go inside TLS, by themselves or because they were asked to.
What holds for plain ones holds for these: the tests that are marked both_pumps run with them, too."""
import contextlib
import socket
import ssl

import pytest

from kit import tls
from kit.app import echo, ends_by_reset, read_exactly
from kit.process import DEADLINE_S, wait_until


def assert_echoes(v, data=b"x" * 100_000):
    v.sendall(data)
    assert read_exactly(v, len(data)) == data


@pytest.mark.parametrize("block", [False, "close", "swallow", "deaf"], ids=["reset", "close", "swallow", "deaf"])
def test_data_goes_inside_tls_where_plain_connections_do_not_get_through(relay, agent, app, visitor, wire, block):
    cable = wire(relay, pass_data=block)
    running = agent(app(echo), "--unencrypted", dial=cable.dial)
    assert_echoes(visitor(running))          # who comes before it is known has to wait, and gets in
    assert_echoes(visitor.raw(running))
    told = running.events.wait("warning")
    assert told["reason"] == "data_in_tls" and "inside TLS" in told["text"] and cable.dial in told["text"]
    # none but these
    assert 2 <= relay.metric("data_connections_total") <= relay.metric("data_connections_wrapped_total")


def test_data_goes_inside_tls_where_plain_connections_break_when_the_relay_speaks(relay, agent, app, visitor, wire):
    """Some networks let the first bytes pass before they judge. Who comes then is lost; the next gets in."""
    running = agent(app(echo), dial=wire(relay, pass_data="late").dial)
    assert ends_by_reset(visitor(running))
    assert running.events.wait("warning",
                               reason="lost")["text"].startswith("1 visitor refused: the data connection broke off")
    assert "visitors get lost" in running.events.wait("warning", reason="data_in_tls")["text"]
    assert_echoes(visitor(running))


def test_it_is_told_once_however_often_the_link_is_lost(relay, agent, app, visitor, wire):
    cable = wire(relay, pass_data=False)
    running = agent(app(echo), dial=cable.dial)
    assert_echoes(visitor(running))
    cable.cut_links()
    running.events.wait("restored")
    assert_echoes(visitor(running))
    assert len(running.events.seen("warning")) == 1


def test_plain_connections_that_get_through_stay_plain(relay, agent, app, visitor, wire):
    cable = wire(relay)
    running = agent(app(echo), dial=cable.dial)
    for _ in range(8):
        assert_echoes(visitor(running))
    assert relay.metric("data_connections_wrapped_total") == 0 and not running.events.seen("warning")


def test_data_goes_inside_tls_from_the_start_when_asked(relay, agent, app, visitor, wire):
    cable = wire(relay, pass_data=False)
    running = agent(app(echo), "--data", "tls", dial=cable.dial)
    assert_echoes(visitor(running))
    assert relay.metric("data_connections_refused_total") == 0 and not running.events.seen("warning")


class Raw:
    """A data connection inside TLS by hand."""

    def __init__(self, relay, alpn="adit-data/1", host="r1.test", first=b""):
        self.sock = tls.context(relay.authority, alpn=[alpn]).wrap_socket(
            socket.create_connection(relay.address, DEADLINE_S), server_hostname=host)
        if first:
            with contextlib.suppress(OSError):     # who is not wanted may be ended amid it
                self.sock.sendall(first)

    def ends(self):
        try:
            return self.sock.recv(1) == b""
        except OSError:
            return True


def test_a_stranger_inside_tls_gets_no_further_than_its_preface(relay):
    preface = b"\xadDIT\x01" + bytes(16 + 8 + 16)
    for first in (preface, preface[:-1] + b"xy", b"GET / HTTP/1.1\r\n\r\n" + bytes(64), bytes(1000), b"\x17" * 20000):
        assert Raw(relay, first=first).ends()
    assert relay.metric("data_connections_refused_total") == 5 and relay.metric("data_connections_wrapped_total") == 0


def test_a_stranger_inside_tls_that_says_nothing_is_dropped(relay):
    silent = Raw(relay)
    wait_until(silent.ends, "it stays")


def test_only_the_relays_own_name_takes_data_inside_tls(relay, agent, app):
    running = agent(app(echo))
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME|unrecognized name"):
        Raw(relay, host=running.host)
    assert relay.metric("handshakes_unknown_name_total") == 1
