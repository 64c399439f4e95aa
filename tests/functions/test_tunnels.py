"""Tunnels out of containers: to the relay that is started on this machine, whose socket they see, and to one elsewhere,
to which the foreman carries what they say. Streams end there as everywhere."""
import contextlib
import os
import signal
import socket
import struct
import sys
import urllib.parse

import pytest

from conftest import BUILD_S
from kit import embedded, tls
from kit.app import read_exactly, read_until_end
from kit.connect_proxy import ConnectProxy
from kit.process import DEADLINE_S, wait_until
from kit.rights import wants_them_refused
from kit.roles import Relay

ADIT = os.path.join(os.path.dirname(sys.executable), "adit")


@pytest.fixture(params=["embedded", "elsewhere", "unix", "proxy", "several"])
def way(request, box, settings):
    """(the environment of a caller, the authority of its relay)"""
    if request.param == "embedded":
        return {}, os.path.join(settings["HOME"], ".local", "state", "adit", "embedded", "authority.pem")
    relay = Relay(box, program=ADIT, pump="unix" if request.param == "unix" else "splice")
    first = ["--relay", "127.0.0.1:1"] if request.param == "several" else []
    done = box.run(ADIT, "token", "create", "tester", "--state", relay.state, *first, "--relay", relay.dial)
    assert done.returncode == 0, done.stderr
    env = {"ADIT_TOKEN": done.stdout.strip()}
    if request.param == "unix":
        env["ADIT_RELAY"] = relay.unix
    if request.param == "proxy":
        proxy = ConnectProxy(box)
        os.makedirs(box.file("config/adit"))
        box.file("config/adit/config", f"proxy = http://user:pass%20word@{proxy.address}\n")
        env["XDG_CONFIG_HOME"] = box.file("config")
    return env, relay.authority


def test_streams_end_as_they_should(adit, way, engine, nothing_stays):
    env, authority = way
    run = adit("run", "ends.py::watch", "--visits", "4", env=env)
    url = urllib.parse.urlsplit(run.out.wait(lambda line: line.startswith("https://"), BUILD_S).strip())
    told = len(run.out.text().splitlines())

    def visit(first):
        v = tls.TlsVisitor(("127.0.0.1", url.port or 443), url.hostname, tls.context(authority))
        v.sendall(first)
        return v

    def tells(word):
        nonlocal told
        line = run.out.wait(lambda _: True, DEADLINE_S, first=told).strip()
        told += 1
        assert line == word

    v = visit(b"ping")
    assert read_exactly(v, 4) == b"ping"
    v.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    v.sock.close()
    tells("reset")
    v = visit(b"ping")
    assert read_exactly(v, 4) == b"ping"
    v.half_close()
    tells("end")
    assert read_until_end(v) == b"bye"
    v = visit(b"last")
    assert read_exactly(v, 4) == b"word"
    assert tls.how_it_ends(v) == "clean"
    v.half_close()
    tells("end")
    v = visit(b"reset")
    assert tls.how_it_ends(v) in tls.BROKEN
    tells("was reset")
    assert run.wait() == 0
    nothing_stays()


@wants_them_refused
def test_a_container_finds_the_relay_that_follows_on_one_that_was_killed(adit, settings, nothing_stays):
    """It is told of no other address: what it sees is where the next one listens, too."""
    home = settings["HOME"]
    trust = os.path.join(embedded.folder(home), "authority.pem")
    run = adit("run", "ends.py::watch", "--visits", "1")
    url = urllib.parse.urlsplit(run.out.wait(lambda line: line.startswith("https://"), BUILD_S).strip())
    relay = embedded.process(home)
    os.kill(relay, signal.SIGKILL)

    def is_answered():
        with contextlib.suppress(OSError):
            v = tls.TlsVisitor(("127.0.0.1", url.port), url.hostname, tls.context(trust))
            v.sendall(b"ping")
            assert read_exactly(v, 4) == b"ping"
            v.half_close()
            return read_until_end(v) == b"bye"

    wait_until(is_answered, "its tunnel does not come back")
    assert embedded.process(home) != relay
    assert run.wait() == 0
    nothing_stays()


@wants_them_refused
def test_what_visitors_say_to_functions_does_not_pass_the_foreman(adit, engine):
    """What the container sees is the relay's own socket."""
    run = adit("run", "ends.py::watch", "--visits", "1")
    run.out.wait(lambda line: line.startswith("https://"), BUILD_S)
    container, = [c for c in engine.containers() if str(run.pid) in (c["Labels"] or {}).get("adit.owner", "").split()]
    sources = {m["Destination"]: m["Source"] for m in container["Mounts"]}
    assert sources["/run/adit/agents"].endswith("/embedded/agents")
    run.kill(signal.SIGINT)
    assert run.wait() == 130
