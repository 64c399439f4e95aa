"""A container's token, taken out of it by its own function: good elsewhere while the container is there, and no longer,
whatever becomes of the foreman meanwhile."""
import os
import signal
import sys

import pytest

from kit import tls
from kit.app import echo, read_exactly
from kit.roles import Agent

ADIT = os.path.join(os.path.dirname(sys.executable), "adit")
REVOKED_S = 30
ENDS = pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])

APP = """
from adit import App, _default
app = App("leaky")
@app.function(container_idle_timeout=300)
def leak():
    return _default._make.__self__._channel.ask("token")[0]["token"]
"""
USE = "from adit import Function; print(Function.lookup('leaky', 'leak').remote())"


class Stolen:
    """Such a token, with a tunnel that is open with it."""

    def __init__(self, service, app):
        self.service = service
        done = service.python(USE)
        assert done.wait(60) == 0, done.report()
        self.token, self.container = done.out.text().strip(), service.container("leak")
        self.agent = Agent(service.box, service.relay, [app], token=self.token, program=ADIT)
        trust = tls.context(service.relay.authority)
        self.visitor = tls.TlsVisitor(service.relay.address, self.agent.host, trust)
        service.box.closers.append(self.visitor.close)
        self.is_good()

    def is_good(self):
        self.visitor.sendall(b"here")
        assert read_exactly(self.visitor, 4) == b"here"

    def end_container(self):
        self.service.engine.ask("POST", f"/containers/{self.container}/kill")

    def is_revoked(self):
        """What was open with it has ended, and nothing more is let in."""
        assert "revoked" in self.agent.events.wait("closed", REVOKED_S)["reason"]
        assert tls.how_it_ends(self.visitor) in tls.BROKEN
        again = self.service.box.run(ADIT, "forward", "8000", env={"ADIT_TOKEN": self.token})
        assert again.returncode == 1 and "revoked" in again.stderr, again.stderr


@pytest.fixture
def stolen(service, program, app):
    service.deploy(program("leaky.py", APP))
    return Stolen(service, app(echo))


def test_it_is_revoked_when_the_container_ends(stolen):
    stolen.end_container()
    stolen.is_revoked()


@ENDS
def test_it_is_revoked_when_the_container_ends_that_the_next_foreman_has_taken_over(stolen, end):
    stolen.service.end(end)
    stolen.service.start()
    stolen.is_good()
    stolen.end_container()
    stolen.is_revoked()


@ENDS
def test_it_is_revoked_when_the_next_foreman_finds_the_container_gone(stolen, end):
    stolen.service.end(end)
    stolen.end_container()
    stolen.is_good()
    stolen.service.start()
    stolen.is_revoked()
