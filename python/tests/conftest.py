"""Fixtures for testing the installed package against a real relay, with the kit of tests/e2e. Everything waits for
events with a deadline.

Run by a Python in whose environment the wheel is installed; ADIT names the relay's program, ADIT_WHEEL the wheel."""

import logging
import os
import re
import sys
import threading
import types

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

from kit.deadline import ends_after
from kit.http import Curl
from kit.process import DEADLINE_S
from kit.roles import Relay
from kit.tls import TlsVisitor, context
from kit.wire import Wire

import adit

pytest_plugins = ["kit.fixtures"]
pytest_runtest_protocol = ends_after(300)


@pytest.fixture(autouse=True)
def nothing_configured(box, monkeypatch):
    for name in [n for n in os.environ if n.startswith(("ADIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", box.home)
    yield
    from adit import _default

    if _default._shared.client is not None:
        _default._shared.client.close()
        _default._forget()


@pytest.fixture
def relay(box):
    return Relay(box)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_place(request, tmp_path):
    """Where a store may be that is not there yet: a file, or a database."""
    if request.param == "sqlite":
        return str(tmp_path / "x.db")
    return request.getfixturevalue("postgresql").database()


@pytest.fixture
def token(relay):
    return relay.token()


@pytest.fixture
def client(token):
    with adit.Client(token) as c:
        yield c


class Records(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records, self.changed = [], threading.Condition()

    def emit(self, record):
        with self.changed:
            self.records.append(record)
            self.changed.notify_all()

    def wait(self, level, pattern):
        def found():
            return [r for r in self.records if r.levelno == level and re.search(pattern, r.getMessage())]

        with self.changed:
            assert self.changed.wait_for(found, 20), [r.getMessage() for r in self.records]


@pytest.fixture
def records():
    handler = Records()
    log = logging.getLogger("adit")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture
def silent(app):
    """A relay that lets itself be dialled and never says a word. Its accept() tells that somebody waits."""
    return app()


@pytest.fixture
def wire(box, relay):
    """A cable to the relay that the test can cut."""
    w = Wire(relay.address, record=False)
    box.closers.append(w.close)
    return w


def at(relay, tunnel):
    return types.SimpleNamespace(relay=relay, host=tunnel.host, tls_port=tunnel.port, url=tunnel.url)


@pytest.fixture
def curl(relay):
    """curl(tunnel)(options) visits it."""
    return lambda tunnel: Curl(at(relay, tunnel))


@pytest.fixture
def visitor(box, relay):
    """visitor(tunnel) is a TLS visitor with its handshake done."""

    def visit(tunnel, source=None, **options):
        v = TlsVisitor(relay.address, tunnel.host, context(relay.authority, **options), source=source)
        box.closers.append(v.close)
        return v

    return visit


@pytest.fixture
def script(box):
    """script(text, *arguments, token=...) runs a Python program; its lines are awaited as out and err."""

    def start(text, *args, token=None, env=None, **options):
        given = {"ADIT_TOKEN": token} if token else {}
        return box.start(
            [sys.executable, "-u", "-W", "default", "-c", text, *args], env={**given, **(env or {})}, **options
        )

    return start


def ended(program, status=0):
    got = program.wait(DEADLINE_S)
    assert got == status, program.report()
    return program.out.text()
