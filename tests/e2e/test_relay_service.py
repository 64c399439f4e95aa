"""The relay as a service: readiness, draining, certificates, the admin port, its logs."""
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest

from kit import hello, tls
from kit.app import echo, read_exactly, read_until_end
from kit.errors import expect_error
from kit.process import ADIT, DEADLINE_S, descriptors
from kit.tls import BROKEN, how_it_ends


def talk(stream, words=b"hello"):
    stream.sendall(words)
    assert read_exactly(stream, len(words)) == words


def test_sigterm_ends_an_idle_relay_with_status_0(relay):
    assert relay.process.stop() == 0


@pytest.mark.both_pumps
@pytest.mark.relay_options("--drain", "600s")
def test_sigterm_lets_live_streams_finish(relay, agent, app, visitor):
    a = app()
    running = agent(a, "--unencrypted")
    streams = [(connect(running), a.accept()) for connect in (visitor, visitor.raw)]
    relay.process.kill(signal.SIGTERM)
    running.events.wait("reconnecting")
    for v, connection in streams:
        v.sendall(b"the last request")
        assert read_exactly(connection, 16) == b"the last request"
        connection.sendall(b"the last answer")
        connection.close()
        assert read_until_end(v) == b"the last answer"
        v.shutdown(1)
    assert relay.process.wait() == 0, "it ends when the last stream has ended, long before --drain"


@pytest.mark.relay_options("--drain", "1s")
def test_sigterm_resets_what_is_not_done_by_then(relay, agent, app, visitor):
    v = visitor(agent(app(echo)))
    talk(v)
    relay.process.kill(signal.SIGTERM)
    assert how_it_ends(v) in BROKEN
    assert relay.process.wait() == 0


@pytest.mark.both_pumps
@pytest.mark.relay_options("--drain", "600s")
def test_sigterm_lets_a_handshake_finish(relay, agent, app, visitor):
    """The agent hears of it only then, since with its link go the data connections that the visitor needs."""
    running = agent(app(echo))
    v = visitor(running, version=ssl.TLSVersion.TLSv1_3, hold_finished=True)
    relay.process.kill(signal.SIGTERM)
    relay.process.err.wait(lambda line: " draining " in line)
    assert not running.events.seen("reconnecting")
    v.flush()
    running.events.wait("reconnecting")
    talk(v)
    v.half_close()
    assert relay.process.wait() == 0


@pytest.mark.relay_options("--drain", "600s")
def test_sigterm_lets_a_client_hello_of_which_a_part_is_there_arrive(relay, agent, app):
    running = agent(app(echo))
    before = relay.metric("client_hellos_total")
    message = hello.records(hello.client_hello(running.host))
    with socket.create_connection(relay.address, DEADLINE_S) as v:
        v.sendall(message[:50])
        while relay.metric("client_hellos_total") == before:
            assert not select.select([v], [], [], 0.01)[0]
        relay.process.kill(signal.SIGTERM)
        relay.process.err.wait(lambda line: " draining " in line)
        assert not select.select([v], [], [], 0.2)[0] and not running.events.seen("reconnecting")
        v.sendall(message[50:])
        assert hello.read_record(v)[0] == 22, "ServerHello; an alert would be 21"


@pytest.mark.relay_options("--drain", "600s")
def test_a_handshake_that_does_not_go_on_keeps_no_agent_from_leaving(relay, agent, app, visitor):
    running = agent(app(echo))
    stays = visitor(running)
    talk(stays)
    v = visitor(running, version=ssl.TLSVersion.TLSv1_3, hold_finished=True)
    relay.process.kill(signal.SIGTERM)
    running.events.wait("reconnecting")
    v.flush()
    assert how_it_ends(v) in BROKEN
    talk(stays, b"the old one goes on")


@pytest.mark.relay_options("--drain", "600s")
def test_a_draining_relay_accepts_nobody(relay, agent, app, visitor):
    running = agent(app(echo))
    v = visitor(running)
    talk(v)
    relay.process.kill(signal.SIGTERM)
    running.events.wait("reconnecting")
    with pytest.raises(OSError):
        hello.answer_to(relay.address, hello.records(hello.client_hello(running.host)))
        raise OSError("closed without an answer")
    talk(v, b"but the old one goes on")


class OwnCertificate:
    """An operator's own authority and a certificate for r1.test in files, as an ACME client leaves them."""

    EC = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]

    def __init__(self, box):
        self.box = box
        self.ca, self.ca_key = box.file("ca.pem"), box.file("ca.key")
        self.cert, self.key = box.file("cert.pem"), box.file("cert.key")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.ca_key, "-out", self.ca,
                      "-subj", "/CN=our authority", "-days", "30")
        self.issue()

    def _openssl(self, *args):
        subprocess.run(["openssl", *args], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def _sign(self, subject, extensions, ca, ca_key, kind, days, *options):
        """A new key and certificate in new.key and new.pem."""
        cert, key, request = self.box.file("new.pem"), self.box.file("new.key"), self.box.file("new.csr")
        self._openssl("req", "-newkey", *kind, "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={subject}")
        self._openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-out", cert, "-days", str(days),
                      "-extfile", self.box.file("extensions", extensions), *options)
        return cert, key

    def issue(self, names="DNS:r1.test,DNS:*.r1.test", rsa=False, intermediate=False, self_signed=False):
        """Puts a new key and certificate in place, each by rename. Returns the serial number."""
        kind = ["rsa:2048"] if rsa else self.EC
        chain, ca, ca_key = open(self.ca).read(), self.ca, self.ca_key       # tokens pin the authority at the end of the chain
        if intermediate:
            cert, key = self._sign("our intermediate", "basicConstraints=critical,CA:TRUE\n", ca, ca_key, self.EC, 20)
            ca, ca_key = self.box.file("between.pem"), self.box.file("between.key")
            os.rename(cert, ca)
            os.rename(key, ca_key)
            chain = open(ca).read() + chain
        serial = 1000 + int.from_bytes(os.urandom(4), "big")
        if self_signed:
            new_cert, new_key, chain = self.box.file("new.pem"), self.box.file("new.key"), ""
            self._openssl("req", "-x509", "-newkey", *kind, "-nodes", "-keyout", new_key, "-out", new_cert, "-subj", "/CN=r1.test", "-days", "20",
                          "-addext", f"subjectAltName={names}", "-set_serial", str(serial))
        else:
            new_cert, new_key = self._sign("r1.test", f"subjectAltName={names}\n", ca, ca_key, kind, 20, "-set_serial", str(serial))
        with open(new_cert, "a") as file:
            file.write(chain)
        os.rename(new_key, self.key)
        os.rename(new_cert, self.cert)
        return serial


@pytest.fixture
def own(box):
    return OwnCertificate(box)


@pytest.fixture
def relay_with_own(own, start_relay):
    return start_relay(options=["--cert", own.cert, "--key", own.key])


@pytest.fixture
def unpinned(own, start_relay, box):
    """A relay whose chain does not bring its authority, as public ones do not: its tokens have no pin."""
    box.file("cert.pem", open(own.cert).read().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    return start_relay(options=["--cert", own.cert, "--key", own.key])


PLACES_OF_AUTHORITIES = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                         "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"]


def on_another_distribution(ca, place):
    """Runs a program where /etc holds that file of authorities and nothing else."""
    script = 'mount -t tmpfs none /etc && mkdir -p "${1%/*}" && cp "$0" "$1" && shift && exec "$@"'
    return ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script, ca, place]


def serial(visitor, tunnel, own):
    v = visitor(tunnel, context=tls.context(own.ca))
    talk(v)
    return int(v.tls.getpeercert()["serialNumber"], 16)


def presented(relay, name, *options):
    """The subjects of the certificates that a relay sends for a name, in its order."""
    done = subprocess.run(["openssl", "s_client", "-connect", relay.dial, "-servername", name, "-showcerts", *options],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=DEADLINE_S)
    return re.findall(r"^ *\d+ s:.*CN = (.*)", done.stdout, re.MULTILINE)


class TestChain:
    """A trust anchor that comes with the chain proves nothing, and some clients fail at the relay's name-constrained one."""

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_visitors_get_the_relays_own_certificate_alone(self, relay, agent, app, version):
        assert presented(relay, agent(app(echo)).host, version) == ["r1.test"]

    def test_control_links_get_the_authority_which_is_pinned(self, relay):
        leaf, authority = presented(relay, "r1.test", "-alpn", "adit/1")
        assert leaf == "r1.test" and authority.startswith("adit authority")

    def test_of_an_operators_chain_visitors_get_all_but_the_root(self, own, start_relay, agent, app, visitor):
        own.issue(intermediate=True)
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        tunnel = agent(app(echo), relay=relay)
        assert presented(relay, tunnel.host) == ["r1.test", "our intermediate"]
        assert presented(relay, "r1.test", "-alpn", "adit/1") == ["r1.test", "our intermediate", "our authority"]
        assert serial(visitor, tunnel, own)

    def test_a_certificate_that_is_its_own_authority_is_sent(self, own, start_relay, agent, app):
        own.issue(self_signed=True)
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        assert presented(relay, agent(app(echo), relay=relay).host) == ["r1.test"]


class TestOwnCertificate:
    def test_it_is_what_visitors_see(self, relay_with_own, own, agent, app, visitor, box):
        tunnel = agent(app(echo), relay=relay_with_own)
        want = box.run("openssl", "x509", "-in", own.cert, "-noout", "-serial").stdout.strip().split("=")[1]
        assert serial(visitor, tunnel, own) == int(want, 16)

    def test_without_a_pin_the_agent_verifies_by_ca(self, unpinned, own, agent, app, visitor, box):
        expect_error(box.adit("forward", "8000", env={"ADIT_TOKEN": unpinned.token()}), 1, "certificate")
        assert serial(visitor, agent(app(echo), "--ca", own.ca, relay=unpinned), own)

    @pytest.mark.parametrize("place", PLACES_OF_AUTHORITIES)
    def test_without_a_pin_the_authorities_of_any_distribution_are_found(self, unpinned, own, agent, app, visitor, place):
        assert serial(visitor, agent(app(echo), relay=unpinned, prefix=on_another_distribution(own.ca, place)), own)

    def test_a_machine_without_authorities_is_told_of(self, unpinned, own, box):
        done = box.run(*on_another_distribution(own.ca, "/etc/elsewhere.pem"), ADIT, "forward", "8000", env={"ADIT_TOKEN": unpinned.token()})
        expect_error(done, 1, "ca-certificates")

    def test_an_rsa_certificate_serves_too(self, own, start_relay, agent, app, visitor):
        own.issue(rsa=True)
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        assert serial(visitor, agent(app(echo), relay=relay), own)

    @pytest.mark.parametrize("how", ["SIGHUP", "files"])
    def test_a_new_one_is_taken_and_no_connection_dropped(self, relay_with_own, own, agent, app, visitor, how):
        relay = relay_with_own
        tunnel = agent(app(echo), relay=relay)
        v = visitor(tunnel, context=tls.context(own.ca))
        talk(v)
        new = own.issue()
        if how == "SIGHUP":
            relay.process.kill(signal.SIGHUP)
        relay.process.err.wait(lambda line: "cert" in line.lower() and "reload" in line.lower())
        assert serial(visitor, tunnel, own) == new
        talk(v, b"not dropped")
        assert not tunnel.events.seen("reconnecting")

    @pytest.mark.parametrize("bad", ["garbage", "other-names", "key-of-another"])
    def test_a_bad_one_is_refused_and_the_old_one_stays(self, relay_with_own, own, agent, app, visitor, bad, box):
        relay = relay_with_own
        tunnel = agent(app(echo), relay=relay)
        old = serial(visitor, tunnel, own)
        if bad == "garbage":
            box.file("cert.pem", "garbage\n")
        elif bad == "other-names":
            own.issue(names="DNS:example.com")
        else:
            key = open(own.key).read()
            own.issue()
            box.file("cert.key", key)
        seen = len(relay.process.err.lines)
        relay.process.kill(signal.SIGHUP)
        relay.process.err.wait(lambda line: "cert" in line.lower() and ("refus" in line.lower() or "kept" in line.lower() or "fail" in line.lower()))
        assert serial(visitor, tunnel, own) == old and len(relay.process.err.lines) > seen

    @pytest.mark.parametrize("names", ["DNS:r1.test", "DNS:*.r1.test", "DNS:example.com,DNS:*.example.com"])
    def test_it_must_cover_the_domain_and_its_wildcard(self, own, box, names):
        own.issue(names=names)
        done = box.adit("relay", "--domain", "r1.test", "--listen", "127.0.0.1:0", "--state", box.file("s"), "--cert", own.cert, "--key", own.key)
        expect_error(done, 1, "r1.test")

    def test_h2_wants_the_operators_consent(self, own, start_relay, agent, app, visitor, box):
        relay = start_relay(options=["--cert", own.cert, "--key", own.key])
        done = box.adit("forward", "8000", "--h2", env={"ADIT_TOKEN": relay.token()})
        expect_error(done, 1, "h2")
        consenting = start_relay(options=["--cert", own.cert, "--key", own.key, "--h2-shared-name"])
        tunnel = agent(app(echo), "--h2", relay=consenting)
        assert visitor(tunnel, context=tls.context(own.ca, alpn=["h2"])).tls.selected_alpn_protocol() == "h2"


class TestAdmin:
    def test_healthz(self, relay):
        assert relay.get("/healthz").strip().lower().startswith("ok")

    def test_metrics_count_what_happens(self, relay, agent, app, visitor):
        tunnel = agent(app(echo), "--unencrypted")
        streams = [visitor(tunnel, version=ssl.TLSVersion.TLSv1_3), visitor(tunnel, version=ssl.TLSVersion.TLSv1_2), visitor.raw(tunnel)]
        for v in streams:
            talk(v, b"x" * 1000)
        for host, alpn in (("nobody.r1.test", ()), (tunnel.host, ["h2"])):
            hello.answer_to(relay.address, hello.records(hello.client_hello(host, alpn=alpn)))
        for name, value in {"tunnels_now": 1, "links_now": 1, "streams_now": 3, "streams_total": 3, "handshakes_handed_off_total": 1,
                            "handshakes_terminated_total": 1, "handshakes_unknown_name_total": 1, "handshakes_no_alpn_total": 1, "handshakes_failed_total": 0,
                            "raw_visitors_total": 1}.items():
            assert relay.metric(name) == value, name
        assert relay.metric("bytes_to_visitors_total") >= 3000 and relay.metric("bytes_from_visitors_total") >= 3000

    def test_metrics_are_prometheus_text(self, relay):
        for line in relay.get("/metrics").splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                float(value)
                assert name.startswith("adit_"), name

    def test_status_is_json_with_its_tunnels(self, relay, agent, app):
        tunnel = agent(app(echo))
        status = json.loads(relay.get("/status"))
        assert tunnel.host in json.dumps(status) and relay.domain in json.dumps(status)
        told, = status["tunnels"]
        assert told["host"] == tunnel.host and told["agent"].startswith("adit/")
        host, port = told["agent_address"].rsplit(":", 1)
        assert host == "127.0.0.1" and int(port) not in (0, relay.port)

    def test_the_status_command_shows_the_same(self, relay, agent, app, box):
        tunnel = agent(app(echo))
        done = box.adit("status", "--admin", f"127.0.0.1:{relay.admin}", "--json")
        assert done.returncode == 0 and tunnel.host in json.dumps(json.loads(done.stdout))
        done = box.adit("status", "--admin", f"127.0.0.1:{relay.admin}")
        assert done.returncode == 0 and tunnel.host in done.stdout

    @pytest.mark.parametrize("address,warns", [("127.0.0.1", False), ("[::1]", False), ("0.0.0.0", True), ("[::]", True)])
    def test_a_warning_tells_when_it_is_not_on_loopback(self, start_relay, address, warns):
        relay = start_relay(options=["--admin", f"{address}:0"])
        assert relay.process.stop() == 0
        told = [line for line in relay.process.err.lines if "/metrics and /status have no password" in line]
        assert len(told) == warns and all(" warn " in line and address in line and "listen on 127.0.0.1" in line for line in told)

    def test_other_paths_and_methods_are_refused(self, relay):
        with pytest.raises(urllib.error.HTTPError) as e:
            relay.get("/etc/passwd")
        assert e.value.code == 404
        with pytest.raises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(f"http://127.0.0.1:{relay.admin}/status", data=b"x", timeout=DEADLINE_S)
        assert e.value.code in (404, 405, 501)


def test_one_line_is_logged_for_each_tunnel_opened_and_closed(relay, agent, app, visitor):
    running = agent(app(echo))
    label = running.host[:8]              # the whole label is what lets a visitor in
    talk(visitor(running))
    running.process.stop()
    relay.process.stop()
    lines = [line for line in relay.process.err.lines if label in line]
    assert len(lines) == 2 and "open" in lines[0] and "clos" in lines[1], lines
    assert not any("127.0.0.1" in line and "visitor" in line for line in relay.process.err.lines), "visitors are at debug level"


@pytest.mark.relay_options("--workers", "4")
def test_the_cap_per_source_holds_for_all_workers_together(relay, box):
    cap, more = 512, 50
    poll = select.poll()
    for _ in range(cap + more):
        idle = socket.create_connection(relay.address, DEADLINE_S)
        box.closers.append(idle.close)
        poll.register(idle, select.POLLIN)
    refused = set()
    while len(refused) < more:
        ready = poll.poll(DEADLINE_S * 1000)
        assert ready, "those above the cap are not closed"
        refused |= {fd for fd, _ in ready}
    assert relay.metric("handshakes_over_cap_total") == more


def test_a_refusal_leaves_no_descriptor_behind(relay, agent, app):
    agent(app(echo))
    hello.answer_to(relay.address, b"x")
    before = descriptors(relay.process.pid)
    for _ in range(100):
        hello.answer_to(relay.address, b"GET / HTTP/1.0\r\n\r\n")
        hello.answer_to(relay.address, hello.records(hello.client_hello("nobody.r1.test")))
    assert descriptors(relay.process.pid) <= before + 4


def test_the_relay_warns_when_its_name_does_not_lead_back(start_relay):
    relay = start_relay(domain="r1.invalid")
    relay.process.err.wait(lambda line: "r1.invalid" in line and "warn" in line.lower())


def test_the_relay_warns_when_the_domain_of_its_state_folder_has_changed(start_relay):
    relay = start_relay()
    relay.process.stop()
    assert "domain_changed" not in relay.process.err.text()
    relay.domain = "r2.test"
    relay.restart()
    line = relay.process.err.wait(lambda line: "domain_changed" in line)
    assert " warn " in line and "from=r1.test" in line and "to=r2.test" in line and "make new tokens" in line
