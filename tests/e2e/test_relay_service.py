"""The relay as a service: readiness, draining, the admin port, its logs."""
import json
import select
import signal
import socket
import ssl
import urllib.error
import urllib.request

import pytest

from kit import hello
from kit.app import echo, read_exactly, read_until_end
from kit.process import DEADLINE_S, descriptors, wait_until
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


@pytest.mark.both_pumps
@pytest.mark.relay_options("--drain", "600s")
def test_sigterm_lets_the_agent_hear_of_its_last_visitors(relay, agent, app, visitor):
    """One that is slow would hear of the link's end first, and drop the data connections on which they are told to
    it."""
    running = agent(app(echo))
    talk(visitor(running))
    running.process.freeze()
    last = [visitor(running) for _ in range(2)]
    relay.process.kill(signal.SIGTERM)
    relay.process.err.wait(lambda line: " draining " in line)
    with pytest.raises(AssertionError, match="deadline"):
        relay.process.err.wait(lambda line: " link_ended " in line, seconds=0.3)
    running.process.kill(signal.SIGCONT)
    running.events.wait("reconnecting")
    for v in last:
        talk(v)


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


class TestAdmin:
    def test_healthz(self, relay):
        assert relay.get("/healthz").strip().lower().startswith("ok")

    def test_metrics_count_what_happens(self, relay, agent, app, visitor):
        tunnel = agent(app(echo), "--unencrypted")
        streams = [visitor(tunnel, version=ssl.TLSVersion.TLSv1_3), visitor(tunnel, version=ssl.TLSVersion.TLSv1_2),
                   visitor.raw(tunnel)]
        for v in streams:
            talk(v, b"x" * 1000)
        for host, alpn in (("nobody.r1.test", ()), (tunnel.host, ["h2"])):
            hello.answer_to(relay.address, hello.records(hello.client_hello(host, alpn=alpn)))
        for name, value in {"tunnels_now": 1, "links_now": 1, "streams_now": 3, "streams_total": 3,
                            "handshakes_handed_off_total": 2,
                            "handshakes_unknown_name_total": 1, "handshakes_no_alpn_total": 1,
                            "handshakes_failed_total": 0,
                            "raw_visitors_total": 1}.items():
            assert relay.metric(name) == value, name
        for name in ("bytes_to_visitors_total", "bytes_from_visitors_total"):       # what has arrived is counted then
            wait_until(lambda name=name: relay.metric(name) >= 3000, name)

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

    @pytest.mark.parametrize("address,warns",
                             [("127.0.0.1", False), ("[::1]", False), ("0.0.0.0", True), ("[::]", True)])
    def test_a_warning_tells_when_it_is_not_on_loopback(self, start_relay, address, warns):
        relay = start_relay(options=["--admin", f"{address}:0"])
        assert relay.process.stop() == 0
        told = [line for line in relay.process.err.lines if "/metrics and /status have no password" in line]
        assert len(told) == warns and all(" warn " in line and address in line and "listen on 127.0.0.1" in line
                                          for line in told)

    @pytest.mark.parametrize("path", ["/healthz", "/metrics", "/status"])
    def test_probes_may_ask_by_head_and_by_options(self, relay, box, path):
        def ask(*options):
            done = box.run("curl", "-sS", "--max-time", DEADLINE_S, *options, f"http://127.0.0.1:{relay.admin}{path}")
            assert done.returncode == 0, done.stderr
            return done.stdout
        assert ask("--head").startswith("HTTP/1.1 200 ")
        options = ask("--include", "--request", "OPTIONS")
        assert options.startswith("HTTP/1.1 204 ") and "Allow: GET, HEAD, OPTIONS\n" in options
        assert ask("--output", "/dev/null", "--write-out", "%{http_code}", "--request", "DELETE") == "405"

    def test_other_paths_and_methods_are_refused(self, relay):
        with pytest.raises(urllib.error.HTTPError) as e:
            relay.get("/etc/passwd")
        assert e.value.code == 404
        with pytest.raises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(f"http://127.0.0.1:{relay.admin}/status", data=b"x", timeout=DEADLINE_S)
        assert e.value.code == 405


def test_one_line_is_logged_for_each_tunnel_opened_and_closed(relay, agent, app, visitor):
    running = agent(app(echo))
    label = running.host[:8]              # the whole label is what lets a visitor in
    talk(visitor(running))
    running.process.stop()
    relay.process.stop()
    lines = [line for line in relay.process.err.lines if label in line]
    assert len(lines) == 2 and "open" in lines[0] and "clos" in lines[1], lines
    assert not any("127.0.0.1" in line and "visitor" in line
                   for line in relay.process.err.lines), "visitors are at debug level"


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
