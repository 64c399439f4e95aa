"""The installed package against a real relay. ADIT names the relay's program; the package under test brings its own."""
import os
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "e2e"))

from kit.app import App, echo, read_exactly
from kit.roles import Box, Relay
from kit.tls import TlsVisitor, context

import adit

TEST_DEADLINE_S = 60


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    def late(*_):
        raise TimeoutError(f"the test is not done after {TEST_DEADLINE_S} s")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(TEST_DEADLINE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def box(monkeypatch):
    b = Box()
    for name in ("ADIT_TOKEN", "ADIT_RELAY", "ADIT_EMBEDDED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", b.home)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    yield b
    b.close()


@pytest.fixture
def relay(box):
    return Relay(box)


@pytest.fixture
def client(relay):
    with adit.Client(relay.token()) as c:
        yield c


@pytest.fixture
def app(box):
    made = []

    def make(serve=echo):
        made.append(App(serve))
        return made[-1]
    yield make
    for one in made:
        one.close()


@pytest.fixture
def script(box, relay):
    """Runs a program of a user: `python -c`, with the token in its environment. It may wait for the end of its input."""
    def run(text, *args, env=None):
        given = {"ADIT_TOKEN": relay.token(), "PYTHONFAULTHANDLER": "1", **(env or {})}
        return box.start([sys.executable, "-c", text, *map(str, args)], stdin=subprocess.PIPE,
                         env={k: v for k, v in given.items() if v is not None})
    return run


@pytest.fixture
def visit(relay):
    """Says something to the echo behind a tunnel, and holds the visitor."""
    def say(tunnel, text=b"through python"):
        visitor = TlsVisitor(relay.address, tunnel if isinstance(tunnel, str) else tunnel.host, context(relay.authority))
        visitor.sendall(text)
        assert read_exactly(visitor, len(text)) == text
        return visitor
    return say
