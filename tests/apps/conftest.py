"""Fixtures for using applications as a person does: `example` starts one by its documented command, `browser` and
`curl` visit it.

The relay is a real one with an authority of its own, below a domain that leads to this machine in the browser and in
curl only: examples get an ADIT_TOKEN and know nothing more, like any user's program. Everything waits for events with a
deadline. A failed test leaves the pictures of its pages in ADIT_APPS_CACHE/failures and tells what the browser, the
example and the relay said."""
import os
import re
import subprocess
import sys
import types
import urllib.parse

import pytest
from playwright.sync_api import sync_playwright

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

from appkit.browser import Browser                # noqa: E402: after the path of kit
from appkit.example import CACHE, ROOT, VENV_BIN, Example   # noqa: E402
from kit.deadline import ends_after               # noqa: E402
from kit.http import Curl                         # noqa: E402
from kit.process import ADIT                      # noqa: E402
from kit.roles import Relay                       # noqa: E402
from kit.wire import Wire                         # noqa: E402

pytest_plugins = ["kit.fixtures"]
pytest_runtest_protocol = ends_after(300)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if call.when != "teardown" and report.failed:
        folder = os.path.join(CACHE, "failures", re.sub(r"\W+", "-", item.name))
        for browser in getattr(item.funcargs.get("browser"), "browsers", []):
            report.sections.append(("browser", browser.report(folder)))


@pytest.fixture
def relay(box):
    return Relay(box)


@pytest.fixture(scope="session")
def playwright():
    with sync_playwright() as p:
        yield p


@pytest.fixture
def browser(playwright, box, request):
    """browser() is Chromium on the machine of a person who trusts the relay; browser.without_trust() of one who does
    not. Their page(url) opens a tab."""
    browsers = []

    def start(domain=None, authorities=()):
        browsers.append(Browser(playwright, box, domain, authorities))
        return browsers[-1]

    def trusting():
        relay = request.getfixturevalue("relay")
        return start(relay.domain, [relay.authority])
    trusting.browsers, trusting.start = browsers, start
    trusting.without_trust = lambda: start(request.getfixturevalue("relay").domain)
    yield trusting
    for b in browsers:
        b.close()


@pytest.fixture
def curl(relay):
    """curl(url) visits the host of that URL; the result is called with curl's options, and with path=."""
    def visitor(url):
        at = urllib.parse.urlsplit(url)
        return Curl(types.SimpleNamespace(relay=relay, host=at.hostname, tls_port=at.port or 443,
                                          url=f"https://{at.netloc}"))
    return visitor


class Elsewhere:
    """elsewhere(command, host, ...) runs a line of shell as on the machine of a person who trusts the relay: there
    these names lead to it."""

    def __init__(self, box, relay):
        self.box, self.env = box, {"SSL_CERT_FILE": relay.authority,
                                   "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": relay.authority,
                                   "PATH": os.pathsep.join([VENV_BIN, box.env["PATH"]])}

    def __call__(self, command, *hosts, **options):
        return self.box.run(*self._argv(command, hosts), env=self.env, **options)

    def start(self, command, *hosts):
        return self.box.start(self._argv(command, hosts), env=self.env, stdin=subprocess.PIPE)

    def _argv(self, command, hosts):
        names = self.box.file(self.box.unique("hosts"), f"127.0.0.1 localhost {' '.join(hosts)}\n", mode=0o644)
        return ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c",
                'mount --bind "$0" /etc/hosts && eval "$1"', names, command]


@pytest.fixture
def elsewhere(box, relay):
    return Elsewhere(box, relay)


@pytest.fixture
def wire(box, relay):
    """A cable between the examples and the relay that the test can cut: example(..., dial=wire.dial)."""
    w = Wire(relay.address, record=False)
    box.closers.append(w.close)
    return w


@pytest.fixture
def example(box, browser, request):
    """example("basic.py") runs it with a token of the relay; embedded=True with nothing configured. At the end of the
    test all examples are ended by Ctrl-C, while the browser's pages are still open."""
    examples = []

    def start(name, *args, embedded=False, dial=None, **options):
        token = None if embedded else request.getfixturevalue("relay").token(dial)
        examples.append(Example(box, name, *args, token=token, **options))
        return examples[-1]
    yield start
    troubles = []
    for e in reversed(examples):
        try:
            e.end()
        except Exception as trouble:
            troubles.append(trouble)
    assert not troubles, troubles


def pytest_report_header():
    return f"relay under test: {ADIT}; examples from {ROOT}"
