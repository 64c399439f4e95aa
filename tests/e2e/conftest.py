"""Fixtures: `relay`, `agent`, `app` and `visitor` stand in the signature of each test that has one.

Everything waits for events with a deadline; nothing sleeps, nothing is retried. A test marked both_pumps runs in each
pump mode, with data connections inside TLS, and with an agent that dials its relay at a Unix socket. ADIT names the
program under test, ADIT_E2E_SCALE scales large transfers and counts."""
import os
import socket
import subprocess

import pytest

from kit import hello, tls
from kit.deadline import ends_after
from kit.http import Curl
from kit.process import ADIT, DEADLINE_S, SANITIZED, TSAN
from kit.roles import Agent, Relay
from kit.wire import Wire

pytest_plugins = ["kit.fixtures"]
pytest_runtest_protocol = ends_after(1800 if SANITIZED else 600)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "both_pumps: run with splice, with copy, with data connections inside TLS, and through a Unix socket"
    )
    config.addinivalue_line("markers", "heavy: measures time or memory, which sanitizers and company distort")
    config.addinivalue_line("markers", "unsanitized: wants programs without sanitizers, or sees no more with them")
    config.addinivalue_line("markers", "relay_options(*options): flags for the relay fixture")


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("both_pumps"):
        metafunc.fixturenames.append("pump") if "pump" not in metafunc.fixturenames else None
        # A sanitizer need not see TLS around data twice: it is the same code at a Unix socket. And how bytes are copied
        # is one thread's affair.
        modes = ["splice", "copy", "tls", "unix"]
        if SANITIZED:
            modes = ["splice", "unix"] if TSAN else ["splice", "copy", "unix"]
        metafunc.parametrize("pump", modes, indirect=True)


@pytest.fixture
def pump(request):
    return getattr(request, "param", "splice")


@pytest.fixture
def start_relay(box, pump):
    """Further relays: start_relay(domain=..., listen=..., options=...)."""
    relays = []

    def start(**options):
        relays.append(Relay(box, **{"pump": pump, **options}))
        return relays[-1]
    return start


@pytest.fixture
def relay(start_relay, request):
    marker = request.node.get_closest_marker("relay_options")
    return start_relay(options=marker.args if marker else ())


@pytest.fixture
def agent(box, request):
    """agent(app, "--flag", ...) returns when its tunnels are open; apps is one app or a list."""
    def start(apps, *options, relay=None, **more):
        relay = relay or request.getfixturevalue("relay")
        return Agent(box, relay, apps if isinstance(apps, list) else [apps], options, **more)
    return start


class Visitors:
    """visitor(tunnel) is a TLS visitor with its handshake done; visitor.raw(tunnel) one on the raw port."""

    def __init__(self, box):
        self.box, self.hello = box, hello

    def context(self, tunnel, **options):
        return tls.context(tunnel.relay.authority, **options)

    def __call__(self, tunnel, address=None, context=None, hold_finished=False, source=None, first=b"",
                 receive_buffer=None, host=None, nagle=False,
                 **options):
        v = tls.TlsVisitor(address or tunnel.relay.address, host or tunnel.host,
                           context or self.context(tunnel, **options), hold_finished, source,
                           first, receive_buffer, nagle)
        self.box.closers.append(v.close)
        return v

    def raw(self, tunnel, address="127.0.0.1"):
        return self.connect((address, tunnel.tcp_port))

    def connect(self, address):
        sock = socket.create_connection(address, DEADLINE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.box.closers.append(sock.close)
        return sock

    def curl(self, tunnel, **options):
        return Curl(tunnel, **options)


@pytest.fixture
def visitor(box):
    return Visitors(box)


@pytest.fixture
def wire(box):
    """wire(relay) is a cable between agent and relay that the test can cut: agent(app, dial=wire.dial)."""
    def start(relay, **options):
        w = Wire(relay.address, **options)
        box.closers.append(w.close)
        return w
    return start


def pytest_report_header():
    return f"program under test: {ADIT}"


@pytest.fixture(scope="session")
def scan(tmp_path_factory):
    """scan(pid, needles) returns those found, raw or in hex."""
    program = tmp_path_factory.mktemp("scan") / "memory_scan"
    source = os.path.join(os.path.dirname(__file__), "kit", "memory_scan.c")
    subprocess.run(["cc", "-O2", "-o", program, source], check=True)
    if os.getuid() != 0:
        pytest.skip("reading another process's memory wants root")

    def run(pid, needles):
        forms = [form for n in needles for form in (n, n.hex().encode(), n.hex().upper().encode())]
        done = subprocess.run([program, str(pid)], input=b"".join(bytes([len(f)]) + f for f in forms),
                              stdout=subprocess.PIPE, check=True)
        return {needles[int(i) // 3] for i in done.stdout.split()}
    return run
