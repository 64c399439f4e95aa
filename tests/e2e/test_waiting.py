"""`adit forward --wait`: started before its relay, or before its network."""
import json
import os
import re
import signal
import socket
import sys

import pytest

from kit.app import echo, read_exactly
from kit.errors import expect_error
from kit.process import ADIT, Events
from kit.roles import Tunnel

OPENS = "the tunnel opens as soon as a relay can be reached: "


@pytest.fixture
def away(relay):
    """Its token, while it is away: relay.restart()."""
    token = relay.token()
    relay.process.stop()
    return token


def start(box, token, port, *options, prefix=()):
    return box.start([*prefix, ADIT, "forward", port, *options], env={"ADIT_TOKEN": token})


def test_it_waits_for_its_relay_and_says_so_in_one_line(relay, away, box, app, visitor):
    a = app(echo)
    agent = start(box, away, a.port, "--wait", "--json")
    warning = Events(agent.out).wait("warning", reason="waiting")
    # it fails in other ways, too, of which nobody is told
    with socket.create_server(("127.0.0.1", relay.port)) as mute:
        for _ in range(2):
            mute.accept()[0].close()
    relay.restart()
    v = visitor(Tunnel(relay, Events(agent.out).wait("open")))
    v.sendall(b"hello")
    assert read_exactly(v, 5) == b"hello"
    v.close()
    assert agent.stop() == 0
    assert warning["text"].startswith(OPENS + f"relay {relay.dial}: Connection refused") and warning["port"] is None
    assert agent.err.lines == ["adit: " + warning["text"]]
    assert [e["event"] for e in map(json.loads, agent.out.lines)] == ["warning", "open", "closed"]


def test_it_does_not_wait_for_longer_than_it_is_told(relay, away, box):
    line = expect_last(box.adit("forward", "8000", "--wait=300ms", env={"ADIT_TOKEN": away}))
    assert f"relay {relay.dial}: Connection refused" in line and OPENS not in line


def expect_last(done):
    assert done.returncode == 1 and done.stdout == ""
    first, last = done.stderr.splitlines()
    assert first.startswith("adit: " + OPENS)
    return last


def test_a_relay_that_never_opens_the_tunnel_is_not_waited_for_without_end(relay, away, box):
    """It takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", relay.port)):
        line = expect_error(box.adit("forward", "8000", "--wait=500ms", env={"ADIT_TOKEN": away}), 1, "relay: ")
        assert "in the time that was given" in line


def test_a_token_that_is_refused_ends_the_waiting(relay, agent, app, box):
    token = relay.create_token("revoked")
    before = agent(app(echo), token=token)
    relay.revoke("revoked")
    assert before.process.wait() == 1        # so the relay has heard of it
    expect_error(box.adit("forward", "8000", "--wait", env={"ADIT_TOKEN": token}), 1, "revoked")
    expect_error(box.adit("forward", "8000", "--wait", env={"ADIT_TOKEN": "nonsense"}), 1, "ADIT_TOKEN")


def test_a_relay_of_another_certificate_ends_the_waiting(start_relay, box):
    real, impostor = start_relay(), start_relay()
    expect_error(box.adit("forward", "8000", "--wait", "--relay", impostor.dial, env={"ADIT_TOKEN": real.token()}), 1,
                 "certificate")


@pytest.mark.parametrize("number,status", [(signal.SIGTERM, 0), (signal.SIGINT, 0)], ids=["SIGTERM", "SIGINT"])
def test_whoever_waits_no_longer_ends_it(away, box, number, status):
    agent = start(box, away, 8000, "--wait")
    agent.err.wait(lambda line: OPENS in line)
    agent.kill(number)
    assert agent.wait() == status


def test_a_command_is_started_once_there_is_an_address(relay, away, box, app):
    agent = start(box, away, app(echo).port, "--wait", "--", "sh", "-c", "echo $ADIT_URL; exit 3")
    agent.err.wait(lambda line: OPENS in line)
    assert agent.out.lines == []
    relay.restart()
    assert agent.wait() == 3 and re.fullmatch(r"https://\S+", agent.out.text())


@pytest.mark.parametrize("options", [["--wait=soon"], ["--wait=0s"], ["--wait="], ["--wait=-1s"], ["--wait", "5m"]],
                         ids=" ".join)
def test_a_wrong_duration(box, options):
    expect_error(box.adit("forward", "8000", *options), 2)


# A machine whose DNS servers do not answer: one of its own, where a socket takes the questions.
MUTE_DNS = """
import os, socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
server.set_inheritable(True)
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_dns_that_is_silent_is_not_taken_for_a_relay_that_is(relay, box):
    if os.geteuid() != 0:
        pytest.skip("mounting a file over /etc/resolv.conf wants root")
    file = box.file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n", mode=0o644)
    agent = start(box, relay.token(dial="relay.example:443"), 8000,
                  prefix=["unshare", "-mn", sys.executable, "-c", MUTE_DNS, file])
    assert agent.wait() == 1
    assert re.fullmatch(r"adit: relay relay\.example:443: DNS has not answered for its name in 10 s \(.*resolv.conf\)",
                        agent.err.text())
