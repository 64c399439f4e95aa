"""Who gets through the public port: names, ALPN, and everything that is no visitor."""
import os
import signal
import ssl

import pytest

from kit import hello
from kit.app import echo, read_exactly


def refusal(relay, name, alpn=()):
    return hello.answer_to(relay.address, hello.records(hello.client_hello(name, alpn=alpn)))


def test_labels_are_random_and_lower_case(relay, agent, app):
    """At least 96 bits in base32 are twenty characters; none is ever given twice."""
    tunnels = agent([app(echo) for _ in range(20)]).tunnels
    labels = [t.host.split(".")[0] for t in tunnels]
    assert len(set(labels)) == 20
    for label in labels:
        assert len(label) >= 20 and label == label.lower() and label.isalnum() and label.isascii()
    assert all(t.host == f"{label}.r1.test" for t, label in zip(tunnels, labels))


def test_every_name_without_a_tunnel_gets_the_same_answer(relay, agent, app):
    """Unknown, closed and malformed names cannot be told apart, and there is no default tunnel."""
    closed = agent(app(echo))
    assert closed.process.stop() == 0
    live = agent(app(echo))
    label = live.host.split(".")[0]
    names = {
        "unknown": "a" * len(label) + ".r1.test", "closed": closed.host, "none": None, "relay's own": "r1.test",
        "other domain": label + ".example.com",
        "bare label": label, "extra label": "x." + live.host, "address": "127.0.0.1",
        "NUL": label.encode() + b"\x00.r1.test",
        "comma": label + ",.r1.test", "short": "abc.r1.test", "long": "a" * 63 + ".r1.test", "dot": ".r1.test",
        "newline": "a\n" + live.host,
        "prefix": label[:-1] + ".r1.test", "wildcard": "*.r1.test",
    }
    answers = {what: refusal(relay, name) for what, name in names.items()}
    assert set(answers.values()) == {answers["unknown"]}, answers
    assert hello.alert_in(answers["unknown"]) == hello.fatal(hello.UNRECOGNIZED_NAME)


def test_a_name_is_compared_without_regard_to_case(relay, agent, app, visitor):
    """RFC 6066 section 3, RFC 4343."""
    tunnel = agent(app(echo))
    v = visitor.connect(relay.address)
    v.sendall(hello.records(hello.client_hello(tunnel.host.upper())))
    assert hello.read_record(v)[1][0] == 2


def test_a_closed_tunnel_is_gone_at_once(relay, agent, app, visitor):
    tunnel = agent(app(echo))
    visitor(tunnel).close()
    tunnel.process.stop()
    assert hello.alert_in(refusal(relay, tunnel.host)) == hello.fatal(hello.UNRECOGNIZED_NAME)


@pytest.mark.parametrize("offer,chosen",
                         [(None, None), (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"),
                          (["x", "y", "http/1.1"], "http/1.1")])
def test_the_default_alpn_is_http_1_1(relay, agent, app, visitor, offer, chosen):
    v = visitor(agent(app(echo)), alpn=offer)
    assert v.tls.selected_alpn_protocol() == chosen
    v.sendall(b"hi")
    assert read_exactly(v, 2) == b"hi"


@pytest.mark.parametrize("offer", [["h2"], ["x"], ["acme-tls/1"]])
def test_no_overlap_of_alpn_is_no_application_protocol(relay, agent, app, offer):
    tunnel = agent(app(echo))
    assert hello.alert_in(refusal(relay, tunnel.host, offer)) == hello.fatal(hello.NO_APPLICATION_PROTOCOL)


def test_an_alpn_list_of_ones_own(relay, agent, app, visitor):
    tunnel = agent(app(echo), "--alpn", "my-proto,http/1.1")
    assert visitor(tunnel, alpn=["my-proto"]).tls.selected_alpn_protocol() == "my-proto"
    assert visitor(tunnel, alpn=["http/1.1"]).tls.selected_alpn_protocol() == "http/1.1"
    assert hello.alert_in(refusal(relay, tunnel.host, ["h2"])) == hello.fatal(hello.NO_APPLICATION_PROTOCOL)


def test_h2_is_offered_under_a_certificate_of_the_exact_name(relay, agent, app, visitor):
    """Under a wildcard a browser would send one tunnel's requests over another's connection."""
    tunnel = agent(app(echo), "--h2")
    v = visitor(tunnel, alpn=["h2", "http/1.1"])
    assert v.tls.selected_alpn_protocol() == "h2"
    names = [value for kind, value in v.tls.getpeercert()["subjectAltName"]]
    assert names == [tunnel.host]
    v.sendall(b"hi")
    assert read_exactly(v, 2) == b"hi"


def test_a_renewed_certificate_is_that_of_tunnels_that_stand(relay, agent, app, visitor):
    """A tunnel may be open for longer than a certificate lives."""
    tunnels = [agent(app(echo), "--h2"), agent(app(echo))]
    serials = lambda: [visitor(tunnel).tls.getpeercert()["serialNumber"] for tunnel in tunnels]
    before = serials()
    assert serials() == before, "they are not made for each visitor"
    relay.process.kill(signal.SIGHUP)
    relay.process.err.wait(lambda line: "certificate_reloaded" in line)
    assert not set(serials()) & set(before)


def test_the_certificate_of_other_tunnels_is_the_wildcard(relay, agent, app, visitor):
    v = visitor(agent(app(echo)))
    assert "*.r1.test" in [value for kind, value in v.tls.getpeercert()["subjectAltName"]]


@pytest.mark.parametrize("protocol", ["acme-tls/1", "adit/1", "adit-data/1"])
def test_an_agent_cannot_ask_for_reserved_protocols(relay, box, protocol):
    done = box.adit("forward", "8000", "--alpn", protocol, env={"ADIT_TOKEN": relay.token()})
    assert done.returncode == 2 and protocol in done.stderr, done.stderr


@pytest.mark.parametrize("name,alpn",
                         [("r1.test", ["http/1.1"]), ("r1.test", ()), (None, ["adit/1"]), ("LABEL", ["adit/1"]),
                          ("LABEL", ["adit-data/1"])])
def test_a_control_link_wants_the_relays_name_and_its_alpn(relay, agent, app, name, alpn):
    tunnel = agent(app(echo))
    answer = refusal(relay, tunnel.host if name == "LABEL" else name, alpn)
    assert hello.alert_in(answer)[0] == 2


@pytest.mark.parametrize("first",
                         [b"GET / HTTP/1.1\r\nHost: r1.test\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\r\n\r\n",
                          b"\x00" * 64, b"\xff" * 64,
                                   b"\x80\x2e\x01\x03\x01" + bytes(41)],
                                   ids=["http", "ssh", "crlf", "zeros", "ones", "sslv2"])
def test_what_is_no_tls_is_closed_at_once(relay, visitor, first):
    assert hello.answer_to(relay.address, first) == b""


def test_random_bytes_are_closed_at_once(relay, visitor):
    for first in set(range(256)) - {0x16, 0xad}:
        assert hello.answer_to(relay.address, bytes([first]) + os.urandom(100)) == b""


def test_a_data_connection_of_an_unknown_link_is_closed(relay, visitor):
    assert hello.answer_to(relay.address, b"\xad" + os.urandom(44)) == b""
    assert hello.answer_to(relay.address, b"\xad" + b"x" * 5000) == b""


@pytest.mark.parametrize("message", [
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b"\x16\x03\x01\x00\x00",
    b"\x16\x09\x09\x00\x10" + bytes(16),
    b"\x16\x03\x01\xff\xff" + bytes(100)], ids=["truncated", "server-hello", "empty", "version", "oversized"])
def test_a_malformed_client_hello_gets_an_alert_and_the_end(relay, visitor, message):
    answer = hello.answer_to(relay.address, message)
    assert answer == b"" or hello.alert_in(answer)[0] == 2


def test_a_duplicated_extension_is_refused(relay, agent, app):
    """RFC 8446 section 4.2."""
    tunnel = agent(app(echo))
    for more in (hello.sni(tunnel.host), 2 * hello.extension(0xfafa, b"nobody knows it")):
        message = hello.client_hello(tunnel.host, more=more)
        assert hello.alert_in(hello.answer_to(relay.address,
                                              hello.records(message))) == hello.fatal(hello.ILLEGAL_PARAMETER)


def test_refusals_leave_other_tunnels_alone(relay, agent, app, visitor):
    tunnel = agent(app(echo))
    v = visitor(tunnel)
    for _ in range(50):
        refusal(relay, "nobody.r1.test")
        hello.answer_to(relay.address, b"GET / HTTP/1.0\r\n\r\n")
    v.sendall(b"still here")
    assert read_exactly(v, 10) == b"still here"


def test_a_visitor_with_a_name_of_another_relay_is_not_served(start_relay, agent, app, visitor):
    first, second = start_relay(domain="r1.test"), start_relay(domain="r2.test")
    tunnel = agent(app(echo), relay=first)
    assert hello.alert_in(refusal(second, tunnel.host)) == hello.fatal(hello.UNRECOGNIZED_NAME)


def test_the_authority_is_constrained_to_the_domain(relay, box):
    done = box.run("openssl", "x509", "-in", relay.authority, "-noout", "-ext", "nameConstraints,basicConstraints")
    assert "critical" in done.stdout and "DNS:r1.test" in done.stdout and "CA:TRUE" in done.stdout


def test_a_visitor_cannot_verify_under_another_name(relay, agent, app, visitor):
    tunnel = agent(app(echo))
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        visitor(tunnel, host="other.example.com")
