"""Wrong arguments are told in one order, each as an InvalidError that says what to do."""

import dataclasses
import fractions

import numpy
import pytest
from kit.app import echo, read_exactly
from kit.connect_proxy import ConnectProxy, basic

import adit
from adit import forward
from adit.exception import ConfigError, Error, InvalidError


@pytest.mark.parametrize("port", ["8000", 8000.0, None, True, False, b"1"], ids=repr)
def test_a_port_that_is_no_int(port):
    with pytest.raises(InvalidError, match=r"port: .* not an int \(such as forward\(8000\)\)"):
        forward(port, h2_enabled=True, unencrypted=True)


class Index:
    def __index__(self):
        return 8000


@pytest.mark.parametrize(
    ("port", "seconds"),
    [(Index(), Index()), (Index(), fractions.Fraction(1, 3)), (numpy.int64(8000), numpy.float32(1.5))],
    ids=["index", "fraction", "numpy"],
)
def test_numbers_of_other_kinds(client, port, seconds):
    with forward(port, client=client, timeout=numpy.int16(10), drain=seconds) as tunnel:
        assert tunnel.app == "localhost:8000" and adit.tunnels(port) == [tunnel]
        assert tunnel.wait(numpy.float64(0)) is None
        tunnel.close(drain=seconds)


@pytest.mark.parametrize("port", [0, -1, 65536, 10**30])
def test_a_port_out_of_range(port):
    with pytest.raises(InvalidError, match=rf"port: {port} is not within 1\.\.65535"):
        forward(port, h2_enabled=True, unencrypted=True)


def test_h2_with_a_raw_port():
    with pytest.raises(InvalidError, match=r"h2_enabled: .*unencrypted=True"):
        forward(8000, h2_enabled=True, unencrypted=True)


def test_a_port_that_this_client_forwards_already(client, token):
    with forward(8000, client=client) as first:
        with pytest.raises(InvalidError, match=r"port 8000: this client forwards it already"), client.forward(8000):
            pass
        with adit.Client(token) as other, forward(8000, client=other) as second:
            assert second.host != first.host
    with forward(8000, client=client) as again:
        assert again.host != first.host


def test_a_raw_socket_that_was_not_asked_for(client):
    with forward(8000, client=client) as tunnel, pytest.raises(InvalidError, match=r"tcp_socket: .*unencrypted=True"):
        _ = tunnel.tcp_socket


@pytest.mark.parametrize(
    "options",
    [
        {"allow": ["nowhere"]},
        {"allow": 5},
        {"allow": ["10.0.0.0/8\0"]},
        {"alpn": ["x" * 300]},
        {"alpn": [1]},
        {"drain": -1},
        {"drain": "1"},
        {"timeout": float("nan")},
        {"timeout": True},
        {"client": "token"},
        {"keep": 5},
        {"keep": ""},
    ],
    ids=repr,
)
def test_other_options(client, options):
    with pytest.raises(InvalidError), forward(8000, **{"client": client, **options}):
        pass
    with forward(8000, client=client):
        pass


def test_a_port_by_a_name_of_its_own(client, app, visitor):
    """Such as of an IntEnum, whose text is another."""

    class Named(int):
        def __str__(self):
            return "the port"

    with forward(Named(app(echo).port), client=client) as tunnel:
        v = visitor(tunnel)
        v.sendall(b"hello")
        assert read_exactly(v, 5) == b"hello"


@pytest.mark.parametrize("alpn", ["h2", ["h2"], ["http/1.1", "h2"], "http/1.1, h2"], ids=repr)
def test_h2_among_the_protocols(client, alpn):
    with pytest.raises(InvalidError, match=r"alpn: h2 has an option of its own \(use h2_enabled=True\)"):
        client.forward(8000, alpn=alpn)


def test_a_keep_file_that_cannot_be(client):
    for path in ("/nowhere/ticket", "/dev/null"):
        with pytest.raises(ConfigError, match="keep file"), client.forward(8000, keep=path):
            pass


def test_authorities_that_are_not_there(token):
    with pytest.raises(ConfigError, match=r"authorities /nowhere: "):
        adit.Client(token, ca_file="/nowhere")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"proxy": "socks5://u:hunter2@x"}, "SOCKS is not spoken here"),
        ({"proxy": "http://u:hunter2@x:y"}, "its address cannot be read"),
        ({"proxy": b"http://u:hunter2@x"}, "proxy: bytes given"),
        ({"proxy": ""}, "proxy: empty"),
        ({"data": "fast"}, r'data: "fast" \(give auto, plain or tls\)'),
        ({"data": 1}, "data: int given"),
    ],
    ids=repr,
)
def test_a_proxy_or_a_way_of_data_that_cannot_be(token, given, why):
    with pytest.raises(InvalidError, match=why) as raised:
        adit.Client(token, **given)
    assert "hunter2" not in str(raised.value)


def test_relays_are_reached_through_the_proxy(relay, token, box, monkeypatch):
    """The one that is given; the environment's does not hold for a relay on loopback."""
    proxy = ConnectProxy(box)
    with (
        adit.Client(token, proxy=f"http://u:p%40ss@{proxy.address}", data="tls") as client,
        forward(8000, client=client),
    ):
        assert proxy.wait_heads(1)[0].startswith(f"CONNECT {relay.dial} HTTP/1.1")
        assert f"Proxy-Authorization: {basic('u', 'p@ss')}" in proxy.heads[0]
    unused = ConnectProxy(box)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{unused.address}")
    for given in ({}, {"proxy": "none"}):
        with adit.Client(token, **given) as client, forward(8000, client=client):
            pass
    assert not unused.heads
    monkeypatch.setenv("ALL_PROXY", "http://u:hunter2@127.0.0.1:x")
    monkeypatch.delenv("HTTPS_PROXY")
    far = relay.create_token(box.unique("far"), dial="r1.invalid:443")
    with pytest.raises(ConfigError, match="ALL_PROXY: its address cannot be read") as raised:
        adit.Client(far)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("retry", [0, -1, "5", "yes", float("nan"), 10**9], ids=repr)
def test_a_time_to_retry_that_is_none(retry):
    with pytest.raises(InvalidError, match=r"^retry: "):
        forward(8000, retry=retry)


@pytest.mark.parametrize("relays", [5, [5], None, [None]], ids=repr)
def test_relays_that_are_no_words(token, relays):
    with pytest.raises(InvalidError, match="relays: "):
        adit.Client(token, relays=relays)


def test_a_relay_without_a_token(monkeypatch):
    with pytest.raises(ConfigError, match="a relay is given but no token"):
        adit.Client(relays="127.0.0.1:1")
    monkeypatch.setenv("ADIT_RELAY", "127.0.0.1:1")
    with pytest.raises(ConfigError, match="a relay is given but no token"), forward(8000):
        pass


@pytest.mark.parametrize("name", ["ADIT_TOKEN", "ADIT_RELAY", "ADIT_EMBEDDED"])
def test_a_variable_that_is_set_but_empty_is_missing(monkeypatch, name):
    """And is not taken for one that nobody wanted: that would give an address that works on this machine only."""
    monkeypatch.setenv(name, "")
    with pytest.raises(ConfigError, match=f"^{name}: it is set but empty"), forward(8000):
        pass


def test_a_home_folder_that_is_set_but_empty(monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    with pytest.raises(ConfigError, match=r"^HOME: it is set but empty"):
        adit.Client()


def test_an_empty_variable_beside_what_is_given(client, token, monkeypatch):
    monkeypatch.setenv("ADIT_TOKEN", "")
    with adit.Client(token):
        pass
    monkeypatch.setenv("ADIT_RELAY", "")
    with adit.Client(token, relays="127.0.0.1:9"):
        pass
    with pytest.raises(ConfigError, match=r"^ADIT_RELAY: it is set but empty"):
        adit.Client(token)


@pytest.mark.parametrize("options", [{"alpn": ""}, {"allow": ""}, {"keep": ""}], ids=repr)
def test_an_option_that_is_given_but_empty(client, options):
    name = next(iter(options))
    with pytest.raises((InvalidError, ConfigError), match=f"(?i)^{name}"), client.forward(8000, **options):
        pass


def test_the_relay_to_dial(relay, box, monkeypatch):
    """One address is no list of letters; the environment's goes before the token's, and what is given before both."""
    token = relay.token(dial="127.0.0.1:9")
    with adit.Client(token, relays=relay.dial) as given, forward(8000, client=given):
        pass
    monkeypatch.setenv("ADIT_RELAY", relay.dial)
    with adit.Client(token) as by_environment, forward(8000, client=by_environment):
        pass
    monkeypatch.setenv("ADIT_RELAY", "nonsense:x")
    with pytest.raises(ConfigError, match=r"^ADIT_RELAY: "):
        adit.Client(token)
    monkeypatch.setenv("ADIT_RELAY", "127.0.0.1:9")
    with adit.Client(token, relays=[relay.dial]) as given, forward(8000, client=given):
        pass


@pytest.mark.parametrize("token", ["", "nonsense", "adit1_AAAA", [], [5], b"adit1_", 5], ids=repr)
def test_a_token_that_is_none(token):
    with pytest.raises(ConfigError, match="token"):
        adit.Client(token)


def test_every_exception_is_an_error_of_the_package():
    found = [
        c for c in vars(adit.exception).values() if isinstance(c, type) and issubclass(c, Exception) and c is not Error
    ]
    assert {c.__name__ for c in found if not issubclass(c, Error)} == {"EmbeddedRelayWarning"}
    assert len(found) == 13


def test_a_tunnel_is_frozen(client):
    with forward(8000, client=client) as tunnel, pytest.raises(dataclasses.FrozenInstanceError):
        tunnel.host = "other"


def test_everything_is_documented():
    for thing in (adit, forward, adit.Client, adit.Forward, adit.Tunnel, adit.exception):
        assert thing.__doc__
    for name in ("url", "tls_socket", "tcp_socket"):
        assert getattr(adit.Tunnel, name).__doc__
