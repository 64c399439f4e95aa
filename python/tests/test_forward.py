"""forward() in a process that goes on: what it yields, refuses, and leaves behind."""
import asyncio
import dataclasses
import logging
import os
import socket
import ssl
import subprocess
import threading
import time

import pytest
from kit.app import read_exactly
from kit.process import DEADLINE_S, descriptors
from kit.tls import TlsVisitor, context, how_it_ends
from kit.wire import Wire

import adit
from adit.exception import AuthError, ClosedError, ConfigError, EmbeddedRelayWarning, Error, InvalidError, RemoteError


def threads():
    return sorted(name for name in map(thread_name, os.listdir("/proc/self/task")) if name.startswith("adit"))


def thread_name(task):
    try:
        with open(f"/proc/self/task/{task}/comm") as f:
            return f.read().strip()
    except OSError:
        return ""


def wait_for(condition):
    """For what the kernel or a thread does a moment later and tells nobody."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.005)


# --- what it yields ---


def test_a_tunnel_has_its_addresses_and_serves(client, relay, app, visit):
    with adit.forward(app().port, client=client) as tunnel:
        assert tunnel.port == relay.port and tunnel.host.endswith("." + relay.domain)
        assert tunnel.url == f"https://{tunnel.host}:{tunnel.port}"
        assert tunnel.tls_socket == (tunnel.host, tunnel.port)
        assert (tunnel.unencrypted_host, tunnel.unencrypted_port) == ("", 0)
        visit(tunnel)
        assert client.relay == relay.domain and client.ca_file is None
    with pytest.raises(ssl.SSLError):
        visit(tunnel)


def test_a_tunnel_is_frozen_and_its_url_leaves_port_443_out():
    tunnel = adit.Tunnel("label.r1.test", 443)
    assert tunnel.url == "https://label.r1.test"
    with pytest.raises(dataclasses.FrozenInstanceError):
        tunnel.host = "other"
    with pytest.raises(InvalidError, match=r"tcp_socket: .*unencrypted=True"):
        _ = tunnel.tcp_socket


def test_unencrypted_adds_a_raw_port(client, relay, app):
    with adit.forward(app().port, client=client, unencrypted=True) as tunnel:
        assert tunnel.tcp_socket == (tunnel.unencrypted_host, tunnel.unencrypted_port)
        assert tunnel.unencrypted_host == relay.domain
        with socket.create_connection((relay.host, tunnel.unencrypted_port), DEADLINE_S) as raw:
            raw.sendall(b"as it is")
            assert read_exactly(raw, 8) == b"as it is"


def test_entered_and_left_by_hand_and_again(client, app, visit):
    manager = adit.forward(app().port, client=client)
    first = manager.__enter__()
    visit(first)
    with pytest.raises(InvalidError, match="open already"):
        manager.__enter__()
    visit(first)
    manager.__exit__(None, None, None)
    with manager as second:
        assert second.host != first.host
        visit(second)


def test_the_token_of_the_environment_and_one_client_for_the_process(script, app, visit):
    program = script("""
import sys, adit
with adit.forward(int(sys.argv[1])) as a, adit.forward(int(sys.argv[2])) as b:
    print(a.host, b.host, flush=True)
    sys.stdin.read()
    """, app().port, app().port)
    for host in program.out.wait(lambda line: line).split():
        visit(host)
    program.popen.stdin.close()
    assert program.wait() == 0, program.report()
    assert program.err.text() == ""


# --- what it refuses, in this order ---


@pytest.mark.parametrize(("port", "words"), [
    ("8000", "a str, not an int"), (8000.0, "a float, not an int"), (True, "a bool, not an int"), (None, "not an int"),
    (0, "not within 1..65535"), (-1, "not within"), (65536, "not within"), (10**30, "not within"),
])
def test_a_wrong_port(port, words):
    with pytest.raises(InvalidError, match=f"port: .*{words}"):
        adit.forward(port, h2_enabled=True, unencrypted=True)


def test_h2_with_a_raw_port_is_refused_before_anything_is_connected(box):
    with pytest.raises(InvalidError, match="h2_enabled"):
        adit.forward(8000, h2_enabled=True, unencrypted=True)


def test_a_port_that_this_client_forwards_already(client, app, visit):
    port = app().port
    with adit.forward(port, client=client) as tunnel:
        with pytest.raises(InvalidError, match=rf"port {port}: this client forwards it already"), adit.forward(port, client=client):
            pass
        visit(tunnel)


@pytest.mark.parametrize("options", [
    {"allow": ["not-an-address"]}, {"allow": [1]}, {"alpn": "x" * 300}, {"drain": -1}, {"drain": "soon"}, {"timeout": float("nan")},
    {"client": "token"}, {"drain": True},
])
def test_wrong_options_say_which(client, app, options):
    with pytest.raises(InvalidError, match="(?i)" + next(iter(options))), adit.forward(app().port, **{"client": client, **options}):
        pass


def test_every_error_is_an_error():
    for kind in (InvalidError, ConfigError, AuthError, RemoteError, ClosedError):
        assert issubclass(kind, Error)


def test_an_unreachable_relay(relay, app):
    token = relay.create_token("nowhere", dial="127.0.0.1:1")
    with adit.Client(token) as client, pytest.raises(RemoteError, match=r"127\.0\.0\.1:1"), adit.forward(app().port, client=client):
        pass


def test_a_relay_that_never_answers_is_given_up_in_time(relay, app):
    with Silence() as silence, adit.Client(relay.create_token("silent", dial=silence.dial)) as client, \
            pytest.raises(RemoteError), adit.forward(app().port, client=client, timeout=0.3):
        pass


def test_a_revoked_token(relay, app, caplog):
    token = relay.create_token("revoked")
    with adit.Client(token) as client, adit.forward(app().port, client=client):
        relay.revoke("revoked")
        wait_for(lambda: any(r.levelname == "ERROR" and "revoked" in r.message for r in caplog.records))
    with adit.Client(token) as client, pytest.raises(AuthError, match="revoked"), adit.forward(app().port, client=client):
        pass


@pytest.mark.parametrize("token", ["", "nonsense", "adit1_nonsense", [], ["adit1_nonsense"], 7])
def test_a_malformed_token(box, token):
    with pytest.raises((ConfigError, TypeError)):
        adit.Client(token)


def test_without_a_token_and_an_embedded_relay(script, app):
    program = script("import sys, adit\nwith adit.forward(int(sys.argv[1])): pass", app().port,
                     env={"ADIT_TOKEN": None, "ADIT_EMBEDDED": "0"})
    assert program.wait() == 1
    assert "adit.exception.ConfigError: token: there is none" in program.err.text()


def test_a_client_that_failed_is_not_kept(box, relay, app, monkeypatch, visit):
    monkeypatch.setenv("ADIT_TOKEN", relay.create_token("wrong", dial="127.0.0.1:1"))
    with pytest.raises(RemoteError), adit.forward(app().port):
        pass
    monkeypatch.setenv("ADIT_TOKEN", relay.token())
    with adit.forward(app().port) as tunnel:
        visit(tunnel)
    adit._default._shared.client.close()


# --- options ---


def test_the_embedded_relay_warns_once_and_is_trusted_by_its_authority(script, app):
    serve = app(lambda c: (c.recv(65536), c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")))
    program = script("""
import sys, adit, adit._default
for _ in range(2):
    with adit.forward(int(sys.argv[1]), unencrypted=True) as tunnel:
        print(tunnel.url, adit._default._shared.client.ca_file, *tunnel.tcp_socket, flush=True)
    """, serve.port, env={"ADIT_TOKEN": None})
    url, ca_file, host, _ = program.out.wait(lambda line: line).split()
    assert host == "127.0.0.1"
    assert program.wait() == 0, program.report()
    assert program.err.text().count(EmbeddedRelayWarning.__name__) == 1 and f"curl --cacert {ca_file}" in program.err.text()
    assert os.path.exists(ca_file) and ".adit.localhost:" in url


def test_curl_reaches_the_embedded_relay(box, app, monkeypatch):
    serve = app(lambda c: (c.recv(65536), c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")))
    with adit.Client() as client, pytest.warns(EmbeddedRelayWarning), adit.forward(serve.port, client=client) as tunnel:
        done = subprocess.run(["curl", "-sS", "--cacert", client.ca_file, tunnel.url], capture_output=True, text=True, timeout=DEADLINE_S)
        assert done.stdout == "hello", done.stderr


def test_keep_gives_the_same_address_again(box, relay, app, visit):
    keep, port = box.file("kept"), app().port
    hosts = []
    for _ in range(2):
        with adit.Client(relay.token()) as client, adit.forward(port, client=client, keep=keep, unencrypted=True) as tunnel:
            hosts.append((tunnel.url, tunnel.tcp_socket))
            visit(tunnel)
    assert hosts[0] == hosts[1]


def test_allow_keeps_others_out(client, app, visit):
    with adit.forward(app().port, client=client, allow="192.0.2.0/24") as tunnel, pytest.raises(ssl.SSLError):
        visit(tunnel)


def test_proxy_protocol_tells_the_visitor(client, relay, app):
    seen = app()
    with adit.forward(seen.port, client=client, proxy_protocol=True) as tunnel:
        visitor = TlsVisitor(relay.address, tunnel.host, context(relay.authority))
        assert visitor.recv(12) == b"\r\n\r\n\0\r\nQUIT\n"
        visitor.close()


@pytest.mark.parametrize(("options", "offered", "chosen"), [
    ({"h2_enabled": True}, ["h2", "http/1.1"], "h2"), ({}, ["h2", "http/1.1"], "http/1.1"), ({"alpn": ["mqtt", "imap"]}, ["imap"], "imap"),
])
def test_alpn(client, relay, app, options, offered, chosen):
    with adit.forward(app().port, client=client, **options) as tunnel:
        visitor = TlsVisitor(relay.address, tunnel.host, context(relay.authority, alpn=offered))
        assert visitor.tls.selected_alpn_protocol() == chosen
        visitor.close()


# --- leaving ---


def test_leaving_delivers_what_was_accepted(client, relay, app):
    sent = threading.Event()

    def serve(connection):
        connection.recv(1)
        connection.sendall(b"x" * 200_000)
        sent.set()
        connection.recv(1)

    with adit.forward(app(serve).port, client=client) as tunnel:
        visitor = TlsVisitor(relay.address, tunnel.host, context(relay.authority))
        visitor.sendall(b"?")
        assert sent.wait(DEADLINE_S)
    assert len(read_exactly(visitor, 200_000)) == 200_000
    assert how_it_ends(visitor) != "clean"


def test_drain_lets_a_visitor_finish(client, relay, app, visit):
    manager = adit.forward(app().port, client=client, drain=DEADLINE_S)
    visitor = visit(manager.__enter__())
    leaving = threading.Thread(target=manager.__exit__, args=(None, None, None))
    leaving.start()
    visitor.sendall(b"still")
    assert read_exactly(visitor, 5) == b"still"
    assert leaving.is_alive()
    visitor.close()
    leaving.join(DEADLINE_S)
    assert not leaving.is_alive()


def test_an_exception_in_the_block_closes_the_tunnel_and_passes(client, app, visit):
    with pytest.raises(ZeroDivisionError), adit.forward(app().port, client=client) as tunnel:
        _ = 1 / 0
    with pytest.raises(ssl.SSLError):
        visit(tunnel)


def test_a_client_leaves_nothing_behind(relay, app, visit):
    port = app().port
    with adit.Client(relay.token()) as client, adit.forward(port, client=client) as tunnel:      # everything that is made once
        visit(tunnel).close()
    before, fds = threads(), descriptors(os.getpid())
    for _ in range(5):
        with adit.Client(relay.token()) as client, adit.forward(port, client=client) as tunnel:
            assert threads() != before
    wait_for(lambda: threads() == before)
    wait_for(lambda: descriptors(os.getpid()) <= fds)       # fewer, when the first visitor's end is seen late


def test_a_closed_client_says_so_and_its_tunnels_end(relay, app, visit):
    client = adit.Client(relay.token())
    manager = client.forward(app().port)
    tunnel = manager.__enter__()
    visit(tunnel)
    client.close()
    client.close()
    assert client.closed
    manager.__exit__(None, None, None)
    with pytest.raises(ClosedError), client.forward(app().port):
        pass
    with pytest.raises(ssl.SSLError):
        visit(tunnel)


def test_closing_a_client_calls_back_a_thread_that_waits(relay, app):
    with Silence() as silence:
        client = adit.Client(relay.create_token("waits", dial=silence.dial))
        raised = []

        def wait():
            try:
                client.forward(app().port, timeout=DEADLINE_S).__enter__()
            except Error as e:
                raised.append(e)
        thread = threading.Thread(target=wait)
        thread.start()
        silence.accepted.wait(DEADLINE_S)
        client.close()
        thread.join(DEADLINE_S)
        assert len(raised) == 1


# --- threads, asyncio ---


def test_threads_open_and_close_at_once(client, app, visit):
    ports, failures = [app().port for _ in range(20)], []

    def use(port):
        try:
            for _ in range(3):
                with adit.forward(port, client=client) as tunnel:
                    visit(tunnel).close()
        except Exception as e:
            failures.append(e)
    workers = [threading.Thread(target=use, args=(port,)) for port in ports]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(DEADLINE_S)
    assert failures == []


def test_other_threads_run_while_one_waits(relay, app):
    with Silence() as silence, adit.Client(relay.create_token("gil", dial=silence.dial)) as client:
        waiting = threading.Thread(target=lambda: pytest.raises(RemoteError, client.forward(app().port, timeout=0.5).__enter__))
        waiting.start()
        silence.accepted.wait(DEADLINE_S)
        count = 0
        while waiting.is_alive():
            count += 1
        waiting.join()
        assert count > 10_000


def test_async_with(client, app, visit):
    async def main():
        async with adit.forward(app().port, client=client) as tunnel:
            await asyncio.get_running_loop().run_in_executor(None, visit, tunnel)
        with pytest.raises(ssl.SSLError):
            visit(tunnel)
    asyncio.run(main())


def test_async_opening_blocks_no_other_task_and_can_be_cancelled(relay, app):
    async def main(client, port):
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)
        ticking = asyncio.ensure_future(tick())
        manager = client.forward(port, timeout=DEADLINE_S)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(manager.__aenter__(), 0.3)
        ticking.cancel()
        assert ticks > 10
        assert not manager._entered

    with Silence() as silence, adit.Client(relay.create_token("async", dial=silence.dial)) as client:
        asyncio.run(main(client, app().port))


# --- the link ---


def test_a_lost_link_is_logged_and_the_streams_live_on(relay, app, visit, caplog):
    wire = Wire(relay.address)
    try:
        with caplog.at_level(logging.INFO, "adit"), adit.Client(relay.create_token("wire", dial=wire.dial)) as client, \
                adit.forward(app().port, client=client) as tunnel:
            visitor = visit(tunnel)
            wire.cut_links()
            wait_for(lambda: len(caplog.records) >= 2)
            visitor.sendall(b"still here")
            assert read_exactly(visitor, 10) == b"still here"
            visit(tunnel)
        assert [r.levelname for r in caplog.records[:2]] == ["WARNING", "WARNING"]
    finally:
        wire.close()


class Silence:
    """Accepts connections and says nothing."""

    def __enter__(self):
        self.accepted, self.connections = threading.Event(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.dial = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept_all, daemon=True).start()
        return self

    def accept_all(self):
        try:
            while True:
                self.connections.append(self.listener.accept()[0])
                self.accepted.set()
        except OSError:
            pass

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            connection.close()
