"""A relay that is dialled at a Unix socket, as from a container without a network. How streams end there is what the
tests that are marked both_pumps show, for this way as for the others."""
import os
import socket
import stat
import struct
import threading

import pytest

from kit import hello
from kit.app import echo, ends_by_reset, read_exactly, read_until_end, reset
from kit.process import DEADLINE_S, wait_until
from kit.rights import can_refuse_descriptors
from kit.tls import BROKEN, how_it_ends


def assert_echoes(v, data=b"x" * 100_000):
    v.sendall(data)
    assert read_exactly(v, len(data)) == data


@pytest.fixture
def relay(start_relay, request):
    marker = request.node.get_closest_marker("relay_options")
    return start_relay(pump="unix", options=marker.args if marker else ())


def path_of(relay):
    return relay.unix.removeprefix("unix:")


def connect(relay):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE_S)
    sock.connect(path_of(relay))
    return sock


def test_link_and_data_go_through_it_and_data_inside_tls(relay, agent, app, visitor):
    running = agent(app(echo), "--unencrypted")
    assert_echoes(visitor(running))
    assert_echoes(visitor.raw(running))
    every = relay.metric("data_connections_total")
    assert relay.metric("data_connections_wrapped_total") >= every > 0
    assert not running.events.seen("warning")


def test_the_relay_tells_which_user_comes_there(relay, agent, app):
    agent(app(echo))
    who = f"unix uid {os.getuid()}"
    relay.process.err.wait(lambda line: "link_up" in line and f'from="{who}"' in line)
    assert f'"agent_address":"{who}"' in relay.get("/status")


@pytest.mark.parametrize("start", [
    lambda relay: {"env": {"ADIT_RELAY": relay.unix}},
    lambda relay: {"env": {"ADIT_RELAY": relay.unix, "HTTPS_PROXY": "http://127.0.0.1:1"}},
], ids=["variable", "proxy-in-the-environment"])
def test_the_environment_names_it(relay, box, agent, app, visitor, start):
    relay.pump = "splice"       # so that the kit names none
    assert_echoes(visitor(agent(app(echo), **start(relay))))


def test_a_relative_path_is_that_of_the_folder_where_it_was_given(relay, agent, app, visitor):
    running = agent(app(echo), "--relay", "unix:" + os.path.relpath(path_of(relay)))
    assert_echoes(visitor(running))


@pytest.mark.relay_options("--listen", f"unix:@adit-e2e-{os.getpid()}")
def test_it_may_be_an_abstract_one(relay, agent, app, visitor):
    assert_echoes(visitor(agent(app(echo), "--relay", f"unix:@adit-e2e-{os.getpid()}")))


def refused(box, relay, *options, **more):
    done = box.adit("forward", "--token-file", box.file("token", relay.token()), *options, "1", **more)
    assert done.returncode != 0
    line, = done.stderr.strip().splitlines()
    return line


def test_a_path_that_leads_to_no_socket_is_told(relay, box):
    nothing, file = box.file("nothing"), box.file("file", "text")
    assert f"relay unix:{nothing}: there is no such socket (start it, or check the path)" in refused(box, relay,
                                                                                                     "--relay",
                                                                                                     f"unix:{nothing}")
    assert f"relay unix:{file}: it refused the connection (start it" in refused(box, relay, "--relay", f"unix:{file}")
    assert "has 107 bytes at most (use a shorter one" in refused(box, relay, "--relay", "unix:/" + "x" * 107)
    assert "ADIT_RELAY: relay unix:: the name of the socket is missing" in refused(box, relay,
                                                                                   env={"ADIT_RELAY": "unix:"})


def test_what_does_not_go_with_it_is_told(relay, box):
    assert "is dialled straight (leave the proxy out" in refused(box, relay, "--relay", relay.unix, "--proxy",
                                                                 "http://127.0.0.1:1")
    assert "would lose resets" in refused(box, relay, "--relay", relay.unix, "--data", "plain")


def test_a_relay_that_comes_back_there_is_found(relay, agent, app, visitor):
    running = agent(app(echo))
    relay.process.kill()
    relay.process.wait()
    running.events.wait("reconnecting")
    os.unlink(path_of(relay))
    relay.restart()
    running.events.wait("restored")
    assert_echoes(visitor(running))


def test_it_serves_agents_only(relay, agent, app):
    """A visitor would have no address, and neither he nor a plain data connection knows a reset there."""
    running = agent(app(echo))
    sock = connect(relay)
    sock.sendall(hello.records(hello.client_hello(running.host)))
    assert hello.alert_in(read_until_end(sock)) == hello.fatal(hello.UNRECOGNIZED_NAME)
    before = relay.metric("data_connections_refused_total")
    sock = connect(relay)
    sock.sendall(b"\xadDIT\x01" + bytes(16 + 8 + 16))
    assert read_until_end(sock) == b""
    assert relay.metric("data_connections_refused_total") == before + 1


def test_descriptors_that_would_hold_it_up_are_not_taken_or_warned_of(relay):
    """A TCP socket that lingers, with bytes that nobody reads, closes when they are read or the time is over."""
    if not can_refuse_descriptors():
        assert "listen_unix_can_be_held_up" in relay.process.err.text()
        return
    listener = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(listener.getsockname())
    reader, _ = listener.accept()
    sender.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            sender.send(bytes(1 << 16))
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    with connect(relay) as peer:
        with pytest.raises(PermissionError):
            socket.send_fds(peer, [b"\x16"], [sender.fileno()])
    reader.close()
    sender.close()
    listener.close()


def test_the_socket_of_another_that_has_its_place_stays(relay, box):
    os.unlink(path_of(relay))
    other = socket.socket(socket.AF_UNIX)
    other.bind(path_of(relay))
    relay.process.stop()
    assert stat.S_ISSOCK(os.stat(path_of(relay)).st_mode)
    other.close()


def test_death_of_the_agent_ends_a_visitor_that_does_not_read(relay, agent, app, visitor):
    def flood(connection):
        while True:
            connection.sendall(bytes(1 << 20))
    running = agent(app(flood))
    v = visitor(running)
    wait_until(lambda: relay.metric("bytes_to_visitors_total") > 0, "nothing has come")
    read_exactly(v, 1000)
    running.process.kill()
    wait_until(lambda: relay.metric("streams_now") == 0, "its stream is still there")


def test_its_socket_is_there_as_long_as_the_relay(relay, start_relay, box):
    """Whoever can enter the folder may connect; what a relay has left behind that was killed is replaced, and nothing
    else is."""
    path = path_of(relay)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    with pytest.raises(AssertionError, match="it is in use"):
        start_relay(options=["--listen", relay.unix])
    relay.process.kill()
    relay.process.wait()
    assert os.path.exists(path)
    relay.restart()
    assert relay.process.stop() == 0
    assert not os.path.exists(path)
    file = box.file("precious", "text")
    with pytest.raises(AssertionError, match="it is in use"):
        start_relay(options=["--listen", f"unix:{file}"])
    assert open(file).read() == "text"
    with pytest.raises(AssertionError, match="make its folder"):
        start_relay(options=["--listen", f"unix:{box.path}/no/such/folder"])


class Carrier:
    """Somebody who passes on what comes at a Unix socket to a relay elsewhere, and knows ends only: when one comes, all
    ends."""

    def __init__(self, box, target):
        self.path, self.target = box.file("carrier.sock"), target
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        box.closers.append(self.listener.close)
        threading.Thread(target=self._accept_all, daemon=True).start()

    def _accept_all(self):
        try:
            while True:
                inner = self.listener.accept()[0]
                outer = socket.create_connection(self.target, DEADLINE_S)
                outer.settimeout(None)
                for ends in ((inner, outer), (outer, inner)):
                    threading.Thread(target=self._copy, args=ends, daemon=True).start()
        except OSError:
            pass

    @staticmethod
    def _copy(source, sink):
        try:
            while piece := source.recv(1 << 16):
                sink.sendall(piece)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.fixture
def carried(start_relay, agent, app, visitor, box):
    """Through a carrier to a relay that has no Unix socket: start(kind) gives the visitor's end, the app's end, the
    agent."""
    relay = start_relay()
    way = Carrier(box, relay.address)

    def start(kind):
        a = app()
        running = agent(a, "--unencrypted", "--relay", f"unix:{way.path}", relay=relay)
        v = visitor.raw(running) if kind == "raw" else visitor(running)
        connection = a.accept()
        assert relay.metric("data_connections_wrapped_total") > 0
        v.sendall(b"ping")
        assert read_exactly(connection, 4) == b"ping"
        return v, connection, running
    return start


kinds = pytest.mark.parametrize("kind", ["tls", "raw"])


@kinds
def test_half_closes_pass_a_carrier_that_knows_none(carried, kind):
    v, connection, _ = carried(kind)
    v.shutdown(socket.SHUT_WR)
    assert read_until_end(connection) == b""
    connection.sendall(b"still there")
    connection.close()
    assert read_until_end(v) == b"still there"


@kinds
def test_resets_pass_a_carrier_that_knows_none(carried, kind):
    v, connection, _ = carried(kind)
    reset(v.sock if hasattr(v, "sock") else v)
    assert ends_by_reset(connection)
    v, connection, _ = carried(kind)
    reset(connection)
    assert how_it_ends(v) in BROKEN


@kinds
def test_death_of_the_agent_is_a_reset_through_a_carrier(carried, kind):
    v, connection, running = carried(kind)
    running.process.kill()
    assert how_it_ends(v) in BROKEN
    assert ends_by_reset(connection)
