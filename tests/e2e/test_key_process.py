"""The relay's keys live in a process of their own: the relay, and whoever takes it over, has none of them."""
import base64
import concurrent.futures
import contextlib
import json
import os
import re
import select
import signal
import socket
import ssl
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kit import hello, tls
from kit.app import echo, read_exactly, reset
from kit.certificate import OwnCertificate
from kit.frames import BIND, BOUND, WELCOME, bind
from kit.hostile import HostileAgent
from kit.process import DEADLINE_S, TSAN, children, freeze, name_of, threads, wait_until

unsanitized = pytest.mark.unsanitized           # a sanitizer's shadow memory is terabytes to scan
KINDS = {"RSA": {"rsa_key": True}, "P-256": {}, "P-384": {"curve": ec.SECP384R1}}


def numbers_of(key):
    """The secret numbers of a private key."""
    numbers = key.private_numbers()
    if hasattr(numbers, "private_value"):
        return [numbers.private_value]
    return [numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp]


def forms_of(key):
    """What of it could stand in memory: its numbers as the wire and as OpenSSL has them, the text of its file."""
    found = set()
    for number in numbers_of(key):
        n = (number.bit_length() + 7) // 8
        found |= {number.to_bytes(n, "big")[:32], number.to_bytes(n, "little")[:32]}
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                            serialization.NoEncryption()).split(b"\n")
    return list(found | {line for line in pem[1:-2] if len(line) == 64})


def key_process(relay):
    found = [pid for pid in children(relay.process.pid) if name_of(pid) == "adit-keys"]
    assert len(found) == 1
    return int(found[0])


def answers(visitor, tunnel, ca):
    v = visitor(tunnel, context=tls.context(ca))
    v.sendall(b"hello")
    assert read_exactly(v, 5) == b"hello"
    return int(v.tls.getpeercert()["serialNumber"], 16)


def assert_only_the_key_process_has(scan, relay, key):
    forms = forms_of(key)
    assert scan(key_process(relay), forms), "the scan finds no key where it is"
    assert not scan(relay.process.pid, forms)


@unsanitized
@pytest.mark.parametrize("kind", KINDS)
def test_the_relay_has_no_private_key_before_and_after_a_reload(box, start_relay, agent, app, visitor, scan, kind):
    own = OwnCertificate(box)
    own.issue(**KINDS[kind])
    relay = start_relay(options=["--cert", own.cert, "--key", own.key])
    tunnel = agent(app(echo), relay=relay)
    before = answers(visitor, tunnel, own.ca)
    assert_only_the_key_process_has(scan, relay, own.leaf.key)
    old, serial = own.leaf.key, own.issue(**KINDS[kind])
    relay.process.kill(signal.SIGHUP)
    relay.process.err.wait(lambda line: " certificate_reloaded" in line)
    assert answers(visitor, tunnel, own.ca) == serial != before
    assert_only_the_key_process_has(scan, relay, own.leaf.key)
    assert not scan(relay.process.pid, forms_of(old))


@unsanitized
def test_the_relay_has_no_key_of_its_authority_of_its_operator_and_of_tickets(relay, agent, app, visitor, scan):
    answers(visitor, agent(app(echo)), relay.authority)

    def text(name):
        return open(os.path.join(relay.state, name)).read()
    authority = serialization.load_pem_private_key(text("authority.key").split("adit-checksum")[0].encode(), None)
    assert_only_the_key_process_has(scan, relay, authority)
    for name in ("operator.key", "ticket.key"):
        word = re.search(r"[\w-]{43}", text(name)).group()
        raw = base64.urlsafe_b64decode(word + "=")
        assert not scan(relay.process.pid, [raw, word.encode()]), name
        assert name == "operator.key" or scan(key_process(relay), [raw])


@unsanitized
def test_a_certificate_for_an_exact_name_has_its_key_there_too(start_relay, agent, app, visitor):
    relay = start_relay()
    tunnel = agent(app(echo), "--h2", relay=relay)
    context = tls.context(relay.authority)
    context.set_alpn_protocols(["h2"])
    v = visitor(tunnel, context=context)
    assert v.tls.selected_alpn_protocol() == "h2"
    assert v.tls.getpeercert()["subjectAltName"] == (("DNS", tunnel.host),)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", KINDS)
def test_visitors_of_either_tls_are_served_under_every_kind_of_key(box, start_relay, agent, app, visitor, kind,
                                                                  version):
    own = OwnCertificate(box)
    own.issue(**KINDS[kind])
    relay = start_relay(options=["--cert", own.cert, "--key", own.key])
    tunnel, context = agent(app(echo), relay=relay), tls.context(own.ca)
    context.minimum_version = context.maximum_version = version
    v = visitor(tunnel, context=context)
    v.sendall(b"hello")
    assert read_exactly(v, 5) == b"hello"


@pytest.mark.parametrize("algorithms", ["RSA+SHA256", "RSA-PSS+SHA384", "RSA-PSS+SHA512"])
def test_an_rsa_key_signs_as_the_visitor_asks(box, start_relay, agent, app, algorithms):
    own = OwnCertificate(box)
    own.issue(rsa_key=True)
    relay = start_relay(options=["--cert", own.cert, "--key", own.key])
    tunnel = agent(app(echo), relay=relay)
    done = box.run("openssl", "s_client", "-connect", relay.dial, "-servername",
                   tunnel.url.split("/")[2].split(":")[0], "-sigalgs", algorithms, "-tls1_2", "-CAfile", own.ca,
                   "-verify_return_error", input="Q\n")
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr


def test_the_relay_ends_when_its_key_process_does_and_says_why(relay):
    os.kill(key_process(relay), signal.SIGKILL)
    assert relay.process.wait() == 1
    assert "its key process has ended, and so it ends" in relay.process.err.text()


def test_the_relay_ends_when_its_key_process_answers_nothing_and_says_why(box, relay):
    """A tunnel wants a ticket, for which its worker waits."""
    hostile = HostileAgent(box, relay.create_token("agent"))
    hostile.log_in()
    hostile.got(WELCOME)
    hostile.do("frame", BIND, bind(1))
    hostile.got(BOUND)
    keys = key_process(relay)
    freeze(keys)
    fd = os.pidfd_open(keys)
    try:
        hostile.tell("frame", BIND, bind(2))
        assert relay.process.popen.wait(DEADLINE_S) == 1
    finally:
        os.kill(keys, signal.SIGCONT)
    assert select.select([fd], [], [], DEADLINE_S)[0]
    os.close(fd)
    assert relay.process.wait() == 1
    assert "its key process does not answer, and so it ends" in relay.process.err.text()


def test_the_key_process_ends_with_the_relay_however_that_ends(relay):
    fd = os.pidfd_open(key_process(relay))
    relay.process.kill(signal.SIGKILL)
    assert select.select([fd], [], [], 20)[0]
    os.close(fd)


def test_signals_to_all_of_a_service_leave_the_draining_relay_its_keys(relay, agent, app, visitor):
    """As systemd sends them, and a terminal."""
    v = visitor(agent(app(echo)))
    keys = key_process(relay)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(keys, number)
    v.sendall(b"hello")
    assert read_exactly(v, 5) == b"hello"
    visitor(agent(app(echo)))


@pytest.mark.skipif(TSAN, reason="a thread of the sanitizer's is there before rights are given up")
def test_the_key_process_has_nothing_but_its_pipes_its_files_and_standard_error(relay):
    keys = key_process(relay)
    kinds = [os.readlink(f"/proc/{keys}/fd/{fd}") for fd in os.listdir(f"/proc/{keys}/fd") if int(fd) > 2]
    inside = os.path.realpath(relay.state)
    ours = [k for k in kinds if not k.startswith("socket:")]
    assert all(k.startswith(inside) for k in ours), ours
    with open(f"/proc/{keys}/net/unix") as f:
        inodes = {line.split()[6] for line in f.readlines()[1:]}
    assert all(k[8:-1] in inodes for k in kinds if k.startswith("socket:"))
    for status in threads(keys):
        assert int(status["CapPrm"], 16) == 0 and status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2" or "without libseccomp" in relay.process.err.text()


def test_the_status_tells_of_the_key_process(relay):
    told = json.loads(relay.get("/status"))["rights"]["key_process"]
    assert told.startswith("yes")


@contextlib.contextmanager
def signing_nothing(relay):
    """Its key process stands still."""
    pid = key_process(relay)
    freeze(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def say_hello(relay, tunnel):
    """The beginning of a handshake."""
    begun = relay.metric("handshakes_started_total")
    sock = socket.create_connection(relay.address, DEADLINE_S)
    sock.sendall(hello.records(hello.client_hello(tunnel.host)))
    wait_until(lambda: relay.metric("handshakes_started_total") == begun + 1, "the handshake does not begin")
    return sock


def talk(v):
    v.sendall(b"hello")
    assert read_exactly(v, 5) == b"hello"


@pytest.mark.relay_options("--workers", "1")
def test_streams_and_raw_visitors_go_on_while_a_signature_takes_long(relay, agent, app, visitor):
    tunnel = agent(app(echo), "--unencrypted", relay=relay)
    v = visitor(tunnel)
    talk(v)
    with signing_nothing(relay), concurrent.futures.ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(visitor, tunnel) for _ in range(40)]      # more than are asked for at a time
        wait_until(lambda: relay.metric("handshakes_now") >= 16, "the handshakes do not begin")
        longest_s = 0
        for _ in range(200):
            begin = time.monotonic()
            talk(v)
            longest_s = max(longest_s, time.monotonic() - begin)
        assert longest_s < 1
        talk(visitor.raw(tunnel))
        assert not any(w.done() for w in waiting)
        os.kill(key_process(relay), signal.SIGCONT)
        for w in waiting:
            talk(w.result())
    assert relay.metric("signatures_late_total") == relay.metric("handshakes_failed_total") == 0


@pytest.mark.relay_options("--workers", "1")
def test_who_is_not_signed_for_in_time_is_refused_and_counted(relay, agent, app, visitor):
    tunnel = agent(app(echo), relay=relay)
    v = visitor(tunnel)
    with signing_nothing(relay):
        first = say_hello(relay, tunnel)
        assert hello.alert_in(first.recv(4096)) == hello.fatal(hello.INTERNAL_ERROR)
        begin = time.monotonic()
        second = say_hello(relay, tunnel)
        assert hello.alert_in(second.recv(4096)) == hello.fatal(hello.INTERNAL_ERROR)
        assert time.monotonic() - begin < 2, "others wait as long, though it is known that it signs nothing"
        talk(v)
        assert relay.metric("signatures_late_total") == relay.metric("handshakes_failed_total") == 2
        assert relay.process.err.text().count(" signature_late ") == 1

    def serves_again():
        with contextlib.suppress(ssl.SSLError):
            talk(visitor(tunnel))
            return True
    wait_until(serves_again, "the answer that was late is not taken")


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["closes", "resets"])
def test_a_visitor_who_leaves_amid_a_signature_is_forgotten(relay, agent, app, visitor, leave):
    tunnel = agent(app(echo), relay=relay)
    with signing_nothing(relay):
        leaving = say_hello(relay, tunnel)
        assert relay.metric("handshakes_now") == 1
        leave(leaving)
        wait_until(lambda: relay.metric("handshakes_now") == 0, "it is waited for")
    talk(visitor(tunnel))


def test_a_relay_that_ends_at_once_leaves_no_handshake_that_waits(relay, agent, app):
    """Of visitors, and of agents' links and data connections."""
    tunnel = agent(app(echo), relay=relay)
    hellos = [hello.client_hello(tunnel.host), hello.client_hello("r1.test", ["adit/1"]),
              hello.client_hello("r1.test", ["adit-data/1"])]
    begun = ["handshakes_now", "link_handshakes_now", "data_handshakes_now"]
    with signing_nothing(relay), contextlib.ExitStack() as open_here:
        for message, now in zip(hellos, begun):
            sock = open_here.enter_context(socket.create_connection(relay.address, DEADLINE_S))
            sock.sendall(hello.records(message))
            wait_until(lambda name=now: relay.metric(name) == 1, "the handshake does not begin")
        relay.process.kill(signal.SIGTERM)
        relay.process.err.wait(lambda line: " draining " in line)
        relay.process.kill(signal.SIGTERM)
        assert relay.process.popen.wait(DEADLINE_S) == 0


def test_who_waits_for_a_signature_through_an_upgrade_gets_through(relay, agent, app, visitor):
    tunnel = agent(app(echo), relay=relay)
    begun = relay.metric("handshakes_started_total")
    with signing_nothing(relay), concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(visitor, tunnel)
        wait_until(lambda: relay.metric("handshakes_started_total") == begun + 1, "the handshake does not begin")
        keys = key_process(relay)
        before = relay.upgrade()
        talk(visitor(tunnel))
        assert not waiting.done()
        os.kill(keys, signal.SIGCONT)
        v = waiting.result()
        talk(v)
    wait_until(lambda: not before.running, "the old process does not end")
    talk(v)
