"""A relay that shares port 443 with other servers, behind a router that goes by TLS names: the README's configuration
of nginx."""
import socket
import ssl

import pytest

from kit.app import echo, ends_by_reset, read_exactly, read_until_end
from kit.nginx import Nginx, readme_stream
from kit.process import DEADLINE_S
from test_options import read_proxy_header


@pytest.fixture
def front(box, app):
    """front(relay): nginx before it, and before an app that is the other server."""
    def start(relay, change=lambda stream: stream):
        other = app()

        def stream(port):
            return change(readme_stream({"listen 443": f"listen 127.0.0.1:{port}", "127.0.0.1:4443": relay.dial,
                                         "127.0.0.1:8443": f"127.0.0.1:{other.port}"}))
        nginx = Nginx(box, stream)
        nginx.other = other
        return nginx
    return start


@pytest.mark.both_pumps
@pytest.mark.relay_options("--accept-proxy", "127.0.0.1/32")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=["tls1.3", "tls1.2"])
def test_visitors_agents_and_their_data_connections_come_through_it(relay, front, agent, app, visitor, version):
    nginx, a = front(relay), app()
    running = agent(a, "--proxy-protocol", dial=nginx.dial)
    for _ in range(5):
        v = visitor(running, address=nginx.address, version=version)
        connection = a.accept()
        assert read_proxy_header(connection) == ("127.0.0.1", "127.0.0.1", v.sock.getsockname()[1],
                                                 nginx.address[1]), "the visitor's own"
        v.sendall(b"a question")
        assert read_exactly(connection, 10) == b"a question"
        v.half_close()
        assert connection.recv(1) == b""
        connection.sendall(b"an answer after the end")
        connection.close()
        assert read_until_end(v) == b"an answer after the end"
    assert not running.events.seen("warning")


@pytest.mark.relay_options("--accept-proxy", "127.0.0.1/32")
def test_a_stream_that_is_cut_is_no_end_to_the_app(relay, front, agent, app, visitor):
    nginx, a = front(relay), app()
    running = agent(a, dial=nginx.dial)
    v = visitor(running, address=nginx.address)
    v.sendall(b"half of")
    connection = a.accept()
    assert read_exactly(connection, 7) == b"half of"
    v.truncate()
    assert ends_by_reset(connection)


@pytest.mark.relay_options("--accept-proxy", "127.0.0.1/32")
def test_other_names_lead_elsewhere(relay, front, agent, app):
    nginx = front(relay)
    context = ssl.create_default_context()
    with socket.create_connection(nginx.address, DEADLINE_S) as sock:
        hello = context.wrap_bio(ssl.MemoryBIO(), out := ssl.MemoryBIO(), server_hostname="www.example.com")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        sock.sendall(first := out.read())
        connection = nginx.other.accept()
        line = b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (sock.getsockname()[1], nginx.address[1])
        assert read_exactly(connection, len(line) + len(first)) == line + first


def names_only(stream):
    """Without the relay as default: data connections have no name by which they could be told."""
    return stream.replace("default ", "~.*\\.?r1\\.test$ ")


@pytest.mark.relay_options("--accept-proxy", "127.0.0.1/32")
def test_without_the_relay_as_default_data_goes_inside_tls(relay, front, agent, app, visitor):
    nginx = front(relay, names_only)
    running = agent(app(echo), dial=nginx.dial)
    running.events.wait("warning", reason="data_in_tls")
    v = visitor(running, address=nginx.address)
    v.sendall(b"a question")
    assert read_exactly(v, 10) == b"a question"


@pytest.mark.relay_options("--accept-proxy", "127.0.0.1/32")
def test_without_the_relay_as_default_and_with_plain_data_the_agent_says_what_is_missing(relay, front, agent, app):
    running = agent(app(echo), "--data", "plain", dial=front(relay, names_only).dial)
    text = running.events.wait("warning", reason="data_connections")["text"]
    assert "have them go inside TLS" in text, text


def test_a_header_that_the_relay_does_not_expect_is_told_at_both_ends(relay, front, agent, app):
    running = agent(app(echo), dial=front(relay).dial, wait=False)
    assert "--accept-proxy" in running.events.wait("closed")["text"]
    line = relay.process.err.wait(lambda line: " warn proxy_header_unexpected " in line)
    assert "from=127.0.0.1 " in line and "--accept-proxy" in line
