"""Apps elsewhere than on a port of 127.0.0.1, what they are called, who is let in to them, and how long they are waited
for."""

import os
import queue

import pytest
from kit.app import echo, ipv6_alone, read_exactly
from kit.process import DEADLINE_S
from kit.tls import how_it_ends

import adit
from adit import forward
from adit.exception import InvalidError


def says(visitor, text):
    visitor.sendall(text)
    return read_exactly(visitor, len(text)) == text


def test_a_program_on_the_ipv6_loopback_alone(client, app, visitor, box):
    v6 = ipv6_alone(box, lambda: app(echo, host="::1"))
    for tunnel in (forward(v6.port, client=client), forward(v6.port, host="::1", client=client)):
        with tunnel as opened:
            assert says(visitor(opened), b"six")


@pytest.mark.parametrize(
    "given", [("127.0.0.1:{}", None), ("localhost:{}", None), (None, "127.0.0.1"), (None, "localhost")]
)
def test_a_port_of_a_host(client, app, visitor, given):
    port = app(echo).port
    text, host = given
    with client.forward(text.format(port) if text else port, host=host) as tunnel:
        assert says(visitor(tunnel), b"found")
        assert tunnel.app == (text or f"{host}:{{}}").format(port)


def test_a_unix_socket(client, app, visitor, box):
    a = app(echo, host=f"unix:{box.file('app.sock')}")
    with client.forward(a.port) as tunnel:
        assert says(visitor(tunnel), b"by its path")
        assert tunnel.app == a.port and adit.tunnels(a.port) == [tunnel]


def test_an_abstract_unix_socket(client, app, visitor):
    with client.forward(app(echo, host=f"unix:@adit-python-{os.getpid()}").port) as tunnel:
        assert says(visitor(tunnel), b"by its name")


def test_a_relative_path_is_of_the_folder_where_it_was_given(client, app, visitor, box, monkeypatch):
    a = app(echo, host=f"unix:{box.file('app.sock')}")
    monkeypatch.chdir(box.path)
    opening = client.forward("unix:app.sock")
    monkeypatch.chdir("/")
    with opening as tunnel:
        assert says(visitor(tunnel), b"still there")
        assert tunnel.app == a.port


@pytest.mark.parametrize(
    "app", ["", "db", "db:0", "unix:", "unix:/run/", "http://localhost:8000", "unix:/" + 107 * "x", "a\0b:80"]
)
def test_an_app_that_is_none(client, app):
    with pytest.raises(InvalidError), client.forward(app):
        pass


@pytest.mark.parametrize("host", ["", 5, b"db"], ids=repr)
def test_a_host_that_is_none(client, host):
    with pytest.raises(InvalidError, match=r"host: .* is no name or address"):
        client.forward(8000, host=host)


def test_a_host_is_given_once(client):
    with pytest.raises(InvalidError, match="not an int"):
        client.forward("db:8000", host="db")


def test_how_to_close_what_has_a_name_is_said_by_it(client, box):
    with client.forward(f"unix:{box.file('a.sock')}", name="shop") as tunnel:
        assert (tunnel.name, adit.tunnels("shop")) == ("shop", [tunnel])
        assert repr(tunnel) == f"<adit.Tunnel {tunnel.url} of shop at {tunnel.app}, open>"
        with pytest.raises(InvalidError, match=r"adit\.tunnels\('shop'\)\[0\]\.close\(\)"):
            client.forward(tunnel.app).start()


@pytest.mark.parametrize("again", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_one_port_of_this_machine_is_one_however_it_is_written(client, again):
    with (
        client.forward(8000),
        pytest.raises(InvalidError, match=r"forwards it already, at .*adit\.tunnels\(8000\)\[0\]\.close\(\)"),
    ):
        client.forward(again).start()


@pytest.mark.parametrize("name", [5, b"shop", 65 * "n", "a\nb", "a\0b", "\ud800"], ids=repr)
def test_a_name_that_is_none(client, name):
    with pytest.raises(InvalidError), client.forward(8000, name=name):
        pass


def test_the_log_calls_a_tunnel_by_its_name(client, app, visitor, records):
    with client.forward(app(started=False).port, name="shop", app_wait=0) as tunnel:
        assert how_it_ends(visitor(tunnel)) == "reset"
        records.wait(30, r"^shop at localhost:\d+ \(.*: it refused the connection")


def test_who_is_denied(client, app, visitor):
    with client.forward(app(echo).port, allow="127.0.0.0/8", deny=["127.0.0.1", "10.0.0.0/8"]) as tunnel:
        with pytest.raises(OSError, match=r"(?i)unrecognized"):
            visitor(tunnel)
        assert says(visitor(tunnel, source="127.0.0.2"), b"let in")
    for wrong in (5, ["nobody"], [5], 65 * ["10.0.0.0/8"]):
        with pytest.raises(InvalidError, match="deny"), client.forward(8000, deny=wrong):
            pass


def test_an_app_that_is_late(client, app, visitor):
    a, events = app(echo, started=False), queue.SimpleQueue()
    with client.forward(a.port, app_wait=300, on_event=events.put) as tunnel:
        v = visitor(tunnel)
        v.sendall(b"early")
        while (event := events.get(timeout=DEADLINE_S)).kind != "warning":
            pass
        assert "a visitor waits for it" in event.text
        a.start()
        assert read_exactly(v, 5) == b"early"


@pytest.mark.parametrize("app_wait", [601, -1, True, "1", float("nan")], ids=repr)
def test_a_wait_that_cannot_be(client, app_wait):
    with pytest.raises(InvalidError, match="app_wait: "), client.forward(8000, app_wait=app_wait):
        pass
