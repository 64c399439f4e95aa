"""adit relay --redirect-http: who comes by plain HTTP is told to come by https, to names of this relay only."""
import http.client
import os
import re
import select
import signal
import socket
import ssl

import pytest

from kit.http import answer, read_request
from kit.process import ADIT, DEADLINE_S, descriptors
from kit.roles import Relay
from kit.tls import how_it_ends
import test_options                                # its names, not its tests
from test_service_unit import as_the_unit_does

REDIRECTS = ("--redirect-http", "127.0.0.1:0")
pytestmark = pytest.mark.relay_options(*REDIRECTS)


def dial(relay, **options):
    return socket.create_connection(("127.0.0.1", relay.redirect), DEADLINE_S, **options)


def read_all(sock):
    got = b""
    while piece := sock.recv(65536):
        got += piece
    return got


def ask(relay, request, first=b"", **options):
    """Status and location. The connection must end cleanly, whatever of the request was not read."""
    with dial(relay, **options) as sock:
        sock.sendall(first + request)
        got = read_all(sock)
    head, body = got.split(b"\r\n\r\n", 1)
    assert body == b"" and b"\r\nContent-Length: 0" in head and b"\r\nConnection: close" in head, got
    location = re.findall(rb"\r\nLocation: ([^\r]*)", head)
    return int(head.split(b" ")[1]), location[0].decode() if location else None


def get(host, target="/", more=""):
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


def serve(connection):
    while request := read_request(connection):
        read, body = request.reader(connection), b""
        while piece := read(65536):
            body += piece
        answer(connection, "200 OK", f"{request.method} {request.path} {body.decode()}".encode())


def test_curl_follows_it_to_the_tunnel_with_method_path_and_body(relay, agent, app, box):
    running = agent(app(serve))
    curl = ["curl", "--silent", "--show-error", "--location", "--cacert", relay.authority,
            "--write-out", " %{url_effective}", "--connect-to", f"{running.host}:80:127.0.0.1:{relay.redirect}",
            "--connect-to", f"{running.host}:{running.tls_port}:127.0.0.1:{relay.port}"]
    assert box.run(*curl, f"http://{running.host}/a/b?c=d").stdout == f"GET /a/b?c=d  {running.url}/a/b?c=d"
    assert box.run(*curl, "--data", "x=y", f"http://{running.host}/form").stdout == f"POST /form x=y {running.url}/form"
    assert relay.metric("redirects_total") == 2 and relay.metric("redirects_refused_total") == 0
    assert relay.metric("connections_unknown_total") == 0


@pytest.mark.relay_options(*REDIRECTS, "--public", "r1.test:443")
def test_the_port_of_https_is_left_out(relay):
    assert ask(relay, get("some.r1.test:80", "/x")) == (308, "https://some.r1.test/x")
    connection = http.client.HTTPConnection("127.0.0.1", relay.redirect, timeout=DEADLINE_S)
    connection.request("HEAD", "/y", headers={"Host": "r1.test"})
    got = connection.getresponse()
    assert (got.status, got.getheader("Location"), got.read()) == (308, "https://r1.test/y", b"")


@pytest.mark.parametrize("request_,status", [
    (get("evil.test"), 421), (get("r1.test.evil.test"), 421), (get("notr1.test"), 421), (get("a.b.r1.test"), 421),
    (get("r1.test", "@evil.test"), 400), (get("r1.test", "http://evil.test/"), 421),
    (get("r1.test", more="Host: evil.test\r\n"), 400), (get("r1.test@evil.test"), 400),
    (get("evil.test\rX: r1.test"), 400), (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET /\n", 400), (b"\0", 400),
    (get("r1.test", "/" + "x" * 9000), 414),
    (get("r1.test", more=f"Cookie: {'x' * 9000}\r\n"), 431), (get("r1.test", more="X: y\r\n" * 9000), 431),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)])
def test_nobody_is_sent_elsewhere_and_what_is_malformed_is_refused(relay, request_, status):
    assert ask(relay, request_) == (status, None)
    assert relay.metric("redirects_refused_total") == 1 and relay.metric("redirects_total") == 0


def test_no_byte_of_a_request_becomes_a_line_of_the_answer(relay):
    for end in (b"\r\n", b"\n", b"\r", b"\0", b"\x0b", b"\x85", b"\xe2\x80\xa8", b"%0d%0a"):
        with dial(relay) as sock:
            sock.sendall(b"GET /x" + end + b"Set-Cookie:a=b HTTP/1.1\r\nHost: a.r1.test\r\n\r\n")
            assert b"\nSet-Cookie" not in read_all(sock).replace(b"\r", b"\n")


def test_an_answer_is_not_lost_to_a_body_that_nobody_reads(relay):
    """Closing with unread input resets, and takes with it what the other end has not read yet."""
    for _ in range(20):
        status, location = ask(relay, get("a.r1.test", more="Content-Length: 1000000\r\n") + bytes(1_000_000))
        assert status == 308 and location == f"https://a.r1.test:{relay.port}/"


def test_tls_on_this_port_fails_at_once(relay):
    with dial(relay) as sock, pytest.raises(ssl.SSLError, match="(?i)wrong.version"):
        ssl.create_default_context().wrap_socket(sock, server_hostname="a.r1.test")


def test_http_on_the_other_port_is_no_request(relay):
    with socket.create_connection(relay.address, DEADLINE_S) as sock:
        sock.sendall(get("a.r1.test"))
        assert how_it_ends(sock) in ("clean", "reset")
    assert relay.metric("connections_unknown_total") == 1 and relay.metric("redirects_total") == 0


def test_who_is_slow_is_waited_for_and_who_is_too_slow_is_not(relay):
    with dial(relay) as sock, dial(relay) as other:
        other.sendall(b"GET / HTTP/1.1\r\nHost: a.r1")             # and never says the rest
        for byte in get("a.r1.test"):
            sock.sendall(bytes([byte]))
        assert read_all(sock).startswith(b"HTTP/1.1 308 ")
        assert how_it_ends(other) in ("clean", "reset")
    assert relay.metric("redirects_total") == 1


@pytest.mark.relay_options(*REDIRECTS, "--workers", "4")
def test_one_source_has_no_more_of_them_than_of_handshakes(relay, box):
    cap, more = 512, 50
    poll = select.poll()
    for n in range(cap + more):
        idle = dial(relay) if n % 2 else socket.create_connection(relay.address, DEADLINE_S)
        box.closers.append(idle.close)
        idle.sendall(b"GET /" if n % 2 else b"\x16")
        poll.register(idle, select.POLLIN)
    gone = set()
    while len(gone) < more:
        ready = poll.poll(DEADLINE_S * 1000)
        assert ready, "those above the cap are not closed"
        gone |= {fd for fd, _ in ready}
    assert relay.metric("handshakes_over_cap_total") == more
    assert ask(relay, get("a.r1.test"))[0] == 308, "who comes last is served"


def test_nothing_is_left_of_those_who_were_answered(relay):
    ask(relay, get("a.r1.test"))
    before = descriptors(relay.process.pid)
    for _ in range(100):
        ask(relay, get("a.r1.test"))
        ask(relay, b"\x16\x03\x01")
        with dial(relay) as sock:
            sock.sendall(b"GET")
    assert descriptors(relay.process.pid) <= before + 4


@pytest.mark.relay_options(*REDIRECTS, "--accept-proxy", "127.0.0.2/32")
@pytest.mark.parametrize("header", [test_options.TestAcceptProxy.V1, test_options.TestAcceptProxy.V2], ids=["v1", "v2"])
def test_behind_a_load_balancer_a_proxy_header_comes_first(relay, header):
    source = ("127.0.0.2", 0)
    assert ask(relay, get("a.r1.test"), first=header, source_address=source)[0] == 308
    with dial(relay, source_address=source) as sock:
        sock.sendall(get("a.r1.test"))
        assert how_it_ends(sock) in ("clean", "reset")
    assert relay.metric("proxy_headers_missing_total") == 1
    with dial(relay) as sock:
        sock.sendall(header + get("a.r1.test"))
        assert how_it_ends(sock) in ("clean", "reset")
    assert relay.metric("proxy_headers_unexpected_total") == 1
    for kind in ("missing", "unexpected"):
        relay.process.err.wait(lambda line: f" warn proxy_header_{kind} " in line)


def test_it_listens_on_several_addresses_and_says_so(start_relay):
    relay = start_relay(options=[*REDIRECTS, "--redirect-http", "127.0.0.2:0"])
    line = relay.process.err.wait(lambda line: " relay_ready " in line)
    first, second = re.search(r"redirect_http=127.0.0.1:(\d+),127.0.0.2:(\d+)", line).groups()
    assert int(first) == relay.redirect
    with socket.create_connection(("127.0.0.2", int(second)), DEADLINE_S) as sock:
        sock.sendall(get("a.r1.test"))
        assert read_all(sock).startswith(b"HTTP/1.1 308 ")


def test_a_draining_relay_leaves_the_port_to_its_successor(start_relay, agent, app, visitor):
    old = start_relay(options=[*REDIRECTS, "--drain", "60s"])
    v = visitor(agent(app(serve), relay=old))
    old.process.kill(signal.SIGTERM)
    old.process.err.wait(lambda line: " draining " in line)
    new = Relay(old.box, state=old.state, listen=old.dial, options=["--redirect-http", f"127.0.0.1:{old.redirect}"])
    assert ask(new, get("a.r1.test"))[0] == 308 and new.redirect == old.redirect
    v.close()


def test_what_it_cannot_listen_on_is_told(relay, box):
    state = box.file("other")
    taken = f"127.0.0.1:{relay.redirect}"
    other = ["relay", "--domain", "r2.test", "--listen", "127.0.0.1:0", "--state", state]
    done = box.adit(*other, "--redirect-http", taken)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    assert taken in done.stderr and "in use" in done.stderr, done
    done = box.adit(*other, "--redirect-http", "80")
    assert done.returncode == 2 and "0.0.0.0:80" in done.stderr, done


def test_port_80_wants_the_capability_that_the_readmes_unit_gives(box):
    """Nobody else's port is taken: in a network of its own."""
    if os.geteuid() != 0:
        pytest.skip("being another user wants root")
    state = box.file("state")
    os.mkdir(state)
    os.chmod(box.path, 0o755)
    os.chown(state, 61184, 61184)
    program = box.file("adit", open(ADIT, "rb").read(), mode=0o755)
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh"]
    relay = [program, "relay", "--domain", "r1.test", "--listen", "127.0.0.1:0", "--state", state,
             "--redirect-http", "0.0.0.0:80", "--redirect-http", "[::]:80"]
    no_rights = ["setpriv", "--reuid=61184", "--regid=61184", "--clear-groups", "--inh-caps=-all",
                 "--bounding-set=-all", "--no-new-privs"]
    done = box.run(*alone, *no_rights, *relay)
    assert done.returncode == 1 and "CAP_NET_BIND_SERVICE" in done.stderr and "0.0.0.0:80" in done.stderr, done
    running = box.start([*alone, *as_the_unit_does(), *relay])
    line = running.err.wait(lambda line: " relay_ready " in line)
    assert "redirect_http=0.0.0.0:80" in line
