"""Of visitors that were handed off, the relay's memory holds neither plaintext nor keys.

Every writable mapping is read while the visitors stream. The scan proves itself: it finds the marker in the agent, a
canary in a page that core dumps leave out, and, for a visitor of a raw port, the marker in the relay."""
import os
import re
import resource
import selectors
import ssl
import subprocess
import threading
import time

import pytest

from kit import records
from kit.frames import GOODBYE, WELCOME
from kit.hostile import HostileAgent
from kit.process import DEADLINE_S, scaled

VISITORS = scaled(1000, 20)
MARKER = os.urandom(24)

pytestmark = pytest.mark.unsanitized         # a sanitizer's shadow memory is terabytes to scan


def plant(pid, canary):
    """Writes it into zeros at the end of a page of the process that core dumps leave out (VmFlags: dd)."""
    with open(f"/proc/{pid}/smaps") as smaps, open(f"/proc/{pid}/mem", "r+b", buffering=0) as mem:
        for line in smaps:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ rw", line):
                start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if line.startswith("VmFlags:") and " dd" in line and " wr" in line:
                mem.seek(end - 64)
                if mem.read(64) == bytes(64):
                    mem.seek(end - 48)
                    mem.write(canary)
                    return
    raise AssertionError("the relay has no page that core dumps leave out")


@pytest.fixture(autouse=True)
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 4 * VISITORS:
        pytest.skip(f"the limit of descriptors is {hard}")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Traffic:
    """Keeps every stream busy: apps write the marker, visitors read, as much as goes."""

    def __init__(self):
        self.selector, self.moved, self.on = selectors.DefaultSelector(), 0, True
        self.thread = threading.Thread(target=self._run, daemon=True)

    def add(self, connection, visitor_sock):
        connection.setblocking(False)
        self.selector.register(connection, selectors.EVENT_WRITE)
        if visitor_sock:
            visitor_sock.setblocking(False)
            self.selector.register(visitor_sock, selectors.EVENT_READ)

    def _run(self):
        block = MARKER * 512
        while self.on:
            for key, _ in self.selector.select(0.1):
                try:
                    if key.events == selectors.EVENT_WRITE:
                        key.fileobj.send(block)
                    else:
                        self.moved += len(key.fileobj.recv(16384))
                except BlockingIOError:
                    pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.on = False
        self.thread.join(DEADLINE_S)


@pytest.mark.both_pumps
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=["tls1.3", "tls1.2"])
def test_the_relay_knows_nothing_of_handed_off_visitors(relay, agent, app, visitor, box, scan, version):
    a, keylog = app(), box.file("keys")
    running, traffic = agent(a), Traffic()
    context = visitor.context(running, version=version, keylog=keylog)
    secrets = []
    for _ in range(VISITORS):
        v = visitor(running, context=context)
        traffic.add(a.accept(), v.sock)
        if version == ssl.TLSVersion.TLSv1_2:
            secrets += records.tls12_secrets(keylog, v)
    if version == ssl.TLSVersion.TLSv1_3:
        secrets = [s for pair in records.traffic_secrets(keylog) for s in pair]
    assert len(set(secrets)) == VISITORS * (2 if version == ssl.TLSVersion.TLSv1_3 else 3)
    assert relay.metric("handshakes_handed_off_total") == VISITORS
    with traffic:
        end = time.monotonic() + DEADLINE_S
        while MARKER not in scan(running.process.pid, [MARKER]):
            assert time.monotonic() < end, "the scan does not find the marker where it must be: in the agent"
        if version == ssl.TLSVersion.TLSv1_2:
            assert scan(running.process.pid,
                        secrets) == {s for s in secrets if len(s) < 48}, "the agent has the keys, and no master secret"
        before = traffic.moved
        for _ in range(3):
            assert scan(relay.process.pid, [MARKER]) == set(), "plaintext in the relay"
            assert not scan(relay.process.pid, secrets), "traffic secrets in the relay"
        assert traffic.moved > before, "the streams were busy meanwhile"


@pytest.mark.parametrize("hello,answer", [("hello", WELCOME), ("forged", GOODBYE)])
def test_the_relay_forgets_what_a_link_is_made_from(relay, box, scan, hello, answer):
    hostile = HostileAgent(box, relay.create_token("hostile"))
    hostile.do("link")
    hostile.do(hello)
    hostile.got(answer)
    hostile.do("secrets")
    secrets = [bytes.fromhex(hostile.sees("secret ")[len("secret "):]) for _ in range(2)]
    if hello == "forged":
        secrets.pop()                  # nothing was agreed
    assert scan(hostile.program.pid, secrets) == set(secrets), "the scan finds them where they are"
    assert not scan(relay.process.pid, secrets), "the exporter, or what X25519 gave"


def test_the_scan_finds_the_marker_of_a_raw_port_s_visitor_in_the_relay(relay, agent, app, visitor, scan):
    a = app()
    running, traffic = agent(a, "--unencrypted"), Traffic()
    v = visitor.raw(running)
    traffic.add(a.accept(), v)
    with traffic:
        end = time.monotonic() + DEADLINE_S
        while MARKER not in scan(relay.process.pid, [MARKER]):
            assert time.monotonic() < end, "the relay opens what is sealed for a raw port, so the marker must be there"


def test_the_scan_finds_a_canary_in_a_page_of_the_relay_that_core_dumps_leave_out(relay, agent, app, scan):
    agent(app())
    canary = os.urandom(24)
    plant(relay.process.pid, canary)
    assert scan(relay.process.pid, [canary, os.urandom(24)]) == {canary}
