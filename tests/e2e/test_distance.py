"""What distance costs, in round trips: counted against the time that a TCP connect takes over the same link in the same
run.

A delay of 100 ms each way makes everything else small beside it; a figure is rounded to whole round trips."""
import socket
import ssl
import subprocess
import threading
import time

import pytest

from kit import tls
from kit.app import App, echo, read_exactly
from kit.distance import Place, cable, trouble
from kit.process import DEADLINE_S
from kit.roles import Agent, Relay

ONE_WAY_MS = 100
pytestmark = pytest.mark.heavy


@pytest.fixture
def places(box):
    """places(n): network namespaces."""
    why = trouble()
    if why:
        pytest.skip(why)
    return lambda n: [Place(box) for _ in range(n)]


def seconds(action):
    began = time.monotonic()
    action()
    return time.monotonic() - began


def round_trip(place, address):
    """What one round trip takes there: the quickest of three TCP connects."""
    return min(place.call(seconds, lambda: socket.create_connection(address, DEADLINE_S).close()) for _ in range(3))


def start_relay(box, place, pump, address, **options):
    return Relay(box, pump=pump, listen=address + ":0", prefix=place.prefix, options=["--tcp-listen", address],
                 **options)


def first_byte(address, host, context):
    """A visitor from nothing to the first byte of the answer."""
    v = tls.TlsVisitor(address, host, context)
    v.sendall(b"x")
    assert read_exactly(v, 1) == b"x"
    v.close()


class DirectTls:
    """The app, serving TLS itself, with the certificate of a relay of its own domain."""

    def __init__(self, box, place, bind):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cert, key = box.file("direct.pem"), box.file("direct.key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", key, "-out", cert,
                        "-subj", "/CN=direct.test", "-addext", "subjectAltName=DNS:direct.test"], check=True,
                        stderr=subprocess.DEVNULL)
        self.context.load_cert_chain(cert, key)
        self.context.num_tickets = 0
        self.trust = tls.context(cert)
        self.sock = place.call(lambda: socket.create_server((bind, 0)))
        box.closers.append(self.sock.close)
        self.address = self.sock.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection = self.sock.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        try:
            with self.context.wrap_socket(connection, server_side=True) as stream:
                echo(stream)
        except OSError:
            pass


def app_at(box, place):
    a = place.call(lambda: App(echo))
    box.closers.append(a.close)
    return a


@pytest.mark.both_pumps
def test_a_visitors_first_byte_costs_no_more_round_trips_than_direct_tls_over_a_far_relay(box, pump, places):
    """Visitor and relay are far apart, the app is next to the relay."""
    visitor_place, relay_place = places(2)
    cable(box, visitor_place, "10.77.1.1", relay_place, "10.77.1.2", ONE_WAY_MS)
    relay = start_relay(box, relay_place, pump, "10.77.1.2")
    running = Agent(box, relay, [app_at(box, relay_place)], prefix=relay_place.prefix)
    direct = DirectTls(box, relay_place, "10.77.1.2")
    compare(visitor_place, relay, running, direct, visitor_place, relay.address)


@pytest.mark.both_pumps
def test_a_visitors_first_byte_costs_no_more_round_trips_than_direct_tls_to_a_far_app(box, pump, places):
    """The visitor is next to the relay, the app is far from both; the direct way leads through the relay's machine."""
    relay_place, app_place = places(2)
    cable(box, relay_place, "10.77.2.1", app_place, "10.77.2.2", ONE_WAY_MS)
    relay = start_relay(box, relay_place, pump, "10.77.2.1")
    running = Agent(box, relay, [app_at(box, app_place)], prefix=app_place.prefix)
    direct = DirectTls(box, app_place, "10.77.2.2")
    compare(relay_place, relay, running, direct, app_place, relay.address)


def compare(visitor_place, relay, running, direct, far_place, far_address):
    trip = round_trip(far_place, far_address)
    context = tls.context(relay.authority)
    tunnel_trips = min(visitor_place.call(seconds, lambda: first_byte(relay.address, running.host, context))
                       for _ in range(3)) / trip
    direct_trips = min(visitor_place.call(seconds, lambda: first_byte(direct.address, "direct.test", direct.trust))
                       for _ in range(3)) / trip
    assert round(direct_trips) == 3, "TCP, TLS, request"
    assert round(tunnel_trips) <= round(direct_trips), (tunnel_trips, direct_trips)


def test_a_tunnel_opens_in_three_round_trips(box, places):
    """TCP, TLS, one exchange: from the start of the process to its `open` line."""
    agent_place, relay_place = places(2)
    cable(box, agent_place, "10.77.3.1", relay_place, "10.77.3.2", ONE_WAY_MS)
    relay = start_relay(box, relay_place, "splice", "10.77.3.2")
    trip = round_trip(agent_place, relay.address)
    a, token = app_at(box, agent_place), relay.token()
    trips = min(seconds(lambda: Agent(box, relay, [a], prefix=agent_place.prefix, token=token))
                for _ in range(3)) / trip
    assert round(trips) == 3, trips


def test_a_fresh_agent_stays_with_the_nearest_relay(box, places):
    agent_place, near_place, far_place = places(3)
    cable(box, agent_place, "10.77.4.1", near_place, "10.77.4.2", ONE_WAY_MS / 5)
    cable(box, agent_place, "10.77.5.1", far_place, "10.77.5.2", ONE_WAY_MS)
    near = start_relay(box, near_place, "splice", "10.77.4.2", domain="near.test")
    far = start_relay(box, far_place, "splice", "10.77.5.2", domain="far.test")
    a = app_at(box, agent_place)
    for tokens in ((near, far), (far, near)):
        file = box.file(box.unique("token"), tokens[1].token())
        running = Agent(box, near, [a], ["--token-file", file], token=tokens[0].token(), prefix=agent_place.prefix)
        assert running.host.endswith(".near.test"), "whichever is named first"
    near_place.call(first_byte, near.address, running.host, tls.context(near.authority))


def test_when_the_nearest_relay_is_dead_the_next_one_serves(box, places):
    agent_place, near_place, far_place = places(3)
    cable(box, agent_place, "10.77.6.1", near_place, "10.77.6.2", ONE_WAY_MS / 5)
    cable(box, agent_place, "10.77.7.1", far_place, "10.77.7.2", ONE_WAY_MS)
    near = start_relay(box, near_place, "splice", "10.77.6.2", domain="near.test")
    far = start_relay(box, far_place, "splice", "10.77.7.2", domain="far.test")
    tokens = [near.token(), far.token()]
    near.process.kill()
    near.process.wait()
    file = box.file(box.unique("token"), tokens[1])
    running = Agent(box, far, [app_at(box, agent_place)], ["--token-file", file], token=tokens[0],
                    prefix=agent_place.prefix)
    assert running.host.endswith(".far.test")
