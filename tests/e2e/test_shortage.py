"""Running out of descriptors: the operator, and whoever runs an agent, hear of it once and with the remedy."""
import contextlib
import resource

import pytest

from kit.app import echo, read_exactly
from kit.frames import BIND, BOUND, SHORTAGE, TCP, UNBIND, UNBOUND, Bound, bind, u
from kit.hostile import HostileAgent
from kit.ports import free_raw_ports
from kit.process import ADIT, DEADLINE_S, SANITIZED, descriptors, wait_descriptors, wait_until

RELAY_MAX, AGENT_MAX = 64, 32


def limited(most):
    return ["prlimit", f"--nofile={most}:{most}"]


def test_a_relay_without_descriptors_says_so_once_and_what_to_do(start_relay, agent, app, visitor):
    relay = start_relay(prefix=limited(RELAY_MAX))
    running = agent(app(echo))
    strangers = [visitor.connect(relay.address) for _ in range(2 * RELAY_MAX)]
    line = relay.process.err.wait(lambda line: " shortage " in line)
    assert (
        " warn " in line and "LimitNOFILE=" in line and "ulimit -n" in line and f"descriptors_max={RELAY_MAX}" in line
    ), line
    for stranger in strangers:
        stranger.close()
    v = visitor(running)
    v.sendall(b"it goes on")
    assert read_exactly(v, 10) == b"it goes on"
    assert sum(" shortage " in line for line in relay.process.err.lines) == 1, "however often there was none"


def is_served(v):
    with contextlib.suppress(ConnectionError):
        v.sendall(b"it goes on")
        return v.recv(10) == b"it goes on"
    return False


def test_an_agent_without_descriptors_says_so_once_and_what_to_do(relay, agent, app, visitor):
    running = agent(app(echo), "--unencrypted", prefix=limited(AGENT_MAX))
    before = descriptors(running.process.pid)
    streams = [visitor.raw(running) for _ in range(AGENT_MAX)]     # each is worth two descriptors
    event = running.events.wait("warning", reason="shortage")
    assert event["port"] is None and "LimitNOFILE=" in event["text"] and "ulimit -n" in event["text"], event
    running.process.err.wait(lambda line: event["text"] in line)
    for stream in streams:
        stream.close()
    wait_until(lambda: relay.metric("streams_now") == 0, "they do not end")
    with visitor.raw(running) as v:
        assert is_served(v), "it does not go on"
    wait_descriptors(running.process.pid, before + 8)
    assert [e["reason"]
            for e in running.events.seen("warning")] == ["shortage"], "nobody else is blamed, and once is enough"


def test_an_agent_serves_as_many_as_it_has_descriptors_for(relay, agent, app, visitor):
    """A visitor takes two, one of which waits for his app, however many data connections are asked for at once. And
    there is room again as soon as one has left."""
    running = agent(app(echo), "--unencrypted", prefix=limited(AGENT_MAX))
    free = AGENT_MAX - descriptors(running.process.pid)
    crowd = [visitor.raw(running) for _ in range(AGENT_MAX)]
    served = [v for v in crowd if is_served(v)]
    assert len(served) >= free // 2, "descriptors lie idle"
    assert relay.metric("streams_now") == len(served)
    for _ in range(3):
        served.pop().close()
        wait_until(lambda: relay.metric("streams_now") == len(served), "it does not end")
        served.append(visitor.raw(running))
        assert is_served(served[-1]), "what was freed is not used"
    assert all(is_served(v) for v in served)


def test_a_lack_of_descriptors_costs_no_raw_port(start_relay, box):
    """Neither a new one, nor the one that an agent has kept: both are refused for now, and are there again
    afterwards."""
    first = free_raw_ports(2)
    relay = start_relay(options=["--tcp-ports", f"{first}-{first + 1}", "--workers", "1"])
    hostile = HostileAgent(box, relay.token())
    hostile.log_in()
    hostile.do("frame", BIND, bind(1, TCP))
    ticket = Bound(hostile.got(BOUND)).ticket
    hostile.do("frame", UNBIND, u(1, 4))
    hostile.got(UNBOUND)
    limits = resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE, (0, limits[1]))
    for asked in (bind(2, TCP), bind(3, TCP), bind(4, TCP), bind(5, TCP, ticket=ticket)):
        hostile.do("frame", BIND, asked)
        assert hostile.got(UNBOUND)[:6] == asked[:4] + u(SHORTAGE, 2)
    resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE, limits)
    hostile.do("frame", BIND, bind(6, TCP, ticket=ticket))
    kept = Bound(hostile.got(BOUND))
    hostile.do("frame", BIND, bind(7, TCP))
    other = Bound(hostile.got(BOUND))
    assert (kept.id, other.id) == (u(6, 4), u(7, 4)) and {kept.tcp_port, other.tcp_port} == {first, first + 1}


@pytest.mark.skipif(SANITIZED, reason="sanitizers want descriptors of their own")
class TestHoweverFew:
    """From so few that the program just loads to so many that it serves, it ends by itself and says what helps."""

    def test_an_agent(self, relay, box):
        token, served = {"ADIT_TOKEN": relay.token()}, False
        for most in range(5, 40):
            done = box.run(*limited(most), ADIT, "forward", "8000", "--", "true", env=token)
            assert done.returncode in (0, 1), (most, done)
            served = done.returncode == 0
            assert served or "LimitNOFILE=" in done.stderr, (most, done)
            if served and "LimitNOFILE=" not in done.stderr:
                break
        assert served

    @pytest.mark.parametrize("workers", [1, 3])
    def test_a_relay(self, box, workers):
        for most in range(5, 80):
            relay = box.start([*limited(most), ADIT, "relay", "--domain", "r1.test", "--listen", "127.0.0.1:0",
                               "--admin", "127.0.0.1:0",
                               "--workers", workers, "--state", box.file(f"state{most}")])
            ready = relay.err.wait_either(" relay_ready ")
            if ready:
                assert relay.stop() == 0
                return
            assert relay.wait() == 1 and "LimitNOFILE=" in relay.err.text(), (most, relay.report())
        raise AssertionError("it never serves")
