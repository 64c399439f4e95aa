"""Who has no TCP_NODELAY sends little more until what it sent before is acknowledged, and a kernel puts that off by 40
ms when it thinks that an answer will carry it. So whatever reads without an answer has to acknowledge. No test asserts
a time: when something has come of what was sent, all of it must have been acknowledged, as far as the sender's kernel
knows."""
import fcntl
import socket
import ssl
import struct

import pytest

from kit.app import read_exactly

SIOCOUTQ = 0x5411                        # TIOCOUTQ: not acknowledged
WARM = 2                                 # data connections that wait from the start


def unacknowledged(sock):
    return struct.unpack("i", fcntl.ioctl(sock, SIOCOUTQ, bytes(4)))[0]


TLS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])


@TLS
@pytest.mark.both_pumps
def test_a_visitors_finished_is_acknowledged_before_the_app_hears_of_it(relay, agent, app, visitor, version):
    """Else its request waits."""
    a = app()
    running = agent(a)
    v = visitor(running, nagle=True, version=version)
    connection = a.accept()
    assert unacknowledged(v.sock) == 0
    v.sendall(b"request")
    assert read_exactly(connection, 7) == b"request"


@pytest.mark.parametrize("cut", [6, 20], ids=["behind a record", "within a record"])
def test_each_part_of_a_visitors_flight_is_acknowledged(relay, agent, app, visitor, cut):
    """A client may write ChangeCipherSpec and Finished one by one. That the relay has seen the first, the next
    visitor's visit shows."""
    a = app()
    running = agent(a)
    v = visitor(running, nagle=True, hold_finished=True)
    flight = v.outgoing.read()
    assert len(flight) > cut
    v.sock.sendall(flight[:cut])
    visitor(running)
    a.accept()
    assert unacknowledged(v.sock) == 0
    v.sock.sendall(flight[cut:])
    a.accept()
    assert unacknowledged(v.sock) == 0


@pytest.mark.both_pumps
def test_the_parts_of_a_first_request_are_acknowledged_as_they_come(relay, agent, app, visitor):
    a = app()
    running = agent(a)
    v = visitor(running, nagle=True)
    connection = a.accept()
    for part in (b"head", b"body", b"tail"):
        v.sendall(part)
        assert read_exactly(connection, 4) == part
        assert unacknowledged(v.sock) == 0


@pytest.mark.parametrize("link", ["sealed", "plain"])
@pytest.mark.relay_options("--link", "plain")
@pytest.mark.both_pumps
def test_a_raw_visitors_first_words_are_acknowledged_as_they_come(relay, agent, app, link):
    a = app()
    running = agent(a, "--unencrypted", "--link", link)
    v = socket.create_connection(("127.0.0.1", running.tcp_port))
    connection = a.accept()
    for part in (b"head", b"body", b"tail"):
        v.sendall(part)
        assert read_exactly(connection, 4) == part
        assert unacknowledged(v) == 0
    v.close()


@pytest.mark.parametrize("options", [[], ["--proxy-protocol"]], ids=["", "PROXY header"])
def test_an_apps_first_words_are_acknowledged_as_they_come(relay, agent, app, visitor, options):
    """It greets before the visitor says anything, in more than one write."""
    a = app()
    running = agent(a, *options)
    v = visitor(running)
    connection = a.accept()
    if options:
        read_exactly(connection, 16)
    for part in (b"220 ", b"mail", b"\r\n"):
        connection.sendall(part)
        assert read_exactly(v, len(part)) == part
        assert unacknowledged(connection) == 0


def test_a_want_is_acknowledged_though_new_connections_answer_it(relay, agent, app, visitor, wire):
    """Else the next one waits, where a proxy stands between."""
    cable = wire(relay)
    running = agent(app(), dial=cable.dial)
    cable.wait_data(WARM)
    visitor(running)
    cable.wait_data(WARM + 1)
    inner, _ = cable.links[0]
    assert unacknowledged(inner) == 0
