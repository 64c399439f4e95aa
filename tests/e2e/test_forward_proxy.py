"""Agents behind an HTTP proxy that is the only way out: a network namespace whose firewall lets nothing else pass."""
import os
import socket
import ssl
import time
from urllib.parse import quote

import pytest

from kit import tls
from kit.app import App, echo, ends_by_reset, read_exactly, read_until_end, reset
from kit.certificate import Identity
from kit.connect_proxy import ConnectProxy, basic
from kit.distance import trouble
from kit.forward_proxy import PASSWORDS, USER, Walled, squid, tinyproxy
from kit.process import ADIT, DEADLINE_S, Events
from kit.roles import Agent, Relay

NAME = "r1.test"
PROXIES = {"tinyproxy": tinyproxy, "squid": squid}


@pytest.fixture
def walled(box):
    why = trouble()
    if why:
        pytest.skip(why)
    return Walled(box)


class Behind:
    """A relay in the world, dialled by a name that only the proxy can look up, and an agent with its app inside."""

    def __init__(self, walled, pump="splice"):
        self.walled, self.box = walled, walled.box
        self.relay = Relay(self.box, pump=pump, listen=f"{Walled.WORLD}:443", prefix=walled.world.prefix,
                           options=["--tcp-listen", Walled.WORLD, "--admin", "127.0.0.1:9090", "--link", "plain"])
        self.token = self.relay.create_token("tester", dial=f"{NAME}:443")

    def app(self, serve=None):
        app = self.walled.inside.call(App, serve)
        self.box.closers.append(app.close)
        return app

    def agent(self, app, *options, env=None, wait=True):
        return Agent(self.box, self.relay, [app], options, token=self.token, prefix=self.walled.inside.prefix, env=env,
                     wait=wait)

    def visitor(self, running, raw=False):
        def come():
            if raw:
                return socket.create_connection((Walled.WORLD, running.tcp_port), DEADLINE_S)
            return tls.TlsVisitor((Walled.WORLD, 443), running.host, tls.context(self.relay.authority))
        v = self.walled.world.call(come)
        self.box.closers.append(v.close)
        return v

    def count(self, name):
        return self.walled.world.call(self.relay.metric, name)


@pytest.fixture
def behind(walled, pump):
    return Behind(walled, pump)


def assert_echoes(v, data=b"x" * 100_000):
    v.sendall(data)
    assert read_exactly(v, len(data)) == data


def test_without_the_proxy_nothing_gets_out(behind):
    """Else the other tests would prove nothing."""
    running = behind.agent(1, "--proxy", "none", "--relay", f"{Walled.WORLD}:443", wait=False)
    assert "no answer" in running.events.wait("closed", reason="relay_unreachable")["text"]


@pytest.mark.parametrize("proxy", PROXIES)
def test_link_and_data_go_through_a_proxy_that_looks_names_up(behind, proxy):
    PROXIES[proxy](behind.walled, **{NAME: Walled.WORLD})
    running = behind.agent(behind.app(echo), "--unencrypted", "--proxy", f"http://{behind.walled.address}")
    assert_echoes(behind.visitor(running))
    assert_echoes(behind.visitor(running, raw=True))


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_environment_names_the_proxy(behind, variable):
    tinyproxy(behind.walled, **{NAME: Walled.WORLD})
    running = behind.agent(behind.app(echo), env={variable: f"http://{behind.walled.address}"})
    assert_echoes(behind.visitor(running))


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_proxy_is_given_user_and_password(behind, proxy):
    PROXIES[proxy](behind.walled, auth=True, **{NAME: Walled.WORLD})
    running = behind.agent(behind.app(echo), "--proxy",
                           f"http://{USER}:{quote(PASSWORDS[proxy], safe='')}@{behind.walled.address}")
    with open(f"/proc/{running.process.pid}/cmdline") as f:
        assert "word" not in f.read()


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("user", ["", "agent:hunter2@"])
def test_a_proxy_that_wants_another_password_is_told_of(behind, proxy, user):
    PROXIES[proxy](behind.walled, auth=True, **{NAME: Walled.WORLD})
    running = behind.agent(1, "--proxy", f"http://{user}{behind.walled.address}", wait=False)
    text = running.events.wait("closed", reason="relay_unreachable")["text"]
    assert text.startswith(f"relay {NAME}:443: proxy http://{behind.walled.address}: it ") and ("(407)" in text
                                                                                                or "(401)" in text)
    assert ("does not accept the user and password" if user else "http://USER:PASSWORD@HOST:PORT") in text
    assert "hunter2" not in running.process.report().split("--- stdout")[1]


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("raw", [False, True], ids=["tls", "raw"])
def test_each_direction_ends_by_itself_through_a_proxy(behind, proxy, raw):
    """A proxy takes the end of one direction for that of both."""
    PROXIES[proxy](behind.walled, **{NAME: Walled.WORLD})
    app = behind.app()
    running = behind.agent(app, "--unencrypted", "--proxy", f"http://{behind.walled.address}")
    v = behind.visitor(running, raw)
    v.sendall(b"request")
    v.shutdown(socket.SHUT_WR)
    connection = app.accept()
    assert read_until_end(connection) == b"request"
    connection.sendall(b"answer")
    connection.shutdown(socket.SHUT_WR)
    assert read_until_end(v) == b"answer"
    v = behind.visitor(running, raw)                 # and the other way round
    v.sendall(b"a")
    connection = app.accept()
    assert read_exactly(connection, 1) == b"a"
    connection.shutdown(socket.SHUT_WR)
    assert read_until_end(v) == b""
    v.sendall(b"the rest")
    v.shutdown(socket.SHUT_WR)
    assert read_until_end(connection) == b"the rest"


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("plain", [[], ["--link", "plain"]], ids=["sealed", "plain"])
def test_death_is_a_reset_through_a_proxy(behind, proxy, plain):
    """Also of a raw port whose bytes have no end of their own, and of a direction that has ended."""
    PROXIES[proxy](behind.walled, **{NAME: Walled.WORLD})
    app = behind.app()
    running = behind.agent(app, "--unencrypted", "--proxy", f"http://{behind.walled.address}", *plain)
    visitors, connections = [], []
    for raw in (False, True, True):
        visitors.append(behind.visitor(running, raw))
        visitors[-1].sendall(b"a")
        connections.append(app.accept())
        assert read_exactly(connections[-1], 1) == b"a"
    reset(connections[0])
    assert ends_by_reset(visitors[0])
    connections[1].shutdown(socket.SHUT_WR)
    assert read_until_end(visitors[1]) == b""
    running.process.kill()
    assert ends_by_reset(visitors[2])
    with pytest.raises(OSError):                     # the second can send no more
        while True:
            visitors[1].sendall(b"x" * 1000)
            time.sleep(0)


@pytest.fixture
def proxy(box):
    return lambda **options: ConnectProxy(box, **options)


def test_loopback_relays_are_dialled_straight_unless_a_proxy_is_asked_for(relay, agent, app, visitor, proxy):
    way = proxy()
    straight = agent(app(echo), env={"https_proxy": f"http://{way.address}", "ALL_PROXY": "socks5://nonsense"})
    assert_echoes(visitor(straight))
    assert not way.heads
    asked = agent(app(echo), "--proxy", f"http://{way.address}")
    assert_echoes(visitor(asked))
    assert len(way.wait_heads(2)) >= 2 and way.heads[0].startswith(
        f"CONNECT {relay.dial} HTTP/1.1\r\nHost: {relay.dial}\r\n"
    )


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_hosts_of_no_proxy_are_dialled_straight(agent, app, visitor, proxy, name):
    way = proxy()
    running = agent(app(echo), "--proxy", f"http://{way.address}", env={name: "example.com, 127.0.0.0/8"})
    assert_echoes(visitor(running))
    assert not way.heads


def test_the_environment_is_read_in_curls_order(box, relay, proxy):
    """For a relay that is not on loopback; that it cannot be reached does not matter."""
    file = box.file("token", relay.create_token("far", dial="r1.invalid:443") + "\n")
    values = {"https_proxy": "", "HTTPS_PROXY": "", "all_proxy": "", "ALL_PROXY": ""}
    ways = {}
    for variable in reversed(values):
        ways[variable] = proxy(answer=b"HTTP/1.1 403 Forbidden\r\n\r\n")
        values[variable] = f"http://{variable}:pass%20word@{ways[variable].address}"
        before = {name: len(way.heads) for name, way in ways.items() if name != variable}
        done = box.adit("forward", "8000", "--token-file", file, env=values)
        assert (
            done.returncode == 1
            and f"proxy http://{ways[variable].address}: " in done.stderr
            and "pass" not in done.stderr
        )
        assert f"Proxy-Authorization: {basic(variable, 'pass word')}\r\n" in ways[variable].heads[0]
        assert before == {name: len(way.heads) for name, way in ways.items() if name != variable}


ANSWERS = {
    b"HTTP/1.1 403 Forbidden\r\n\r\n": "does not connect us to {relay}: 403 Forbidden (have it allow CONNECT",
    b"HTTP/1.1 502 Bad Gateway\r\n\r\n": "cannot reach {relay}: 502 Bad Gateway (is the relay running",
    b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n":
        "wants a proof by Negotiate (407), which is not",
    b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\n\r\n":
        "wants a user and password (407) (put them into its URL",
    b"SSH-2.0-OpenSSH_9.2p1\r\n": "does not speak HTTP/1 (is this its address",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000: "answer is too long",
    b"HTTP/1.1 20": "closed the connection in the midst of its answer",
    b"": "closed the connection without an answer",
}


@pytest.mark.parametrize("answer", ANSWERS,
                         ids=[text.split(" (")[0].replace(" ", "_")[:30] for text in ANSWERS.values()])
def test_what_a_proxy_does_wrong_is_told_with_a_remedy(relay, agent, proxy, answer):
    way = proxy(answer=answer)
    text = agent(1, "--proxy", f"http://{way.address}", wait=False).events.wait("closed")["text"]
    assert (
        text.startswith(f"relay {relay.dial}: proxy http://{way.address}: it")
        and ANSWERS[answer].format(relay=relay.dial) in text
    ), text


def test_a_proxy_that_never_answers_is_told(relay, agent, proxy):
    way = proxy(answer=None)
    text = agent(1, "--proxy", f"http://{way.address}", wait=False).events.wait("closed")["text"]
    assert f"proxy http://{way.address}: it has not connected us to {relay.dial} in 10 s (" in text


@pytest.mark.parametrize("url, why",
                         [("http://127.0.0.1:1", "Connection refused (is the proxy running"),
                          ("http://proxy.invalid:1", "(check the name")])
def test_a_proxy_that_is_not_there_is_told(relay, agent, url, why):
    text = agent(1, "--proxy", url, wait=False).events.wait("closed")["text"]
    assert text.startswith(f"relay {relay.dial}: proxy {url}: ") and why in text


def test_a_wrong_proxy_is_a_wrong_argument(box):
    for url, why in (("socks5://u:hunter2@x", "SOCKS"), ("http://u:hunter2@x:y", "address"),
                     ("http://u:hunter2%@x", "%25")):
        done = box.adit("forward", "8000", "--proxy", url, env={"ADIT_TOKEN": "x"})
        assert done.returncode == 2 and why in done.stderr and "hunter2" not in done.stderr


def test_what_the_relay_says_right_behind_the_proxys_answer_is_the_relays(relay, agent, app, visitor, proxy):
    """The head is read to its last byte, also when another's bytes are in the same segment, and interim answers are
    passed over."""
    way = proxy(answer=b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nServer: x\r\n\r\n")
    for how in ("plain", "tls"):
        assert_echoes(visitor(agent(app(echo), "--proxy", f"http://{way.address}", "--data", how)))


def test_a_visitor_that_leaves_while_it_waits_for_the_app_is_not_brought_to_it(agent, app, visitor, proxy):
    """The proxy tells of its reset as an end; inside TLS that can be no half-close."""
    way, late = proxy(), app(echo, started=False)
    running = agent(late, "--app-wait", "5m", "--proxy", f"http://{way.address}")
    gone = visitor(running)
    running.events.wait("warning")               # it waits
    gone.reset()
    way.wait_ended(1)
    stays = visitor(running)
    late.start()
    assert_echoes(stays)
    assert len(late.connections) == 1


class Tls:
    """A certificate of our own authority for an https:// proxy."""

    def __init__(self, box, names=("proxy.test",)):
        self.root = Identity("proxy authority", authority=True)
        leaf = Identity("proxy", self.root, names, ip=("127.0.0.1", Walled.GATE))
        self.ca = box.file("proxy-ca.pem", self.root.pem, mode=0o644)
        self.files = box.file("proxy.pem", leaf.pem), box.file("proxy.key", leaf.key_pem)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*self.files)


@pytest.mark.parametrize("pump", ["splice", "copy"], indirect=True)
@pytest.mark.parametrize("how", ["auto", "plain", "tls"])
@pytest.mark.parametrize("suite", [None, "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"],
                         ids=["1.3", "1.2-gcm", "1.2-chacha20"])
def test_an_https_proxy_is_spoken_to_inside_tls(box, relay, agent, app, visitor, proxy, how, suite):
    """TLS within TLS, and for data inside TLS that within both; the proxy sends session tickets, as servers do."""
    identity = Tls(box)
    if suite:
        identity.context.maximum_version = ssl.TLSVersion.TLSv1_2
        identity.context.set_ciphers(suite)
    way = proxy(context=identity.context)
    running = agent(app(echo), "--unencrypted", "--data", how, "--proxy", f"https://u:p@{way.address}",
                    env={"SSL_CERT_FILE": identity.ca})
    assert_echoes(visitor(running), b"y" * 3_000_000)
    assert_echoes(visitor.raw(running), b"y" * 3_000_000)
    every = relay.metric("data_connections_total")
    assert (
        relay.metric("data_connections_wrapped_total") == 0
        if how == "plain"
        else relay.metric("data_connections_wrapped_total") >= every
    )


@pytest.mark.parametrize("options", ["", "options=NO_TLSv1_3"], ids=["1.3", "1.2"])
def test_squid_is_spoken_to_inside_tls(behind, options):
    identity = Tls(behind.box)
    squid(behind.walled, tls=identity.files, tls_options=options, **{NAME: Walled.WORLD})
    running = behind.agent(behind.app(echo), "--unencrypted", "--proxy", f"https://{behind.walled.address}",
                           env={"SSL_CERT_FILE": identity.ca})
    assert_echoes(behind.visitor(running), b"z" * 1_000_000)
    assert_echoes(behind.visitor(running, raw=True), b"z" * 1_000_000)


def test_an_https_proxy_that_is_a_stranger_is_told(box, relay, agent, proxy):
    way = proxy(context=Tls(box).context)
    text = agent(1, "--proxy", f"https://{way.address}", wait=False).events.wait("closed")["text"]
    assert (
        f"proxy https://{way.address}: its certificate for 127.0.0.1 is from an unknown authority" in text
        and "SSL_CERT_FILE" in text
    )
    assert not way.heads
    way = proxy()
    text = agent(1, "--proxy", f"https://{way.address}", wait=False).events.wait("closed")["text"]
    assert f"proxy https://{way.address}: " in text and "else write http://" in text


def test_login_stores_the_proxy_that_it_used(box, relay, proxy, app, visitor):
    way = proxy()
    done = box.adit("login", "-", "--proxy", f"http://u:hunter2@{way.address}", input=relay.token() + "\n")
    assert done.returncode == 0, done.stderr
    with open(os.path.join(box.home, ".config/adit/config")) as f:
        assert f"proxy = http://u:hunter2@{way.address}\n" in f.read()
    used = len(way.heads)
    a = app(echo)
    running = box.start([ADIT, "forward", "--json", a.port])
    Events(running.out).wait("open")
    assert len(way.wait_heads(used + 1)) > used
