"""How a foreman finds the relays of a token, and reaches them for its containers."""

import asyncio
import socket
import threading

import pytest
from kit.connect_proxy import ConnectProxy

from adit.functions.foreman import ways as module
from adit.functions.foreman.ways import Way, ways

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def token(relay, box):
    """Of three relays, of which the last is there."""
    done = box.run(
        relay.program, "token", "create", "several", "--state", relay.state,
        *("--relay", "one.test:1"), *("--relay", "two.test"), *("--relay", relay.dial),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def echo():
    """The port of a server that says what it hears."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            try:
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(connection.recv(100))
            except OSError:
                pass

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def says(way):
    async def ask():
        reader, writer = await way.dial()
        writer.write(b"hello")
        heard = await reader.readexactly(5)
        writer.close()
        return heard

    return asyncio.run(ask())


def test_all_relays_of_a_token_are_known(token, relay):
    host, _, port = relay.dial.rpartition(":")
    assert [(way.host, way.port) for way in ways(token)] == [("one.test", 1), ("two.test", 443), (host, int(port))]


def test_a_token_for_one_of_them_is_a_token(token, relay):
    import adit

    last = ways(token)[-1]
    narrowed = last.narrow(token)
    assert ways(narrowed) == [last]
    with adit.Client(narrowed) as client, client.forward(2) as tunnel:
        assert tunnel.host.endswith(client.relay)


def test_what_is_dialled_instead_is_the_relay_of_its_host(token, monkeypatch):
    monkeypatch.setenv("ADIT_RELAY", "two.test:8443")
    (way,) = ways(token)
    assert (way.host, way.port) == ("two.test", 8443)
    monkeypatch.delenv("ADIT_RELAY")
    assert way.entry == ways(token)[1].entry
    monkeypatch.setenv("ADIT_RELAY", "elsewhere.test")
    assert ways(token)[0].entry == ways(way.narrow(token))[0].entry or len(ways(token)) == 1


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_used(box, echo, monkeypatch, name):
    proxy = ConnectProxy(box)
    monkeypatch.setenv(name, f"http://user:pass%20word@{proxy.address}")
    monkeypatch.setattr(module.hosts, "address", lambda _: None)  # 127.0.0.1, which else is dialled straight
    assert says(Way("127.0.0.1", echo)) == b"hello"
    assert "Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=" in proxy.heads[0]


def test_one_of_the_configuration_comes_first(box, echo, monkeypatch):
    proxy = ConnectProxy(box)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setattr(module, "_configured", lambda: f"http://{proxy.address}")
    assert says(Way("127.0.0.1", echo)) == b"hello" and len(proxy.heads) == 1
    monkeypatch.setattr(module, "_configured", lambda: "none")
    assert says(Way("127.0.0.1", echo)) == b"hello" and len(proxy.heads) == 1


def test_a_relay_on_this_machine_is_dialled_straight(echo, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert says(Way("127.0.0.1", echo)) == b"hello"
    monkeypatch.setattr(module, "_configured", lambda: "http://127.0.0.1:1")
    assert says(Way("127.0.0.1", echo, straight=True)) == b"hello"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 No\r\n\r\n", b"", b"SSH-2.0\r\n\r\n", b"x" * 70000 + b"\r\n\r\n"])
def test_a_proxy_that_does_not_let_it_through_is_told(box, monkeypatch, answer):
    proxy = ConnectProxy(box, answer=answer)
    monkeypatch.setattr(module, "_configured", lambda: f"http://{proxy.address}")
    with pytest.raises(OSError, match="the HTTP proxy does not"):
        says(Way("relay.test", 443))


@pytest.mark.parametrize(
    ("no_proxy", "is_spared"),
    [
        ("*", True),
        ("relay.test", True),
        (".test", True),
        ("other.test, test", True),
        ("lay.test", False),
        ("relay.test.org", False),
        ("10.0.0.0/8", False),
        ("", False),
    ],
)
def test_whom_no_proxy_spares(no_proxy, is_spared):
    assert module._is_spared("relay.test", no_proxy) is is_spared


def test_whom_blocks_spare():
    assert module._is_spared("10.1.2.3", "192.168.0.0/16 10.0.0.0/8") and not module._is_spared(
        "11.1.2.3", "10.0.0.0/8"
    )
