"""Every counter and gauge of /metrics counts what its help says, and nothing besides."""
import contextlib
import json
import os
import re
import socket
import ssl

import pytest

from kit import hello
from kit.app import echo, read_exactly
from kit.process import DEADLINE_S, links_of, wait_until

# What moves by itself: warm data connections come and go, bytes and buffers have tests of their own.
UNWATCHED = re.compile(
    r"connections_accepted_total|data_connections_(total|warm_now)|bytes_|pipes_|buffers_|descriptors_|"
    r"uptime_|build_info"
)


def counts(relay):
    rows = (line.rsplit(" ", 1) for line in relay.get("/metrics").splitlines() if not line.startswith("#"))
    return {name.removeprefix("adit_"): float(value) for name, value in rows
            if not UNWATCHED.match(name.removeprefix("adit_"))}


@contextlib.contextmanager
def counted(relay, **changes):
    """What happens inside changes these by so much, and no other."""
    before, after = counts(relay), {}
    yield

    def changed():
        after.clear()
        after.update({name: value - before[name] for name, value in counts(relay).items() if value != before[name]})
        return after == changes
    with contextlib.suppress(AssertionError):
        wait_until(changed, "")
    assert after == changes


def say(relay, data):
    sock = socket.create_connection(relay.address, DEADLINE_S)
    sock.sendall(data)
    return sock


def client_hello(host, alpn=()):
    return hello.records(hello.client_hello(host, alpn=alpn))


def test_every_metric_has_a_help_of_its_own(relay):
    text = relay.get("/metrics")
    helps = dict(re.findall(r"^# HELP (adit_\w+) (.+)$", text, re.M))
    assert set(re.findall(r"^(adit_\w+)", text, re.M)) == set(helps)
    assert len(set(helps.values())) == len(helps)
    assert all("isitor" in text for name, text in helps.items() if name.startswith("adit_handshakes_") and
               not name.endswith(("unknown_name_total", "over_cap_total")))
    assert all("ontrol link" in text for name, text in helps.items() if name.startswith("adit_link"))


def test_a_control_link_counts_as_one_and_as_no_visitor(relay, agent, app):
    with counted(relay, client_hellos_total=1, link_handshakes_started_total=1, links_total=1, links_now=1,
                 tunnels_total=1, tunnels_now=1):
        running = agent(app(echo))
    wait_until(lambda: relay.metric("data_connections_warm_now") == 2, "one that comes after its link would be refused")
    with counted(relay, links_now=-1, tunnels_now=-1):
        running.process.stop()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=["tls1.3", "tls1.2"])
def test_a_visitor_counts_once_at_each_step(relay, agent, app, visitor, version):
    running = agent(app(echo))
    with counted(relay, client_hellos_total=1, handshakes_started_total=1, streams_total=1, streams_now=1,
                 handshakes_handed_off_total=1):
        v = visitor(running, version=version)
        v.sendall(b"hello")
        assert read_exactly(v, 5) == b"hello"
    with counted(relay, **{"streams_now": -1, 'streams_closed_total{reason="clean"}': 1}):
        v.half_close()
        assert v.recv(1) == b""


def test_a_visitor_without_the_extended_master_secret_is_refused_and_counted(relay, agent, app, box):
    running = agent(app(echo))
    host, port = relay.dial.rsplit(":", 1)
    with counted(relay, client_hellos_total=1, handshakes_started_total=1, handshakes_no_ems_total=1):
        done = box.run("gnutls-cli", "--port", port, "--sni-hostname", running.host, "--insecure",
                       "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2:%NO_SESSION_HASH", host)
    assert done.returncode != 0 and "Handshake failed" in done.stdout + done.stderr


def test_a_visitor_of_a_raw_port_makes_no_handshake(relay, agent, app, visitor):
    running = agent(app(echo), "--unencrypted")
    with counted(relay, raw_visitors_total=1, streams_total=1, streams_now=1):
        visitor.raw(running).sendall(b"hello")


def test_a_handshake_that_goes_on_is_its_own_kinds(relay, agent, app):
    running = agent(app(echo))
    with counted(relay, client_hellos_total=1, handshakes_started_total=1, handshakes_now=1):
        v = say(relay, client_hello(running.host))
    with counted(relay, client_hellos_total=1, link_handshakes_started_total=1, link_handshakes_now=1):
        link = say(relay, client_hello("r1.test", ["adit/1"]))
    with counted(relay, handshakes_now=-1, handshakes_failed_total=1):
        v.close()
    with counted(relay, link_handshakes_now=-1, link_handshakes_failed_total=1):
        link.close()


@pytest.mark.parametrize("host,alpn,changes", [
    ("nobody.r1.test", [], {"handshakes_unknown_name_total": 1}),
    ("r1.test", [], {"handshakes_unknown_name_total": 1}),
    (None, ["adit/1"], {"handshakes_unknown_name_total": 1}),
    ("THE TUNNEL", ["h2"], {"handshakes_started_total": 1, "handshakes_no_alpn_total": 1})])
def test_a_refused_client_hello_counts_by_its_reason(relay, agent, app, host, alpn, changes):
    running = agent(app(echo))
    with counted(relay, client_hellos_total=1, **changes):
        hello.answer_to(relay.address, client_hello(running.host if host == "THE TUNNEL" else host, alpn))


@pytest.mark.parametrize("data",
                         [b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", b"\x16\x03\x01\x40\x01", b"\x16\x03\x01\x00"],
                         ids=["no ClientHello", "a record too long", "an end in the middle"])
def test_a_client_hello_that_is_none_fails_as_such(relay, data):
    with counted(relay, client_hellos_total=1, client_hellos_failed_total=1):
        say(relay, data).close()


def test_a_handshake_without_an_end_times_out_and_did_not_fail_otherwise(relay, agent, app):
    running = agent(app(echo))
    with counted(relay, client_hellos_total=3, handshakes_started_total=1, handshakes_timeout_total=1,
                 link_handshakes_started_total=1,
                 link_handshakes_failed_total=1, client_hellos_failed_total=1):
        waiting = [say(relay, data)
                   for data in (client_hello(running.host), client_hello("r1.test", ["adit/1"]), b"\x16")]
        for sock in waiting:
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(65536):
                    pass


def test_what_is_no_protocol_of_ours_is_unknown(relay):
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\r\nhello", b"PROPFIND", b"\x80"):
        with counted(relay, connections_unknown_total=1):
            hello.answer_to(relay.address, data)


def test_a_data_connection_of_nobody_is_refused(relay):
    for preface in (b"\xadDIT\x01" + os.urandom(40), b"\xad" + os.urandom(44)):
        with counted(relay, data_connections_refused_total=1):
            hello.answer_to(relay.address, preface)


def test_pipes_and_buffers_that_are_kept_for_the_next_stream_count_too(start_relay, agent, app, visitor):
    relay = start_relay(pump="splice", options=["--workers", "1"])
    running = agent(app(echo), "--unencrypted", relay=relay)
    pipes = len(links_of(relay.process.pid, "pipe"))
    for v in (visitor(running), visitor.raw(running)):     # spliced, and copied through the record layer
        v.sendall(b"x" * 100_000)
        assert read_exactly(v, 100_000) == b"x" * 100_000
        v.close()
    wait_until(lambda: relay.metric("streams_now") == 0, "streams stay")
    assert relay.metric("pipes_now") == len(links_of(relay.process.pid, "pipe")) - pipes > 0
    assert relay.metric("buffers_now") > 0


def test_what_passes_is_told_by_token_with_what_was_narrowed_from_it(relay, box, agent, app, visitor):
    """Also after the agent has gone."""
    def told(name, rows="tokens"):
        return next((t for t in json.loads(relay.get("/status"))[rows] if t["name"] == name), None)

    root, other = relay.create_token("laptop"), relay.create_token("other")
    narrowed = box.adit("token", "narrow", "--name", "job", env={"ADIT_TOKEN": root}).stdout.strip()
    agents = [agent(app(echo), "--unencrypted", token=token) for token in (root, narrowed, other)]
    kept = []
    for n, running in enumerate(agents):
        for v in visitor.raw(running), visitor(running):
            v.sendall(b"x" * 1000 * (n + 1))
            assert len(read_exactly(v, 1000 * (n + 1))) == 1000 * (n + 1)
            kept.append(v)
    wait_until(lambda: told("laptop")["bytes_to_visitors"] > 6000 and
               told("laptop/job", "narrowed")["bytes_to_visitors"] > 4000, "what has arrived is not counted")
    laptop = told("laptop")
    assert (laptop["streams_now"], laptop["streams_total"]) == (4, 4)
    assert 6000 < laptop["bytes_to_visitors"] < 12_000 and 6000 < laptop["bytes_from_visitors"] < 12_000
    assert told("other")["streams_total"] == 2 and told("job") is None
    assert re.search(r"^laptop +4 +4 ", box.adit("status", "--admin", str(relay.admin)).stdout, re.MULTILINE)
    ids = {row["name"]: row["id"]
           for row in map(json.loads, box.adit("token", "list", "--json", "--state", relay.state).stdout.splitlines())}
    assert told("laptop")["id"] == ids["laptop"]
    job = told("laptop/job", "narrowed")
    assert job["root"] == ids["laptop"] and (job["streams_now"], job["streams_total"]) == (2, 2)
    assert 4000 < job["bytes_to_visitors"] < 8000 and 4000 < job["bytes_from_visitors"] < 8000
    assert len(json.loads(relay.get("/status"))["narrowed"]) == 1
    assert re.search(r"^laptop/job +2 +2 ", box.adit("status", "--admin", str(relay.admin)).stdout, re.MULTILINE)
    for running in agents:
        running.process.stop()
    wait_until(lambda: told("laptop")["streams_now"] == 0, "streams outlive their agents")
    assert told("laptop")["bytes_to_visitors"] >= laptop["bytes_to_visitors"]
    assert told("laptop/job", "narrowed")["bytes_to_visitors"] >= job["bytes_to_visitors"]
    assert told("laptop")["bytes_to_visitors"] + told("other")["bytes_to_visitors"] == relay.metric(
        "bytes_to_visitors_total"
    )
