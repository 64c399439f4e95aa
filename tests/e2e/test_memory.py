"""Memory that is not there: whichever allocation fails for a visitor, in the relay, its key process or the agent, that
is his loss at the most, or that of the control link, which comes back. Others' streams go on, the next visitor is
served, and all that was held is given back."""
import contextlib
import itertools
import ssl

import pytest

from kit.app import echo, read_exactly
from kit.failing_memory import PROGRAM, FailingMemory
from kit.process import wait_until

WORDS = b"are you there?" * 100
KINDS = ["TLS 1.3", "TLS 1.2", "raw sealed", "raw plain"]


def talk(v):
    v.sendall(WORDS)
    assert read_exactly(v, len(WORDS)) == WORDS


def come(visitor, running, kind):
    """A visitor of that kind says something, is answered, and leaves."""
    version = ssl.TLSVersion.TLSv1_2 if kind == "TLS 1.2" else ssl.TLSVersion.TLSv1_3
    v = visitor.raw(running) if kind.startswith("raw") else visitor(running, version=version)
    with contextlib.closing(v):
        talk(v)


def nobody_is_here(relay):
    return all(relay.metric(name) == 0 for name in ("streams_now", "visitors_waiting_now", "handshakes_now"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whose", ["relay", "agent"])
def test_it_costs_one_visitor_at_the_most(start_relay, agent, app, visitor, box, whose, kind):
    memory = FailingMemory(box)
    failing, sound = {"program": PROGRAM, "prefix": memory.prefix}, {}
    relay = start_relay(options=["--link", "plain", "--workers", "1"], **(failing if whose == "relay" else sound))
    plain = ["--link", "plain"] if kind == "raw plain" else []
    running = agent(app(echo), "--unencrypted", *plain, relay=relay, **(failing if whose == "agent" else sound))
    come(visitor, running, kind)            # what is made once is there
    kept, lost = visitor(running), 0
    talk(kept)
    for n in itertools.count():
        memory.fail(n)
        try:
            come(visitor, running, kind)
        except (OSError, EOFError, AssertionError):
            lost += 1
        if not memory.heal():
            break
        talk(kept)
        restored = len(running.events.seen("restored"))
        try:
            come(visitor, running, kind)
        except (OSError, EOFError, AssertionError):
            wait_until(lambda: len(running.events.seen("restored")) > restored, "and it was not the link's loss")
            come(visitor, running, kind)
    assert 0 < lost < n
    kept.close()
    wait_until(lambda: nobody_is_here(relay), "somebody stays")
