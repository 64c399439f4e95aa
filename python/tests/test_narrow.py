"""Tokens for somebody who is to do less."""

import contextlib
import inspect
import json
import os
import re
import sqlite3
import threading
import time

import pytest
from conftest import ended
from kit.app import echo, read_exactly
from kit.rights import wants_them_refused
from kit.tls import TlsVisitor, context

import adit
from adit.exception import AuthError, ClosedError, ConfigError, InvalidError, RemoteError
from adit.functions.foreman import ways


def what_it_says(box, token):
    """Its certificate, as the command tells it of a token that is narrowed from it and changes nothing."""
    return json.loads(box.adit("token", "narrow", "--json", env={"ADIT_TOKEN": token}).stdout)


def test_a_narrowed_token_opens_tunnels(client, app, visitor):
    token = client.narrow(name="job")
    assert re.fullmatch(r"adit1_[A-Za-z0-9_-]+", token)
    with adit.Client(token) as other, other.forward(app(echo).port) as tunnel:
        v = visitor(tunnel)
        v.sendall(b"hello")
        assert read_exactly(v, 5) == b"hello"


@pytest.mark.parametrize("way", ["token", "id"])
def test_a_revoked_token_ends_and_is_refused(client, box, app, way):
    token = client.narrow(name="job", expires=600)
    other = adit.Client(token)
    tunnel = other.forward(app(echo).port).start()
    client.revoke(token if way == "token" else ways.identities(token)[1], expires=600)
    assert tunnel.wait(30) == "token_revoked"
    other.close()
    with adit.Client(token) as again, pytest.raises(AuthError, match="revoked"):
        again.forward(app(echo).port).start()
    client.revoke(token)


def test_what_is_not_its_own_is_not_revoked(client, app):
    other = adit.Client(client.narrow())
    with other, pytest.raises(InvalidError, match="not from this client's"):
        other.revoke(client.narrow())
    for wrong in ("nonsense", 5):
        with pytest.raises(InvalidError, match="narrowed"):
            client.revoke(wrong)
    with pytest.raises(InvalidError, match="expires"):
        client.revoke("0" * 32, expires=-1)


def test_a_relay_keeps_a_revocation_until_its_token_has_expired(client, relay):
    def kept(narrowed, **options):
        client.revoke(narrowed, **options)
        with contextlib.closing(sqlite3.connect(os.path.join(relay.state, "state.db"))) as state:
            identity = bytes.fromhex(narrowed) if len(narrowed) == 32 else bytes.fromhex(ways.identities(narrowed)[1])
            [[ends]] = state.execute("SELECT expires_s FROM narrowed_revocation WHERE id = ?", [identity])
            return ends and round(ends - time.time(), -2)

    assert kept(client.narrow(expires=600)) == 600
    assert kept(client.narrow(expires=600), expires=9000) == 600
    assert kept("1" * 32, expires=600) == 600
    assert kept("2" * 32) == 0  # for as long as the client's own token


def test_a_relay_that_cannot_be_reached_revokes_nothing(client):
    token = client.narrow()
    with adit.Client(client.narrow(), relays="127.0.0.1:1") as lost, pytest.raises(RemoteError, match=r"within 0\.2 s"):
        lost.revoke(ways.identities(token)[1], timeout=0.2)


@wants_them_refused
def test_the_relay_of_this_machine_takes_them_at_a_unix_socket(app, recwarn):
    with adit.Client() as client:
        token = client.narrow(name="job")
        assert client.relay_socket is not None
        with adit.Client(token, relays=client.relay_socket) as other, other.forward(app(echo).port) as tunnel:
            v = TlsVisitor(("127.0.0.1", tunnel.tls_socket[1]), tunnel.host, context(client.ca_file))
            v.sendall(b"hello")
            assert read_exactly(v, 5) == b"hello"
            v.close()
            assert other.relay_socket is None


def test_what_does_not_go_with_a_unix_socket_is_told(client):
    for options in ({"proxy": "http://127.0.0.1:1"}, {"data": "plain"}):
        with pytest.raises(ConfigError, match=r"unix:/run/relay\.sock"):
            adit.Client(client.narrow(), relays="unix:/run/relay.sock", **options)
    with pytest.raises(InvalidError, match="107 bytes at most"):
        adit.Client(client.narrow(), relays="unix:/" + "x" * 200)


def test_all_that_is_wished_for_is_in_it(client, box):
    began = int(time.time())
    says = what_it_says(
        box,
        client.narrow(
            expires=59.5,
            max_tunnels=2,
            max_streams=3,
            max_visitors_per_s=4,
            max_rate=5_000_000_000,
            raw=False,
            allow=["192.0.2.0/24", "2001:db8::/32"],
        ),
    )
    limits = {name: says[name] for name in says if name.startswith("max_")}
    assert limits == dict(max_tunnels=2, max_streams=3, max_visitors_per_s=4, max_bytes_per_s=5_000_000_000)
    assert (says["raw"], says["allow"]) == (False, ["192.0.2.0/24", "2001:db8::/32"])
    assert began + 60 <= says["expires_at_s"] <= time.time() + 60


def test_without_wishes_it_is_as_the_clients_own(client, box):
    says = what_it_says(box, client.narrow())
    assert (says["max_tunnels"], says["max_streams"], says["expires_at_s"]) == (100, None, None)
    assert (says["raw"], says["allow"]) == (True, [])


def test_each_has_a_key_of_its_own(client):
    assert client.narrow() != client.narrow()


def test_it_does_no_more_than_it_says(client, app):
    token = client.narrow(max_tunnels=1, raw=False, allow="192.0.2.0/24")
    port = app(echo).port
    with adit.Client(token) as other:
        with pytest.raises(RemoteError, match="allows no raw TCP ports"), other.forward(port, unencrypted=True):
            pass
        with pytest.raises(RemoteError, match="these address blocks"), other.forward(port, allow="198.51.100.0/24"):
            pass
        with other.forward(port), pytest.raises(RemoteError, match="limit of tunnels"), other.forward(port + 1):
            pass


def test_a_narrowed_token_is_narrowed_once_more_and_then_no_further(client, app):
    with adit.Client(client.narrow(max_tunnels=5)) as other:
        with pytest.raises(InvalidError, match="max_tunnels: it is wider"):
            other.narrow(max_tunnels=6)
        token = other.narrow(max_tunnels=4)
    with adit.Client(token) as last:
        with last.forward(app(echo).port):
            pass
        with pytest.raises(InvalidError, match="narrowed 2 times already"):
            last.narrow()


def test_a_token_that_ends_with_its_parent(relay, app):
    with adit.Client(relay.create_token("parent")) as client, adit.Client(client.narrow()) as other:
        with other.forward(app(echo).port) as tunnel:
            relay.revoke("parent")
            assert tunnel.wait(20) == "token_revoked"
        with pytest.raises(AuthError, match="revoked"), other.forward(app(echo).port):
            pass


def test_a_token_that_has_expired_is_narrowed_no_more(client):
    with adit.Client(client.narrow(expires=1)) as other:
        for _ in range(10_000):
            try:
                other.narrow()
            except AuthError as error:
                assert "expired" in str(error)
                return
    pytest.fail("it does not expire")


def test_longer_than_the_token_itself(relay):
    with adit.Client(relay.create_token("brief", "--expires", "1h")) as client:
        client.narrow(expires=3000)
        with pytest.raises(InvalidError, match=r"expires: the token itself is good until \d+-"):
            client.narrow(expires=3700)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_tunnels", v) for v in (0, -1, 2**32, True, "5", 1.5)]
    + [("max_rate", v) for v in (0, 2**64, "10MB/s")]
    + [("expires", v) for v in (0, -1, float("nan"), float("inf"), "1h", True, 10**400)]
    + [("allow", v) for v in ("everybody", ["192.0.2.0/33"], 5, ["10.0.0.0/8"] * 17)]
    + [("name", v) for v in ("", "a b", "a" * 65, "ä", 5, b"x", "0" * 32)],
    ids=repr,
)
def test_wishes_that_cannot_be(client, name, value):
    with pytest.raises(InvalidError, match=name):
        client.narrow(**{name: value})


def test_a_name_that_is_not_known(client):
    with pytest.raises(TypeError, match="max_tunnel"):
        client.narrow(max_tunnel=1)
    assert all(p.kind is p.KEYWORD_ONLY for p in list(inspect.signature(adit.Client.narrow).parameters.values())[1:])


def test_of_several_tokens_none_is_meant(token, relay):
    with adit.Client([token, relay.token()]) as client, pytest.raises(InvalidError, match="several"):
        client.narrow()


def test_a_client_that_was_closed(client):
    client.close()
    with pytest.raises(ClosedError):
        client.narrow()


@pytest.mark.filterwarnings("ignore::adit.exception.EmbeddedRelayWarning")
def test_the_relay_on_this_machine_is_waited_for(app):
    """Several threads ask before it is there."""
    with adit.Client() as client:
        tokens = []
        threads = [threading.Thread(target=lambda: tokens.append(client.narrow())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(tokens)) == 4
        with adit.Client(tokens[0]) as other, other.forward(app(echo).port) as tunnel:
            assert tunnel.host.endswith(".adit.localhost")


def test_a_relay_on_this_machine_that_cannot_start(box, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", box.file("a file", ""))
    with adit.Client() as client, pytest.raises(ConfigError):
        client.narrow()


def test_a_forked_child_makes_none_of_its_parents(script, token):
    program = script(
        """
import os, adit
client = adit.Client()
if os.fork() == 0:
    try:
        client.narrow()
    except adit.exception.ClosedError:
        os._exit(0)
    os._exit(1)
print(os.wait()[1])
""",
        token=token,
    )
    assert ended(program) == "0"
