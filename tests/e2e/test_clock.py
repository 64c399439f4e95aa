"""Machines whose wall clock is wrong at first, as before NTP, and is set while the relay runs or between two starts;
and time that passes in a moment."""
import os
import socket
import struct

import pytest

from kit import tls
from kit.app import echo, read_exactly, read_until_end
from kit.certificate import DAY_S, OwnCertificate
from kit.errors import expect_error
from kit.ports import free_raw_ports
from kit.process import BUILD
from kit.tls import BROKEN, how_it_ends

HOUR_S = 3600
pytestmark = pytest.mark.unsanitized        # sanitizers want to be loaded first


def talk(stream, words=b"hello"):
    stream.sendall(words)
    assert read_exactly(stream, len(words)) == words


@pytest.fixture
def own(box):
    return OwnCertificate(box)


class Clock:
    """The wall clock of a program, or the one by which it measures time, which a test sets."""

    def __init__(self, box, which="OTHER_CLOCK"):
        self.path = box.file("clock", bytes(8))
        self.prefix = ["env", f"LD_PRELOAD={os.path.join(BUILD, 'tests', 'e2e', 'libother-clock.so')}",
                       f"{which}={self.path}"]
        self.box = box

    def set(self, ahead_s):
        with open(self.path, "r+b", buffering=0) as f:
            f.write(struct.pack("q", ahead_s))


@pytest.fixture
def clock(box):
    return Clock(box)


@pytest.mark.parametrize("ahead_s", [2 * DAY_S, 20 * 365 * DAY_S, -20 * 365 * DAY_S])
def test_what_the_relay_made_by_a_wrong_clock_is_made_again_and_no_token_is_lost(clock, start_relay, agent, app,
                                                                                 visitor, ahead_s):
    relay = start_relay()
    token = relay.token()
    relay.process.stop()
    clock.set(ahead_s)
    relay.prefix = clock.prefix
    relay.restart()
    clock.set(0)
    relay.process.err.wait(lambda line: " certificate_reloaded" in line)
    if ahead_s > 0:
        assert "set back" in relay.process.err.wait(lambda line: " certificate_from_the_future " in line)
    talk(visitor(agent(app(echo), relay=relay, token=token)))


@pytest.mark.parametrize("ahead_s", [2 * DAY_S, 20 * 365 * DAY_S])
def test_also_when_the_clock_is_set_between_two_starts(clock, start_relay, agent, app, visitor, ahead_s):
    clock.set(ahead_s)
    relay = start_relay(prefix=clock.prefix)
    token = relay.token()
    relay.process.stop()
    clock.set(0)
    relay.restart()
    assert "set back" in relay.process.err.wait(lambda line: " authority_renewed " in line)
    talk(visitor(agent(app(echo), relay=relay, token=token)))


def test_a_replacement_refused_for_its_time_is_taken_once_the_clock_is_right(clock, own, start_relay, agent, app,
                                                                             visitor):
    relay = start_relay(options=["--cert", own.cert, "--key", own.key], prefix=clock.prefix)
    clock.set(-HOUR_S // 2)
    new = own.issue(begins_s=-60)
    relay.process.err.wait(lambda line: " certificate_refused " in line)
    clock.set(0)
    relay.process.err.wait(lambda line: " certificate_reloaded" in line)
    v = visitor(agent(app(echo), relay=relay), context=tls.context(own.ca))
    assert int(v.tls.getpeercert()["serialNumber"], 16) == new


def test_a_certificate_that_expires_while_it_serves_is_told_of_once(clock, own, start_relay):
    relay = start_relay(options=["--cert", own.cert, "--key", own.key], prefix=clock.prefix)
    clock.set(21 * DAY_S)
    assert "since=" in relay.process.err.wait(lambda line: " certificate_expired " in line)
    clock.set(0)
    own.issue()
    relay.process.err.wait(lambda line: " certificate_reloaded" in line)
    assert sum(" certificate_expired " in line for line in relay.process.err.lines) == 1


def test_no_quarantine_of_a_port_is_over_because_the_clock_was_set(clock, start_relay, agent, app, box):
    """A relay boots in the past; whoever had the port has not come back yet, and another wants it before and after the
    clock is set."""
    port = free_raw_ports()
    relay = start_relay(options=["--tcp-ports", f"{port}-{port}"])
    a, keep, other = app(echo), box.file("keep"), relay.create_token("other")
    first = agent(a, "--unencrypted", "--keep", keep, relay=relay)
    relay.process.kill()
    first.process.stop()
    relay.process.wait()
    relay.prefix = clock.prefix
    clock.set(-2 * HOUR_S)
    relay.restart()
    expect_error(box.adit("forward", "8000", "--unencrypted", env={"ADIT_TOKEN": other}), 1, "port")
    clock.set(0)
    expect_error(box.adit("forward", "8000", "--unencrypted", env={"ADIT_TOKEN": other}), 1, "port")
    assert agent(a, "--unencrypted", "--keep", keep, relay=relay).tcp_port == port


@pytest.mark.parametrize("kind", ["tls", "raw"])
@pytest.mark.parametrize("ended", ["nobody", "the visitor", "the app"])
def test_a_stream_idles_for_hours_and_a_half_open_one_for_two(box, start_relay, agent, app, visitor, kind, ended):
    clock, a = Clock(box, "OTHER_STEADY_CLOCK"), app()
    relay = start_relay(prefix=clock.prefix)
    running = agent(a, "--unencrypted", relay=relay, prefix=clock.prefix)
    v = visitor.raw(running) if kind == "raw" else visitor(running)
    v.sendall(b"ping")
    connection = a.accept()
    assert read_exactly(connection, 4) == b"ping"
    if ended == "the visitor":
        v.shutdown(socket.SHUT_WR)
        assert read_until_end(connection) == b""
    elif ended == "the app":
        connection.shutdown(socket.SHUT_WR)
        assert read_until_end(v) == b""
    for hours in (1, 2):
        clock.set(hours * HOUR_S)
        running.events.wait("restored")      # the link has heard nothing for as long
        if ended != "the visitor":
            v.sendall(b"still here")
            assert read_exactly(connection, 10) == b"still here"
        if ended != "the app":
            connection.sendall(b"so am I")
            assert read_exactly(v, 7) == b"so am I"
    clock.set(5 * HOUR_S)
    running.events.wait("restored")
    if ended == "nobody":
        v.sendall(b"still here")
        assert read_exactly(connection, 10) == b"still here"
    else:
        assert how_it_ends(v if ended == "the visitor" else connection) in BROKEN
