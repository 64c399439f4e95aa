"""Options of `adit forward` and `adit relay` that change what a visitor or an app sees."""
import re
import signal
import socket
import ssl
import struct

import pytest

from kit import hello
from kit.app import echo, read_exactly, read_until_end, reset
from kit.process import ADIT, DEADLINE_S, descriptors, wait_descriptors, wait_until
from kit.tls import BROKEN, TlsVisitor, how_it_ends

PROXY_V2 = b"\r\n\r\n\x00\r\nQUIT\n"


def read_proxy_header(connection):
    head = read_exactly(connection, 16)
    assert head[:12] == PROXY_V2 and head[12] == 0x21, head
    content = read_exactly(connection, int.from_bytes(head[14:], "big"))
    if head[13] == 0x11:
        return (
            socket.inet_ntop(socket.AF_INET, content[:4]),
            socket.inet_ntop(socket.AF_INET, content[4:8]),
            *struct.unpack("!HH", content[8:12]),
        )
    assert head[13] == 0x21, head
    return (
        socket.inet_ntop(socket.AF_INET6, content[:16]),
        socket.inet_ntop(socket.AF_INET6, content[16:32]),
        *struct.unpack("!HH", content[32:36]),
    )


@pytest.mark.both_pumps
@pytest.mark.parametrize("kind", ["tls1.3", "tls1.2", "raw"])
def test_proxy_protocol_tells_the_app_who_came(relay, agent, app, visitor, kind):
    a = app()
    tunnel = agent(a, "--unencrypted", "--proxy-protocol")
    if kind == "raw":
        v = visitor.raw(tunnel)
        sock, port = v, tunnel.tcp_port
    else:
        v = visitor(tunnel, version={"tls1.3": ssl.TLSVersion.TLSv1_3, "tls1.2": ssl.TLSVersion.TLSv1_2}[kind])
        sock, port = v.sock, relay.port
    connection = a.accept()
    assert read_proxy_header(connection) == ("127.0.0.1", "127.0.0.1", sock.getsockname()[1], port)
    v.sendall(b"and then the stream")
    assert read_exactly(connection, 19) == b"and then the stream"


@pytest.mark.both_pumps
def test_allow_admits_only_its_addresses(relay, agent, app, visitor):
    """To the others the tunnel does not exist."""
    a = app(echo)
    tunnel = agent(a, "--unencrypted", "--allow", "127.0.0.2/32", "--allow", "10.0.0.0/8")
    v = visitor(tunnel, source="127.0.0.2")
    v.sendall(b"let in")
    assert read_exactly(v, 6) == b"let in"
    answer = hello.answer_to(relay.address, hello.records(hello.client_hello(tunnel.host)))
    assert hello.alert_in(answer) == hello.fatal(hello.UNRECOGNIZED_NAME)
    assert answer == hello.answer_to(relay.address, hello.records(hello.client_hello("a" * 24 + ".r1.test")))
    try:
        assert how_it_ends(visitor.raw(tunnel)) in ("reset", "clean")
    except ConnectionResetError:
        pass                # already while we connected
    assert len(a.connections) == 1


@pytest.mark.relay_options("--accept-proxy", "127.0.0.2/32")
class TestAcceptProxy:
    V1 = b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 443\r\n"
    V2 = PROXY_V2 + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 192, 0, 2, 8]) + struct.pack("!HH", 4711, 443)
    V2_IPV6 = PROXY_V2 + b"\x21\x21\x00\x24" + socket.inet_pton(socket.AF_INET6,
                                                                "2001:db8::7") + socket.inet_pton(socket.AF_INET6,
                                                                                                  "2001:db8::8") \
        + struct.pack("!HH", 4711, 443)

    @pytest.mark.parametrize("header,came_from", [(V1, "192.0.2.7"), (V2, "192.0.2.7"), (V2_IPV6, "2001:db8::7")],
                             ids=["v1", "v2", "v2-ipv6"])
    def test_a_header_of_a_trusted_peer_names_the_visitor(self, relay, agent, app, visitor, header, came_from):
        a = app()
        tunnel = agent(a, "--proxy-protocol")
        v = visitor(tunnel, source="127.0.0.2", first=header)
        connection = a.accept()
        source, _, port, _ = read_proxy_header(connection)
        assert (source, port) == (came_from, 4711)
        v.sendall(b"hi")
        assert read_exactly(connection, 2) == b"hi"

    def test_a_trusted_peer_without_a_header_is_refused(self, relay, agent, app, visitor):
        tunnel = agent(app(echo))
        with pytest.raises((OSError, ssl.SSLError)):
            visitor(tunnel, source="127.0.0.2")

    def test_a_header_of_another_peer_is_no_tls(self, relay, agent, app, visitor):
        tunnel = agent(app(echo))
        with pytest.raises((OSError, ssl.SSLError)):
            visitor(tunnel, first=self.V1)
        visitor(tunnel).close()

    def test_allow_judges_by_the_address_in_the_header(self, relay, agent, app, visitor):
        tunnel = agent(app(echo), "--allow", "192.0.2.7")
        v = visitor(tunnel, source="127.0.0.2", first=self.V1)
        v.sendall(b"hi")
        assert read_exactly(v, 2) == b"hi"
        with pytest.raises((OSError, ssl.SSLError)):
            visitor(tunnel, source="127.0.0.2", first=self.V1.replace(b"192.0.2.7", b"192.0.2.9"))


def proxy_warnings(relay):
    return [line for line in relay.process.err.lines if " warn proxy_header_" in line]


@pytest.mark.parametrize("header", [TestAcceptProxy.V1, TestAcceptProxy.V2], ids=["v1", "v2"])
@pytest.mark.parametrize("piece", [1, 1000], ids=["in bytes", "at once"])
def test_a_header_that_nobody_expects_is_told_to_the_operator_once(relay, header, piece):
    for n in range(1, 4):
        with socket.create_connection(relay.address, DEADLINE_S) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(0, min(len(header), 6), piece):
                sock.sendall(header[i:i + piece])
            assert how_it_ends(sock) in ("reset", "clean")
        assert relay.metric("proxy_headers_unexpected_total") == n and relay.metric("connections_unknown_total") == 0
    relay.process.err.wait(lambda line: " warn proxy_header_unexpected " in line)
    line, = proxy_warnings(relay)
    assert "from=127.0.0.1 " in line and "--accept-proxy" in line, line


@pytest.mark.relay_options("--accept-proxy", "127.0.0.2/32")
@pytest.mark.parametrize("first",
                         [hello.records(hello.client_hello("r1.test")), b"PROXY UDP4 is not known\r\n",
                          TestAcceptProxy.V2[:14] + b"\xff\xff",
                                   b"\xadDIT\x01" + bytes(40)], ids=["TLS", "bad v1", "bad v2", "data connection"])
def test_a_header_that_does_not_come_is_told_to_the_operator_once(relay, first):
    for n in range(1, 4):
        with socket.create_connection(relay.address, DEADLINE_S, source_address=("127.0.0.2", 0)) as sock:
            sock.sendall(first)
            assert how_it_ends(sock) in ("reset", "clean")
        assert relay.metric("proxy_headers_missing_total") == n
    relay.process.err.wait(lambda line: " warn proxy_header_missing " in line)
    line, = proxy_warnings(relay)
    assert "from=127.0.0.2 " in line and "--accept-proxy" in line and "proxy_protocol on" in line, line


@pytest.mark.relay_options("--accept-proxy", "127.0.0.1/32")
def test_an_agent_without_the_header_that_its_relay_expects_guesses_so(relay, agent, app):
    text = agent(app(echo), wait=False).events.wait("closed")["text"]
    assert "PROXY header" in text and "--accept-proxy" in text and len(text) < 400, text


def test_several_apps_in_one_agent_have_an_address_each(relay, agent, app, visitor):
    apps = [app(lambda c, i=i: c.sendall(b"app %d" % i)) for i in range(5)]
    running = agent(apps, "--unencrypted")
    assert [t.port for t in running.tunnels] == [a.port for a in apps]
    assert len({t.host for t in running.tunnels}) == 5 and len({t.tcp_port for t in running.tunnels}) == 5
    for i, tunnel in enumerate(running.tunnels):
        assert read_until_end(visitor(tunnel)) == b"app %d" % i
        assert read_until_end(visitor.raw(tunnel)) == b"app %d" % i


def test_an_app_on_another_host_or_ipv6(relay, agent, app, visitor):
    v6 = app(echo, host="::1")
    tunnel = agent(f"[::1]:{v6.port}")
    v = visitor(tunnel)
    v.sendall(b"six")
    assert read_exactly(v, 3) == b"six"


@pytest.mark.both_pumps
def test_visitors_and_agents_come_by_ipv6(start_relay, agent, app, visitor):
    a = app()
    relay = start_relay(listen="[::1]:0", options=["--tcp-listen", "::1"])
    tunnel = agent(a, "--unencrypted", "--proxy-protocol", relay=relay)
    for connect in (visitor, lambda t: visitor.raw(t, "::1")):
        v, connection = connect(tunnel), a.accept()
        assert read_proxy_header(connection)[:2] == ("::1", "::1")
        v.sendall(b"six")
        assert read_exactly(connection, 3) == b"six"


def test_public_is_the_address_in_urls_and_tokens(start_relay, agent, app):
    relay = start_relay(options=["--public", "r1.test:8443"])
    tunnel = agent(app(echo), relay=relay)
    assert tunnel.tls_port == 8443 and tunnel.url == f"https://{tunnel.host}:8443"


def test_a_url_on_port_443_names_no_port(start_relay, agent, app):
    relay = start_relay(options=["--public", "r1.test:443"])
    tunnel = agent(app(echo), relay=relay)
    assert tunnel.tls_port == 443 and tunnel.url == f"https://{tunnel.host}"


def test_the_open_event_has_all_its_fields(relay, agent, app):
    a = app(echo)
    event = agent(a, "--unencrypted").tunnel.event
    assert event["port"] == a.port and event["url"] == f"https://{event['tls_socket'][0]}:{relay.port}"
    assert event["tls_socket"][1] == relay.port and event["tls_socket"][0].endswith(".r1.test")
    assert event["tcp_socket"][0] == "r1.test" and 20000 <= event["tcp_socket"][1] <= 29999
    assert "r1.test" in str(event["relay"]) and 0 < event["open_ms"] < 1000 * DEADLINE_S
    assert agent(app(echo)).tunnel.event["tcp_socket"] is None


def test_json_is_all_that_is_on_stdout(relay, agent, app, visitor):
    running = agent(app(echo))
    v = visitor(running)
    v.sendall(b"x")
    assert read_exactly(v, 1) == b"x"
    assert running.process.stop() == 0
    assert running.events.wait("closed")["reason"]          # Events parses each line


def test_without_json_and_terminal_lines_are_plain(relay, box, app):
    program = box.start([ADIT, "forward", app(echo).port], env={"ADIT_TOKEN": relay.token()})
    line = program.out.wait(lambda text: "https://" in text)
    assert "\x1b" not in line and "\r" not in line
    assert program.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_closes_the_agent_cleanly(relay, agent, app, number):
    running = agent(app(echo))
    running.process.kill(number)
    assert running.process.wait() == 0
    assert "closed" in running.process.out.text()


class TestCommand:
    def test_it_runs_with_the_address_in_its_environment_and_without_the_token(self, relay, box, app):
        one, two, token = app(echo), app(echo), relay.token()
        done = box.adit("forward", "--unencrypted", one.port, two.port, "--", "env", env={"ADIT_TOKEN": token})
        assert done.returncode == 0, done.stderr
        seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
        assert seen["ADIT_URL"] == f"https://{seen['ADIT_HOST']}:{seen['ADIT_PORT']}" and seen["ADIT_HOST"].endswith(
            ".r1.test"
        )
        assert (
            seen["ADIT_PORT"] == str(relay.port) and seen["ADIT_TCP_HOST"] == "r1.test" and int(seen["ADIT_TCP_PORT"])
        )
        assert seen[f"ADIT_URL_{one.port}"] == seen["ADIT_URL"] != seen[f"ADIT_URL_{two.port}"]
        assert "ADIT_TOKEN" not in seen and token not in done.stdout

    @pytest.mark.parametrize("script,status", [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137)])
    def test_its_exit_status_is_ours(self, relay, box, app, script, status):
        done = box.adit("forward", app(echo).port, "--", "sh", "-c", script, env={"ADIT_TOKEN": relay.token()})
        assert done.returncode == status, done.stderr

    def test_the_tunnel_is_open_when_it_starts_and_gone_when_it_ends(self, relay, box, app, visitor):
        a = app(lambda c: c.sendall(b"served"))
        script = (f"curl -s --http0.9 --cacert {relay.authority} "
                  f"--connect-to $ADIT_HOST:$ADIT_PORT:127.0.0.1:{relay.port} $ADIT_URL; echo; echo $ADIT_HOST")
        done = box.adit("forward", a.port, "--", "sh", "-c", script, env={"ADIT_TOKEN": relay.token()})
        assert done.stdout.splitlines()[0] == "served", done.stderr
        answer = hello.answer_to(relay.address, hello.records(hello.client_hello(done.stdout.split()[-1])))
        assert hello.alert_in(answer) == hello.fatal(hello.UNRECOGNIZED_NAME)

    def test_only_the_command_writes_to_stdout(self, relay, box, app):
        done = box.adit("forward", "--json", app(echo).port, "--", "echo", "mine", env={"ADIT_TOKEN": relay.token()})
        assert done.stdout == "mine\n"

    def test_signals_are_forwarded_to_it(self, relay, agent, app, box):
        # A shell's trap would wait for the end of what the shell is blocked in, were the signal to come just before.
        script = ("import signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); print('ready', flush=True); "
                  "signal.sigwait([15]); print('caught'); sys.exit(5)")
        program = box.start([ADIT, "forward", app(echo).port, "--", "python3", "-c", script],
                            env={"ADIT_TOKEN": relay.token()})
        program.out.wait(lambda line: line == "ready")
        program.kill(signal.SIGTERM)
        assert program.wait() == 5 and "caught" in program.out.text()

    def test_a_command_that_is_not_there_is_an_error(self, relay, box, app):
        done = box.adit("forward", app(echo).port, "--", "/nonexistent/command", env={"ADIT_TOKEN": relay.token()})
        assert done.returncode in (1, 126, 127) and "/nonexistent/command" in done.stderr


def test_a_token_on_the_command_line_is_wiped_from_it(relay, box, app):
    token = relay.token()
    program = box.start([ADIT, "forward", "--json", "--token", token, app(echo).port])
    program.out.wait(lambda line: '"open"' in line)
    with open(f"/proc/{program.pid}/cmdline", "rb") as f:
        assert token.encode()[8:] not in f.read()
    assert token not in program.out.text() + program.err.text()


def test_two_visitors_contexts_are_not_mixed(relay, agent, app, visitor):
    """Each stream has its own keys and its own app connection."""
    a = app()
    tunnel = agent(a)
    context = visitor.context(tunnel)
    pairs = []
    for i in range(10):
        v = TlsVisitor(relay.address, tunnel.host, context)
        v.sendall(b"%d" % i)
        connection = a.accept()
        assert read_exactly(connection, 1) == b"%d" % i
        pairs.append((v, connection))
    for i, (v, connection) in reversed(list(enumerate(pairs))):
        connection.sendall(b"to %d" % i)
        assert read_exactly(v, 4) == b"to %d" % i
        v.close()


def test_an_app_by_a_name_that_is_looked_up(relay, agent, app, visitor):
    a = app(echo)
    tunnel = agent(f"127.1:{a.port}")               # no name of a resolver's file, and no number to us
    v = visitor(tunnel)
    v.sendall(b"found")
    assert read_exactly(v, 5) == b"found"


def test_an_app_whose_name_leads_nowhere_is_told(relay, agent, visitor):
    tunnel = agent("nowhere.invalid:80")
    v = visitor(tunnel)
    assert how_it_ends(v) in BROKEN
    text = tunnel.events.wait("warning")["text"]
    assert re.fullmatch(r"app nowhere\.invalid:80: [^:]+ \(check the name, and that DNS works here\)", text), text


@pytest.mark.heavy
def test_visitors_who_leave_while_they_wait_for_the_app_are_forgotten(relay, agent, app, visitor):
    tunnel, visitors = agent(app(started=False), "--unencrypted"), []
    while len(visitors) < 20:       # one by one, so that few data connections are kept warm
        visitors.append(visitor.raw(tunnel))
        wait_until(lambda: relay.metric("streams_now") == len(visitors), "a visitor has no stream")
    waiting = descriptors(tunnel.process.pid)
    for v in visitors:
        reset(v)
    wait_descriptors(tunnel.process.pid, waiting - 14, seconds=5)   # 10 s is how long they would have waited


def test_an_app_that_never_starts_is_not_waited_for_for_ever(relay, agent, app, visitor):
    tunnel = agent(app(started=False))
    assert how_it_ends(visitor(tunnel)) in BROKEN
    app = f"127.0.0.1:{tunnel.tunnel.port} or [::1]:{tunnel.tunnel.port}"
    for why in ("it is not there yet, a visitor waits for it", "it refused the connection"):
        assert tunnel.events.wait("warning")["text"] == f"app {app}: {why} (start it, or check the port)"


def test_a_raw_port_is_plain_only_when_both_sides_say_so(start_relay, agent, app, visitor, wire):
    """And a TLS visitor's bytes are sealed even then."""
    marker, relay = b"seen by whoever looks at the wire", start_relay(options=["--link", "plain"])
    cable, a = wire(relay), app(echo)
    for options, seen in ((["--link", "plain"], 2), ([], 0)):
        running = agent(a, "--unencrypted", *options, dial=cable.dial, relay=relay)
        before = cable.seen().count(marker)
        for v in (visitor.raw(running), visitor(running)):
            v.sendall(marker)
            assert read_exactly(v, len(marker)) == marker
        assert cable.seen().count(marker) - before == seen, "to the app and back"


def test_a_relay_that_does_not_permit_plain_says_so(relay, box, app):
    done = box.adit("forward", app(echo).port, "--unencrypted", "--link", "plain", env={"ADIT_TOKEN": relay.token()})
    assert done.returncode == 1 and "does not permit plain" in done.stderr and "--link sealed" in done.stderr


def test_tls_1_2_and_alpn_together(relay, agent, app, visitor):
    tunnel = agent(app(echo), "--alpn", "mqtt,http/1.1")
    v = visitor(tunnel, version=ssl.TLSVersion.TLSv1_2, alpn=["h2", "mqtt"])
    assert v.tls.selected_alpn_protocol() == "mqtt"
    v.sendall(b"x")
    assert read_exactly(v, 1) == b"x"
