"""What a tunnel gives, and what is said when it cannot be had."""

import logging
import os
import re
import socket
import threading

import pytest
from kit.app import echo, read_exactly
from kit.http import answer, read_request
from kit.roles import Relay

import adit
from adit import forward
from adit.exception import AuthError, ClosedError, RemoteError


def page(connection):
    while request := read_request(connection):
        answer(connection, "200 OK", f"the page {request.path}".encode())


def test_url_and_sockets(client, relay, app, curl):
    with forward(app(page).port, client=client) as tunnel:
        assert re.fullmatch(rf"https://[a-z0-9]{{20,}}\.{re.escape(relay.domain)}:{relay.port}", tunnel.url)
        assert tunnel.tls_socket == (tunnel.host, tunnel.port) and tunnel.port == relay.port
        assert (tunnel.unencrypted_host, tunnel.unencrypted_port) == ("", 0)
        assert curl(tunnel)(path="/one").stdout == b"the page /one"
        assert client.relay == relay.domain and client.ca_file is None


def test_the_url_leaves_port_443_out():
    assert adit.Tunnel("a.example", 443).url == "https://a.example"
    assert adit.Tunnel("a.example", 8443).url == "https://a.example:8443"


def test_a_raw_port(client, relay, app):
    with forward(app(echo).port, unencrypted=True, client=client) as tunnel:
        assert tunnel.tcp_socket == (tunnel.unencrypted_host, tunnel.unencrypted_port)
        assert tunnel.unencrypted_host == relay.domain
        with socket.create_connection(("127.0.0.1", tunnel.tcp_socket[1])) as visitor:
            visitor.sendall(b"hello")
            assert read_exactly(visitor, 5) == b"hello"


def test_the_token_of_the_environment(token, app, curl, monkeypatch, recwarn):
    monkeypatch.setenv("ADIT_TOKEN", token)
    with forward(app(page).port) as tunnel:
        assert curl(tunnel)(path="/").stdout == b"the page /"
    assert not recwarn.list


def test_the_token_of_the_configuration_file(token, relay, box, app, curl):
    assert box.adit("login", token).returncode == 0
    with forward(app(page).port) as tunnel:
        assert tunnel.host.endswith(relay.domain)
        assert curl(tunnel)(path="/").stdout == b"the page /"


def test_a_relay_that_cannot_be_reached(token):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    with (
        adit.Client(token, relays=[nobody]) as client,
        pytest.raises(RemoteError, match="refused"),
        forward(8000, client=client),
    ):
        pass


def test_a_relay_that_comes_back_is_found_by_the_next_tunnel(client, relay):
    relay.process.kill()
    relay.process.wait()
    with pytest.raises(RemoteError), forward(8000, client=client):
        pass
    relay.restart()
    with forward(8000, client=client):
        pass


def test_a_kept_address_stays_where_it_was_kept(client, relay, box, records, monkeypatch):
    """Also when the program goes to another folder meanwhile."""
    for name in ("here", "elsewhere"):
        os.mkdir(box.file(name))
    monkeypatch.chdir(box.file("here"))
    with forward(8000, client=client, keep="ticket"):
        monkeypatch.chdir(box.file("elsewhere"))
        kept = os.stat(box.file("here/ticket"))
        relay.process.kill()
        relay.process.wait()
        relay.restart()
        records.wait(logging.WARNING, "is back")
    assert os.stat(box.file("here/ticket")).st_mtime_ns > kept.st_mtime_ns
    assert os.listdir(box.file("elsewhere")) == []


def test_a_relay_that_does_not_answer(token, silent):
    with adit.Client(token, relays=[f"127.0.0.1:{silent.port}"]) as client:
        with (
            pytest.raises(RemoteError, match=r"has not answered in time .*timeout="),
            forward(8000, client=client, timeout=0.2),
        ):
            pass


@pytest.fixture
def revoked(relay, records):
    """A token that the relay knows to be revoked, which it has told to the tunnel that was open."""
    token = relay.create_token("alice")
    with adit.Client(token) as client, forward(8000, client=client):
        relay.revoke("alice")
        records.wait(logging.ERROR, "revoked")
    records.records.clear()
    return token


def test_a_token_that_was_revoked(revoked):
    with adit.Client(revoked) as client, pytest.raises(AuthError, match="revoked"), forward(8000, client=client):
        pass


def test_failing_to_open_is_not_told_to_the_log_as_well(revoked, records):
    with adit.Client(revoked) as client, pytest.raises(AuthError), forward(8000, client=client):
        pass
    assert not [r for r in records.records if r.levelno >= logging.WARNING]


def test_a_shared_client_that_was_refused_starts_anew(token, revoked, monkeypatch):
    monkeypatch.setenv("ADIT_TOKEN", revoked)
    with pytest.raises(AuthError), forward(8000):
        pass
    monkeypatch.setenv("ADIT_TOKEN", token)
    with forward(8000):
        pass


def test_another_relays_token(relay, box):
    stranger = Relay(box)
    with (
        adit.Client(stranger.token(), relays=[relay.dial]) as client,
        pytest.raises(AuthError),
        forward(8000, client=client),
    ):
        pass


def test_a_lost_relay_is_told_to_the_log_and_streams_go_on(relay, token, wire, app, visitor, records):
    with adit.Client(token, relays=[wire.dial]) as client, forward(app(echo).port, client=client) as tunnel:
        v = visitor(tunnel)
        v.sendall(b"before")
        assert read_exactly(v, 6) == b"before"
        wire.cut_links()
        records.wait(logging.WARNING, "relay")
        records.wait(logging.WARNING, "back")
        v.sendall(b"after")
        assert read_exactly(v, 5) == b"after"
    assert not [r for r in records.records if r.levelno >= logging.ERROR]


def test_a_token_that_expires_ends_its_tunnels_and_opens_none(relay, app, records):
    brief = relay.create_token("brief", "--expires", "2s")
    with adit.Client(brief) as client, forward(app(echo).port, client=client):
        records.wait(logging.ERROR, "expired")
    with adit.Client(brief) as client, pytest.raises(AuthError, match="expired"), forward(8000, client=client):
        pass


def test_visitors_of_other_addresses_are_kept_out(client, app, curl):
    with forward(app(page).port, client=client, allow="192.0.2.0/24") as tunnel:
        assert curl(tunnel)(path="/").returncode != 0
    with forward(app(page).port, client=client, allow=["192.0.2.0/24", "127.0.0.0/8"]) as tunnel:
        assert curl(tunnel)(path="/").stdout == b"the page /"


def test_a_header_tells_the_visitors_address(client, app, visitor):
    a = app()
    with forward(a.port, client=client, proxy_protocol=True) as tunnel:
        v = visitor(tunnel)
        v.sendall(b"x")
        assert read_exactly(a.accept(), 28 + 1)[:16] == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"


def test_a_kept_address_comes_again(token, app, box, curl):
    file = box.file("ticket")
    addresses = []
    for _ in range(2):
        with adit.Client(token) as client, forward(app(page).port, client=client, keep=file) as tunnel:
            addresses.append(tunnel.url)
            assert curl(tunnel)(path="/").stdout == b"the page /"
    assert addresses[0] == addresses[1]


def test_whoever_comes_later_with_the_same_ticket_supersedes(token, app, box, records):
    file = box.file("ticket")
    with adit.Client(token) as one, forward(app(page).port, client=one, keep=file):
        with adit.Client(token) as two, forward(app(page).port, client=two, keep=file):
            records.wait(logging.ERROR, "another agent has taken over")


@pytest.mark.parametrize(
    "options, offered, chosen",
    [
        ({}, ["h2", "http/1.1"], "http/1.1"),
        ({"h2_enabled": True}, ["http/1.1", "h2"], "h2"),
        ({"alpn": "postgresql"}, ["postgresql"], "postgresql"),
        ({"alpn": ["one", "two"]}, ["two"], "two"),
    ],
    ids=str,
)
def test_protocols_offered_to_visitors(client, app, visitor, options, offered, chosen):
    with forward(app(echo).port, client=client, **options) as tunnel:
        assert visitor(tunnel, alpn=offered).tls.selected_alpn_protocol() == chosen


def test_http2_reaches_the_program_in_clear(client, app, curl):
    a = app()
    with forward(a.port, client=client, h2_enabled=True) as tunnel:
        call = threading.Thread(target=curl(tunnel), args=("--http2", "--max-time", "20"))
        call.start()
        with a.accept() as connection:
            assert read_exactly(connection, 24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        call.join()


def test_a_closed_client_opens_nothing(token):
    client = adit.Client(token)
    client.close()
    client.close()
    assert client.closed
    with pytest.raises(ClosedError, match="closed"), forward(8000, client=client):
        pass


def test_opening_goes_on_until_there_is_a_relay(relay, token, app, records):
    relay.process.stop()
    line = "the tunnel opens as soon as a relay can be reached: "
    with adit.Client(token) as client:
        opening = client.forward(app(echo).port, timeout=0.01, retry=True)
        thread = threading.Thread(target=opening.start)
        thread.start()
        records.wait(logging.WARNING, line)
        relay.restart()
        thread.join()
        assert opening.url
        opening.close()
    assert [line in r.getMessage() for r in records.records if r.levelno >= logging.WARNING] == [True]


def test_opening_goes_on_for_so_long(relay, token):
    relay.process.stop()
    with adit.Client(token) as client:
        for retry in (0.3, 0.1):  # of which each ends only its own tunnel
            with pytest.raises(RemoteError, match="Connection refused"), forward(8000, client=client, retry=retry):
                pass


def test_a_refused_token_is_refused_whoever_waits(revoked):
    with adit.Client(revoked) as client, pytest.raises(AuthError), forward(8000, client=client, retry=True):
        pass
