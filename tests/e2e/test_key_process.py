"""The relay's keys live in a process of their own: the relay, and whoever takes it over, has none of them."""
import base64
import json
import os
import re
import select
import signal
import ssl

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kit import tls
from kit.app import echo, read_exactly
from kit.certificate import OwnCertificate
from kit.process import TSAN, children, name_of, threads

heavy = pytest.mark.heavy              # a sanitizer's shadow memory is terabytes to scan
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


@heavy
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


@heavy
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


@heavy
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
