"""adit.https: an application that knows that its visitors come by https, and who they are."""

import asyncio
import functools
import ipaddress
import socket
import struct
import threading
import types
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import pytest
from kit.process import DEADLINE_S

import adit
from adit import _visitors
from adit.exception import InvalidError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def header(ip="203.0.113.9", port=4711, kind=0x21, extra=b""):
    source = ipaddress.ip_address(ip)
    family, to = (0x11, bytes([127, 0, 0, 1])) if source.version == 4 else (0x21, bytes(15) + b"\1")
    body = source.packed + to + struct.pack("!HH", port, 443) + extra
    return SIGNATURE + bytes([kind, family]) + struct.pack("!H", len(body)) + body


# --- what an application is told ---


def told(headers, app_scope=None, **given):
    """The scope that an ASGI application gets."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    scope = {"type": "http", "scheme": "http", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 5), **given}
    scope["headers"] = headers
    before = {**scope, "headers": list(headers)}
    asyncio.run(adit.https(app)(scope, None, None))
    assert scope == before, "whoever is outside keeps its own"
    return seen[0]


def told_wsgi(**given):
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        return [b""]

    adit.https(app)({"wsgi.url_scheme": "http", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", **given}, None)
    return seen


def test_scheme_host_and_port_are_the_visitors():
    scope = told([(b"host", b"abc.r1.test")])
    assert (scope["scheme"], scope["server"]) == ("https", ("abc.r1.test", 443))
    scope = told([(b"host", b"abc.r1.test:8443")], type="websocket", scheme="ws")
    assert (scope["scheme"], scope["server"]) == ("wss", ("abc.r1.test", 8443))
    environ = told_wsgi(HTTP_HOST="abc.r1.test")
    assert (environ["wsgi.url_scheme"], environ["HTTPS"]) == ("https", "on")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("abc.r1.test", "443")
    assert told_wsgi(HTTP_HOST="abc.r1.test:8443")["SERVER_PORT"] == "8443"


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "a@b", "abc:", "abc:x", "abc:99999", "abc:123456", "\xfc", "[", "a:1:2"]
)
def test_a_host_that_is_none_is_not_believed(host):
    assert told([(b"host", host.encode("latin-1"))])["server"] == ("127.0.0.1", 443)
    environ = told_wsgi(HTTP_HOST=host)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("127.0.0.1", "443")


def test_a_server_without_a_port_is_no_hindrance():
    for server in (None, ("/run/app.sock", None)):
        assert told([(b"host", b"abc.r1.test")], server=server)["server"] == ("abc.r1.test", 443)
        assert told([], server=server)["server"][1] == 443


def test_what_only_a_proxy_may_say_is_taken_away():
    forged = [
        (name, b"6.6.6.6")
        for name in (
            b"x-forwarded-for",
            b"X-Forwarded-Proto",
            b"x_forwarded_host",
            b"forwarded",
            b"x-real-ip",
            b"x-scheme",
        )
    ]
    kept = [(b"host", b"abc.r1.test"), (b"x-request-id", b"1"), (b"forwarder", b"me"), (b"cookie", b"x-forwarded-for")]
    assert told(forged + kept)["headers"] == kept
    # uvicorn believes what comes from 127.0.0.1, as everything behind a tunnel does.
    assert told(forged + kept, client=("6.6.6.6", 0))["client"] == ("0.0.0.0", 0)
    assert told(forged + kept, client=("7.7.7.7", 5))["client"] == ("7.7.7.7", 5), "who dialled daphne or gunicorn"
    assert told(forged + kept, client=None)["client"] is None
    assert told(kept, client=("127.0.0.1", 5))["client"] == ("127.0.0.1", 5)
    names = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_FORWARDED", "HTTP_X_REAL_IP")
    environ = told_wsgi(HTTP_X_REQUEST_ID="1", **dict.fromkeys(names, "6.6.6.6"))
    assert not set(names) & set(environ) and environ["HTTP_X_REQUEST_ID"] == "1"


def test_other_scopes_pass_untouched():
    scope = {"type": "lifespan"}
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    asyncio.run(adit.https(app)(scope, None, None))
    assert seen[0] is scope


# --- what an application is ---


async def _asgi(scope, receive, send):
    pass


def _wsgi(environ, start_response):
    return []


class _AsgiObject:
    state = "of the application"

    async def __call__(self, scope, receive, send):
        pass


class _AsgiByHand:
    def __call__(self, scope, receive, send):
        return _asgi(scope, receive, send)


class _WsgiObject:
    def __call__(self, environ, start_response):
        return []


class _WsgiClass:
    def __init__(self, environ, start_response):
        self.answer = []

    def __iter__(self):
        return iter(self.answer)


def _asgi_more(option, scope, receive, send):
    return _asgi(scope, receive, send)


@pytest.mark.parametrize(
    "app",
    [
        _asgi,
        _AsgiObject(),
        _AsgiObject().__call__,
        _AsgiByHand(),
        functools.partial(_asgi_more, 1),
        functools.partial(_asgi),
    ],
)
def test_an_asgi_application_is_found_to_be_one(app):
    import inspect

    assert inspect.iscoroutinefunction(adit.https(app).__call__), "as servers look for it"


@pytest.mark.parametrize("app", [_wsgi, _WsgiObject(), _WsgiObject().__call__, _WsgiClass, lambda e, s: []])
def test_a_wsgi_application_is_found_to_be_one(app):
    assert list(adit.https(app)({}, None)) == []


@pytest.mark.parametrize("app", [lambda *a: None, lambda a: None, lambda: None, lambda a, b, c=1: None, print])
def test_what_does_not_show_what_it_is_has_to_be_told(app):
    with pytest.raises(InvalidError, match="interface="):
        adit.https(app)
    adit.https(app, interface="wsgi")
    adit.https(app, interface="asgi")


def test_wrong_arguments_are_told():
    for wrong in (None, "main:app", types.SimpleNamespace()):
        with pytest.raises(InvalidError, match=r"app: .* cannot be called"):
            adit.https(wrong)
    with pytest.raises(InvalidError, match="interface: 'fcgi'"):
        adit.https(_asgi, interface="fcgi")
    for wrong in (True, 0, 65536, "", "unix:app.sock", "http", "http://a:80", "a:", "a:65536", 1.5):
        with pytest.raises(InvalidError, match=r"proxy_protocol: .* is no port"):
            adit.https(_asgi, proxy_protocol=wrong)
    with pytest.raises(InvalidError, match="agents: "):
        adit.https(_asgi, proxy_protocol=1, agents="10.0.0.0/33")
    with pytest.raises(InvalidError, match=r"agents: .*proxy_protocol"):
        adit.https(_asgi, agents="10.0.0.0/8")


def test_the_wrapped_passes_for_the_application():
    wrapped = adit.https(_AsgiObject())
    assert wrapped.state == "of the application" and "_AsgiObject" in repr(wrapped)
    with pytest.raises(AttributeError):
        _ = wrapped.nothing


# --- the header ---


def read(data):
    """As from a stream that never ends early: the source, and that not a byte more was asked for than there is."""
    have = 0
    while have < (wanted := _visitors.header_bytes(data[:have])):
        assert wanted <= len(data), "more is asked for than belongs to it"
        have = wanted
    assert have == len(data)
    return _visitors.header_source(data)


def test_headers_are_read_to_their_last_byte():
    assert read(header()) == ("203.0.113.9", 4711)
    assert read(header("2001:db8::7", 65535)) == ("2001:db8::7", 65535)
    assert read(header("::ffff:203.0.113.9", 1)) == ("203.0.113.9", 1)
    assert read(header(extra=b"\1\0\x08http/1.1" + bytes(100))) == ("203.0.113.9", 4711)
    assert read(SIGNATURE + b"\x20\0\0\0") is None
    assert read(SIGNATURE + b"\x20\x11\0\x05hello") is None


def test_headers_out_of_form_are_refused_at_their_first_wrong_byte():
    good = header()
    for at in range(14):
        wrong = bytearray(good[: at + 1])
        wrong[at] ^= 0x44
        if at < 12:
            with pytest.raises(_visitors.Malformed):
                _visitors.header_bytes(bytes(wrong))
        assert _visitors.header_bytes(good[:at]) == 16
    for kind, family, length in [
        (0x21, 0x11, 11), (0x21, 0x21, 35), (0x21, 0x00, 12), (0x21, 0x12, 12), (0x21, 0x22, 36), (0x21, 0x31, 216),
        (0x22, 0x11, 12), (0x11, 0x11, 12), (0x01, 0x11, 12), (0x21, 0x11, 521), (0x20, 0x00, 65535), (0x2F, 0x11, 12),
    ]:  # fmt: skip
        with pytest.raises(_visitors.Malformed):
            _visitors.header_bytes(SIGNATURE + struct.pack("!BBH", kind, family, length))
    assert _visitors.header_bytes(SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 520)) == 536
    for wrong in (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"\r\n\r\n\0\r\nQUIX"):
        with pytest.raises(_visitors.Malformed):
            _visitors.header_bytes(wrong[:16])


# --- servers ---


@pytest.fixture
def expecting():
    """Ports of this test are forgotten, but what is wrapped stays wrapped."""
    yield
    _visitors._ports.agents.clear()
    _visitors._ports._warned_s.clear()


def addresses(environ, start_response):
    body = f"{environ['REMOTE_ADDR']} {environ['wsgi.url_scheme']}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def wsgi_server(expecting):
    """wsgi_server(proxied=True) is a server of the standard library: its port."""
    servers = []

    def start(proxied=True, **options):
        server = make_server("127.0.0.1", 0, None, handler_class=_Quiet)
        if proxied:
            options["proxy_protocol"] = server.server_port
        server.set_app(adit.https(validator(addresses), interface="wsgi", **options))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class _Loop:
    """A server of asyncio in a thread of its own, which tells each connection who it is and what it said."""

    def __init__(self, **options):
        self.loop, self.ready = asyncio.new_event_loop(), threading.Event()
        self.options = options
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        assert self.ready.wait(DEADLINE_S)

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.listen())
        self.loop.run_forever()

    async def listen(self):
        if "path" in self.options:
            await asyncio.start_unix_server(self.serve, **self.options)
        else:
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0, **self.options)
            self.port = server.sockets[0].getsockname()[1]
        self.ready.set()

    async def serve(self, reader, writer):
        said = await reader.readexactly(5)
        named = writer.get_extra_info("peername"), writer.get_extra_info("socket").getpeername()
        writer.write(repr((*named, _visitors.current(), said)).encode())
        writer.close()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


@pytest.fixture
def loop_server(expecting, request):
    def start(**options):
        server = _Loop(**options)
        request.addfinalizer(server.close)
        return server

    return start


def say(where, data, piece=1 << 16, source=None):
    """What comes back until the end; None when it is refused."""
    if isinstance(where, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(where)
    else:
        sock = socket.create_connection(("127.0.0.1", where), DEADLINE_S, source_address=source)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    got = b""
    with sock:
        sock.settimeout(DEADLINE_S)
        try:
            for at in range(0, len(data), piece):
                sock.sendall(data[at : at + piece])
            while more := sock.recv(65536):
                got += more
        except (ConnectionResetError, BrokenPipeError):
            pass
    return got or None


REQUEST = b"GET / HTTP/1.0\r\nHost: abc.r1.test\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"


def body(answer):
    return answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_a_server_of_the_standard_library_tells_the_visitor(wsgi_server, piece):
    port = wsgi_server()
    assert body(say(port, header() + REQUEST, piece)) == b"203.0.113.9 https"
    assert body(say(port, header("2001:db8::7") + REQUEST, piece)) == b"2001:db8::7 https"
    assert body(say(port, SIGNATURE + b"\x20\0\0\0" + REQUEST, piece)) == b"127.0.0.1 https", "of nobody"


def test_without_the_option_no_header_is_read(wsgi_server):
    other = wsgi_server()
    port = wsgi_server(proxied=False)
    assert body(say(port, REQUEST)) == b"127.0.0.1 https"
    assert b"203.0.113.9" not in (say(port, header() + REQUEST) or b"")
    assert body(say(other, header() + REQUEST)) == b"203.0.113.9 https"


class _Ends:
    """An end, by a reset or not."""

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        return kind is not None and issubclass(kind, OSError) and not issubclass(kind, TimeoutError)


WRONG = [
    REQUEST,
    b"",
    header()[:20],
    b"\r\n\r\n",
    header(kind=0x31) + REQUEST,
    b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n" + REQUEST,
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_of_the_standard_library_refuses_whom_no_tunnel_brings(wsgi_server, wrong):
    port = wsgi_server()
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock, _Ends():
        sock.sendall(wrong)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(65536) == b""
    assert body(say(port, header() + REQUEST)) == b"203.0.113.9 https", "others go on"


def test_a_visitors_own_header_behind_the_tunnels_is_not_read(wsgi_server, loop_server):
    assert b"9.9.9.9" not in (say(wsgi_server(), header() + header("9.9.9.9") + REQUEST) or b"")
    server = loop_server()
    _visitors.expect(server.port, [])
    got = say(server.port, header() + header("9.9.9.9"))
    assert b"9.9.9.9" not in got and repr(SIGNATURE[:5]).encode() in got


def test_who_never_says_a_word_is_not_waited_for_long(wsgi_server, monkeypatch, records):
    monkeypatch.setattr(_visitors, "DEADLINE_S", 0.2)
    port = wsgi_server()
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S):
        assert body(say(port, header() + REQUEST)) == b"203.0.113.9 https"
    records.wait(30, f"port {port}: closed a connection from 127.0.0.1: it sent no PROXY header in time")


def test_a_loops_server_tells_the_visitor_to_whoever_asks(loop_server):
    server = loop_server()
    assert eval(say(server.port, b"hello"))[2:] == (None, b"hello"), "not expected yet"
    _visitors.expect(f"localhost:{server.port}", [])
    _visitors.expect(1, [])
    server = loop_server()
    _visitors.expect(server.port, [])
    for piece in (1, 5, 1 << 16):
        visitor = ("203.0.113.9", 4711)
        assert eval(say(server.port, header() + b"hello", piece)) == (visitor, visitor, visitor, b"hello")
    own = eval(say(server.port, SIGNATURE + b"\x20\0\0\0hello"))
    assert own[0] == own[1] and own[0][0] == "127.0.0.1" and own[2:] == (None, b"hello")


@pytest.mark.parametrize("wrong", WRONG)
def test_a_loops_server_refuses_whom_no_tunnel_brings(loop_server, wrong):
    _visitors.expect(1, [])
    server = loop_server()
    _visitors.expect(server.port, [])
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as sock, _Ends():
        sock.sendall(wrong)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(65536) == b""
    assert b"203.0.113.9" in say(server.port, header() + b"hello"), "others go on"


def test_a_loop_does_not_wait_for_who_says_nothing(loop_server, monkeypatch):
    _visitors.expect(1, [])
    server = loop_server()
    _visitors.expect(server.port, [])
    silent = [socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) for _ in range(10)]
    assert b"203.0.113.9" in say(server.port, header() + b"hello")
    for sock in silent:
        with sock, _Ends():
            assert sock.recv(1) == b""


def test_only_agents_are_believed(loop_server, wsgi_server, monkeypatch, records):
    """What comes from elsewhere is closed, unless it is named. (127.0.0.2 plays another machine.)"""
    monkeypatch.setattr(ipaddress.IPv4Address, "is_loopback", property(lambda self: str(self) == "127.0.0.1"))
    _visitors.expect(1, [])
    server, elsewhere = loop_server(), ("127.0.0.2", 0)
    for agents, welcome in ([], False), (["127.0.0.2/32", "10.0.0.0/8"], True):
        _visitors.expect(server.port, agents)
        assert bool(say(server.port, header() + b"hello", source=elsewhere)) is welcome
        assert say(server.port, header() + b"hello")
        port = wsgi_server(agents=agents)
        assert bool(say(port, header() + REQUEST, source=elsewhere)) is welcome
    records.wait(30, "closed a connection from 127.0.0.2: it is no agent")


def test_unix_sockets_have_visitors_too(box, loop_server):
    path = box.file("app.sock")
    _visitors.expect(f"unix:{path}", [])
    loop_server(path=path)
    visitor = ("203.0.113.9", 4711)
    assert eval(say(path, header() + b"hello")) == (visitor, visitor, visitor, b"hello")
    assert say(path, b"hello") is None


def test_a_protocol_with_a_buffer_of_its_own_is_fed(expecting):
    got = []

    class Buffered(asyncio.BufferedProtocol):
        def connection_made(self, transport):
            self.transport, self.buffer = transport, bytearray(3)
            got.append(transport.get_extra_info("peername"))

        def get_buffer(self, hint):
            return self.buffer

        def buffer_updated(self, n):
            got.append(bytes(self.buffer[:n]))
            if b"".join(got[1:]) == b"hello":
                self.transport.close()

    async def run():
        _visitors.expect(1, [])
        server = await asyncio.get_running_loop().create_server(Buffered, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        _visitors.expect(port, [])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(header() + b"hello")
        assert await reader.read() == b""
        writer.close()
        server.close()

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))
    assert got[0] == ("203.0.113.9", 4711) and b"".join(got[1:]) == b"hello"


def test_through_a_tunnel_the_visitors_address_arrives(client, wsgi_server, relay, visitor, box):
    port = wsgi_server()
    with adit.forward(port, client=client, proxy_protocol=True) as tunnel:
        v = visitor(tunnel)
        v.sendall(REQUEST)
        got = b""
        while more := v.recv(65536):
            got += more
    assert body(got) == b"127.0.0.1 https"


def test_a_tunnel_without_the_header_is_told_of_by_the_log(client, wsgi_server, visitor, records):
    """And no visitor gets the chance to bring one of his own."""
    port = wsgi_server()
    with adit.forward(port, client=client) as tunnel:
        v = visitor(tunnel)
        v.sendall(REQUEST)
        with _Ends():
            assert not v.recv(65536)
        records.wait(30, r"no PROXY v2 header .let it come through forward\(..., proxy_protocol=True\)")
