"""Agents behind an HTTP proxy that is the only way out: a network namespace whose firewall lets nothing else pass."""
import socket
from urllib.parse import quote

import pytest

from kit import tls
from kit.app import App, echo, ends_by_reset, read_exactly, read_until_end, reset
from kit.distance import trouble
from kit.forward_proxy import PASSWORDS, USER, Walled, squid, tinyproxy
from kit.process import DEADLINE_S, Events, wait_until
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
                           options=["--tcp-listen", Walled.WORLD, "--admin", "127.0.0.1:9090"])
        self.token = self.relay.create_token("tester", dial=f"{NAME}:443")

    def app(self, serve=None):
        app = self.walled.inside.call(App, serve)
        self.box.closers.append(app.close)
        return app

    def agent(self, app, *options, env=None, wait=True):
        return Agent(self.box, self.relay, [app], options, token=self.token, prefix=self.walled.inside.prefix, env=env, wait=wait)

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
    running = behind.agent(behind.app(echo), "--proxy", f"http://{USER}:{quote(PASSWORDS[proxy], safe='')}@{behind.walled.address}")
    with open(f"/proc/{running.process.pid}/cmdline") as f:
        assert "word" not in f.read()


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("user", ["", "agent:hunter2@"])
def test_a_proxy_that_wants_another_password_is_told_of(behind, proxy, user):
    PROXIES[proxy](behind.walled, auth=True, **{NAME: Walled.WORLD})
    running = behind.agent(1, "--proxy", f"http://{user}{behind.walled.address}", wait=False)
    text = running.events.wait("closed", reason="relay_unreachable")["text"]
    assert text.startswith(f"relay {NAME}:443: proxy http://{behind.walled.address}: it ") and ("(407)" in text or "(401)" in text)
    assert ("does not accept the user and password" if user else "http://USER:PASSWORD@HOST:PORT") in text
    assert "hunter2" not in running.process.report().split("--- stdout")[1]
