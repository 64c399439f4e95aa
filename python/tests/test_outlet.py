"""What a function with ``network=[...]`` reaches, and by no trick more: its proxy as a hostile container asks it."""

import asyncio
import contextlib
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adit.functions import hosts, way_out
from adit.functions.foreman import outlet as outlet_module
from adit.functions.foreman.outlet import Outlet


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        said = f"{self.path} of {self.headers['Host']} {self.headers.get('Proxy-Authorization')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(address):
    with ThreadingHTTPServer((address, 0), Page) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made.server_address[1]
        made.shutdown()


@pytest.fixture
def server():
    with serving("127.0.0.2") as port:
        yield port


@pytest.fixture
def outlet(box, monkeypatch):
    """start(*rules) -> its settings for programs, as a container has them."""
    monkeypatch.setattr(way_out, "OUTLET", box.file("outlet.sock"))
    with contextlib.ExitStack() as stack:

        def start(*rules):
            ready = threading.Event()
            ends = []

            async def serve():
                server = await Outlet(hosts.read_rules(rules)).listen(way_out.OUTLET)
                loop, over = asyncio.get_running_loop(), asyncio.Event()
                ends.append(lambda: loop.call_soon_threadsafe(over.set))
                ready.set()
                await over.wait()
                server.close()

            thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
            thread.start()
            ready.wait()
            stack.callback(thread.join)
            stack.callback(ends[0])
            settings = {}
            way_out.start(settings)
            return settings

        yield start


def curl(settings, *words):
    done = subprocess.run(["curl", "-sS", "-m", "10", *words], env=settings, capture_output=True, text=True)
    return done.stdout + done.stderr


def say(text):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(way_out.OUTLET)
        s.settimeout(20)
        s.sendall(text)
        got = b""
        while part := s.recv(65536):
            got += part
        return got


def test_what_is_named_is_reached(outlet, server):
    settings = outlet(f"127.0.0.2:{server}")
    at = f"127.0.0.2:{server}"
    assert curl(settings, f"http://{at}/a?b=1") == f"/a?b=1 of {at} None"
    assert curl(settings, "-p", f"http://{at}/tunnel") == f"/tunnel of {at} None"
    assert curl(settings, "-U", "user:secret", f"http://{at}/") == f"/ of {at} None"


@pytest.mark.parametrize("way", [[], ["-p"]], ids=["request", "tunnel"])
@pytest.mark.parametrize(
    "rules", [["127.0.0.2:1"], ["127.0.0.3"], ["example.com"], ["0.0.0.0/0"], ["0.0.0.0/1"], ["::/0"]]
)
def test_what_is_not_named_is_not_reached(outlet, server, rules, way):
    said = curl(outlet(*rules), *way, f"http://127.0.0.2:{server}/")
    assert "403" in said if way else said == f"adit: 127.0.0.2:{server} is not in the function's network=[...]\n"


@pytest.mark.parametrize(
    "host",
    ["2130706434", "0x7f.2", "127.2", "0177.0.0.2", "[::ffff:127.0.0.2]", "[::ffff:7f00:2]", "127.0.0.2.", "localhost"],
)
def test_no_dress_of_an_address_is_let_through(outlet, server, host):
    outlet("example.com", "0.0.0.0/0", "::/0")
    for text in (f"CONNECT {host}:{server} HTTP/1.1\r\n\r\n", f"GET http://{host}:{server}/ HTTP/1.1\r\n\r\n"):
        assert say(text.encode()).startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 ")), text


@pytest.mark.parametrize(
    "text",
    [
        b"\r\n\r\n",
        b"CONNECT\r\n\r\n",
        b"CONNECT 127.0.0.2 HTTP/1.1\r\n\r\n",
        b"CONNECT x@127.0.0.2:1 HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.2:1/x HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.2:99999 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n",
        b"GET ftp://127.0.0.2/ HTTP/1.1\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\n\r\n",
        b"GET http://127.0.0.2/ x HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00 \x00 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(outlet, text):
    outlet("127.0.0.2")
    assert say(text).startswith(b"HTTP/1.1 400 ")


def test_a_head_that_does_not_end_is_not_kept(outlet):
    outlet("127.0.0.2")
    assert say(b"GET http://127.0.0.2/ HTTP/1.1\r\n" + b"x: y\r\n" * 20_000) == b""


def test_a_name_that_leads_to_what_is_private_is_refused(outlet, server):
    """And reached once its address is named as well."""
    said = curl(outlet("localhost"), "--noproxy", "", f"http://localhost:{server}/")
    assert said.startswith("adit: localhost has no public address (") and "name its block" in said
    with serving("127.0.0.1") as port:
        said = curl(outlet("localhost", "127.0.0.1"), "--noproxy", "", f"http://localhost:{port}/")
    assert said == f"/ of localhost:{port} None"


@pytest.mark.parametrize(
    "private",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "0.0.0.0", "224.0.0.1"),
        *("::1", "fd00:ec2::254", "fe80::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1"),
        *("fec0::1", "::10.0.0.1", "::ffff:0:10.0.0.1", "5f00::1", "3fff::1", "ff0e::1"),
    ],
)
def test_a_name_that_is_rebound_is_dialled_where_it_was_checked(outlet, monkeypatch, private):
    """Its first answer is public, and the next one is not: there is no next one."""
    asked, dialled = [], []

    async def look_up(host, *_):
        asked.append(host)
        return [hosts.address(a) for a in (["93.184.216.34", private] if len(asked) == 1 else [private])]

    async def dial(host, port):
        dialled.append(host)
        raise ConnectionRefusedError(111, "refused")

    outlet("rebind.example", "0.0.0.0/0", "::/0")
    monkeypatch.setattr(outlet_module, "_look_up", look_up)
    monkeypatch.setattr(outlet_module.asyncio, "open_connection", dial)
    text = b"CONNECT rebind.example:443 HTTP/1.1\r\n\r\n"
    assert say(text).startswith(b"HTTP/1.1 502 ") and dialled == ["93.184.216.34"] and asked == ["rebind.example"]
    assert say(text).startswith(b"HTTP/1.1 403 ") and dialled == ["93.184.216.34"]


def test_a_name_does_not_lead_to_an_address_of_this_machine_that_is_public(outlet, monkeypatch):
    """Only the list does, and by that very address: whoever listens at all of the machine's addresses did not mean to
    be reached by what runs on it."""
    own, dialled = "93.184.216.34", []

    async def look_up(*_):
        return [hosts.address(own)]

    async def dial(host, port):
        dialled.append(host)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(hosts, "is_own", lambda at: str(at) == own)
    monkeypatch.setattr(outlet_module, "_look_up", look_up)
    monkeypatch.setattr(outlet_module.asyncio, "open_connection", dial)
    outlet("own.example", "0.0.0.0/0", "93.184.216.0/24")
    for host in ("own.example", own):
        assert say(f"CONNECT {host}:80 HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 403 ") and not dialled
    assert hosts.read_rule(own).has(hosts.address(own), 80)


def test_which_addresses_are_this_machines():
    assert hosts.is_own(hosts.address("127.0.0.1")) and hosts.is_own(hosts.address("127.3.2.1"))
    assert not hosts.is_own(hosts.address("93.184.216.34")) and not hosts.is_own(hosts.address("2606:4700::1111"))


def test_names_that_nobody_answers_for_keep_nobody_else_waiting(monkeypatch):
    """Neither the foreman's other threads nor the names of other containers."""
    told = threading.Event()

    def look_up(host, *_, **__):
        if host == "stalled.example":
            told.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443))]

    async def ask():
        one, other = (Outlet(hosts.read_rules(["stalled.example", "example.com"])) for _ in range(2))
        stalled = [asyncio.ensure_future(one._addresses("stalled.example", 443)) for _ in range(64)]
        try:
            assert await asyncio.wait_for(other._addresses("example.com", 443), 5) == [hosts.address("93.184.216.34")]
            assert await asyncio.wait_for(asyncio.to_thread(str, "free"), 5) == "free"
        finally:
            told.set()
        await asyncio.gather(*stalled)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asyncio.run(ask())


def test_a_name_that_is_not_named_is_not_looked_up(outlet, monkeypatch):
    """Its owner would be told whatever the name says."""

    async def look_up(host, *_):
        raise AssertionError(host)

    monkeypatch.setattr(outlet_module, "_look_up", look_up)
    outlet("example.com", "10.0.0.0/8")
    for name in ("secret.attacker.example", "example.com.attacker.example", "notexample.com", "a.example.com"):
        assert say(f"CONNECT {name}:443 HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("rule", "name", "port", "is_named"),
    [
        ("example.com", "example.com", 1, True),
        ("Example.COM.", "example.com", 443, True),
        ("example.com:443", "example.com", 80, False),
        ("*.example.com", "a.b.example.com", 80, True),
        ("*.example.com", "example.com", 80, False),
        ("*.example.com", "notexample.com", 80, False),
        ("localhost", "localhost", 80, True),
        ("10.0.0.0/8", "10.0.0.1", 80, False),
    ],
)
def test_names(rule, name, port, is_named):
    assert hosts.read_rule(rule).names(name, port) is is_named


@pytest.mark.parametrize(
    ("rule", "at", "port", "has"),
    [
        ("10.0.0.0/8", "10.1.2.3", 1, True),
        ("10.0.0.0/7", "10.1.2.3", 1, False),
        ("10.1.2.3:5432", "10.1.2.3", 5432, True),
        ("10.1.2.3:5432", "10.1.2.3", 5433, False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", 1, True),
        ("::ffff:10.1.2.3", "10.1.2.3", 1, True),
        ("[::ffff:a01:203]:80", "::ffff:10.1.2.3", 80, True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", 1, True),
        ("::ffff:0.0.0.0/96", "10.1.2.3", 1, False),
        ("::/0", "10.1.2.3", 1, False),
        ("::ffff:10.1.2.3", "10.1.2.4", 1, False),
        ("169.254.169.254", "169.254.169.254", 80, True),
        ("0.0.0.0/0", "93.184.216.34", 80, True),
        ("0.0.0.0/0", "169.254.169.254", 80, False),
        ("[fd00::1]:80", "fd00::1", 80, True),
        ("[fd00::1]:80", "fd00::1", 81, False),
        ("fd00::/8", "fd12::1", 81, True),
        ("2001:db8::/32", "2001:db9::1", 81, False),
    ],
)
def test_blocks(rule, at, port, has):
    assert hosts.read_rule(rule).has(hosts.address(at), port) is has


def test_what_the_function_says_of_proxies_itself_stays(outlet):
    settings = {"HTTP_PROXY": "http://own.example:1"}
    outlet("example.com")
    way_out.start(settings)
    assert settings["HTTP_PROXY"] == "http://own.example:1" and settings["https_proxy"].startswith("http://127.0.0.1:")


def test_too_many_at_once_are_refused(outlet):
    outlet("127.0.0.2")
    with contextlib.ExitStack() as stack:
        for _ in range(outlet_module.CONNECTIONS):
            s = stack.enter_context(socket.socket(socket.AF_UNIX))
            s.connect(way_out.OUTLET)
            s.sendall(b"GET")
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(way_out.OUTLET)
            one.settimeout(20)
            with contextlib.suppress(ConnectionError):
                assert one.recv(1) == b""
    assert say(b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
