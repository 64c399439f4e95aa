"""What one tenant, or a stranger, takes is taken from himself first."""
import contextlib
import resource
import socket
import ssl

import pytest

from kit import hello
from kit.app import echo, read_exactly
from kit.flood import flood
from kit.process import DEADLINE_S, resident_bytes, wait_until

CAP = 512                                        # unfinished connections of one source
SHORT = ["prlimit", "--nofile=310:310"]


def talk(v, words=b"hello"):
    v.sendall(words)
    assert read_exactly(v, len(words)) == words


def is_served(visitor, tunnel):
    """A visitor of the raw port. One that is refused is reset, perhaps before connect() has returned."""
    try:
        v = visitor.raw(tunnel)
        talk(v)
    except (ConnectionResetError, BrokenPipeError):
        return False
    return True


def crowd(box, relay, count, words=b"", source="127.0.0.1"):
    """Connections that say so much and no more. Some may be reset while others are still coming."""
    sockets = []
    for _ in range(count):
        sock = socket.socket()
        sock.bind((source, 0))
        sock.settimeout(DEADLINE_S)
        sock.connect(relay.address)
        with contextlib.suppress(OSError):
            sock.sendall(words)
        sockets.append(sock)
        box.closers.append(sock.close)
    return sockets


def leave(sockets):
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("said", ["nothing", "a byte", "half a preface", "a ClientHello", "one for a link",
                                  "one for data"])
def test_whoever_stalls_behind_the_agents_address_breaks_none_of_their_tunnels(relay, agent, app, visitor, box, said):
    running = agent(app(echo))
    words = {"nothing": b"", "a byte": b"\x16", "half a preface": b"\xadDIT\x01",
             "a ClientHello": hello.records(hello.client_hello(running.host)),
             "one for a link": hello.records(hello.client_hello(relay.domain, alpn=["adit/1"])),
             "one for data": hello.records(hello.client_hello(relay.domain, alpn=["adit-data/1"]))}
    crowd(box, relay, CAP + 50, words[said])
    for _ in range(20):                          # each takes a data connection, which comes from that address, too
        talk(visitor(running))
    talk(visitor(agent(app(echo))))              # and so does a link


def test_the_limit_of_streams_holds_and_the_agent_is_told(relay, agent, app, visitor):
    running = agent(app(echo), "--unencrypted", token=relay.create_token("small", "--max-streams", "3"))
    first = visitor.raw(running)
    for v in (first, visitor(running), visitor(running)):
        talk(v)
    with pytest.raises(ssl.SSLError, match="internal error"):
        visitor(running)
    assert not is_served(visitor, running)
    event = running.events.wait("warning", reason="max_streams")
    assert event["port"] == running.tunnel.port and "--max-streams" in event["text"], event
    assert relay.metric("visitors_refused_total") == 2
    first.close()
    wait_until(lambda: relay.metric("streams_now") == 2, "the stream does not end")
    talk(visitor(running))


def test_the_limit_of_visitors_per_second_holds_and_the_agent_is_told(relay, agent, app, visitor):
    running = agent(app(echo), "--unencrypted", token=relay.create_token("slow", "--max-visitors-per-s", "1"))
    assert is_served(visitor, running)
    while is_served(visitor, running):           # on a slow machine the next second has begun
        pass
    assert "--max-visitors-per-s" in running.events.wait("warning", reason="max_visitors")["text"]


def test_limits_are_the_tokens_and_not_its_neighbours(relay, agent, app, visitor):
    small = agent(app(echo), token=relay.create_token("small", "--max-streams", "1"))
    other = agent(app(echo))
    talk(visitor(small))
    with pytest.raises(ssl.SSLError, match="internal error"):
        visitor(small)
    for _ in range(5):
        talk(visitor(other))


def test_idle_visitors_of_one_owner_shut_out_nobody_elses(start_relay, agent, app, visitor):
    relay = start_relay(prefix=SHORT)
    hog = agent(app(lambda c: c.recv(1)), "--unencrypted", relay=relay, token=relay.create_token("hog"))
    other = agent(app(echo), "--unencrypted", relay=relay, token=relay.create_token("other"))
    idle = []
    for _ in range(200):
        with contextlib.suppress(ConnectionResetError):
            idle.append(visitor.raw(hog))
    wait_until(lambda: relay.metric("streams_now") + relay.metric("visitors_refused_total") == 200,
               "they are not all dealt with")
    assert 25 < relay.metric("streams_now") < 120
    assert hog.events.wait("warning", reason="share")["port"] == hog.tunnel.port
    assert "LimitNOFILE=" in relay.process.err.wait(lambda line: " shortage " in line)
    others = [visit(other) for _ in range(5) for visit in (visitor, visitor.raw)]
    for v in others:
        talk(v)
    assert relay.get("/healthz").startswith("ok")
    leave(idle)
    wait_until(lambda: relay.metric("streams_now") == len(others), "the streams do not end")
    before = relay.metric("streams_total")

    def are_let_in():
        # The data connections that are kept ready after a crowd are a part of the share, and become fewer by and by.
        with contextlib.suppress(ConnectionResetError):
            visitor.raw(hog)
        return relay.metric("streams_total") >= before + 20

    wait_until(are_let_in, "there is no room again")


def test_strangers_leave_descriptors_to_tenants(start_relay, agent, app, visitor, box):
    relay = start_relay(prefix=SHORT)
    running = agent(app(echo), relay=relay)
    for i in range(10):                          # of many sources, so that no cap of a source meets them
        crowd(box, relay, 40, source=f"127.0.0.{i + 2}")
    for _ in range(5):
        talk(visitor(running))
    assert relay.get("/healthz").startswith("ok")
    wait_until(lambda: relay.metric("newcomers_dropped_descriptors_total") > 0, "they are not dropped")


def test_more_silent_strangers_than_a_listener_has_places_hinder_nobody(start_relay, agent, app, visitor, box):
    """They wait in the kernel for their first bytes, and when there are no places for them any more, at the relay."""
    relay = start_relay(options=["--workers", "1"])
    running = agent(app(echo), relay=relay)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_000:
        pytest.skip("fewer descriptors than strangers")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    strangers = crowd(box, relay, 6000, source="127.0.0.2")
    for i in range(5):
        talk(visitor(running, source=f"127.0.0.{i + 3}"))
    wait_until(lambda: relay.metric("connections_accepted_total") >= 6000, "the strangers are not heard of")
    talk(visitor(running, source="127.0.0.99"))
    leave(strangers)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.heavy
def test_handshakes_have_so_much_memory_and_no_more(start_relay, agent, app, visitor, box):
    relay = start_relay(options=["--handshake-memory", "4MB", "--workers", "1"])
    running = agent(app(echo), relay=relay)
    talk(visitor(running))
    before = resident_bytes(relay.process.pid)
    said = hello.records(hello.client_hello(running.host))
    for i in range(10):
        crowd(box, relay, 100, said, source=f"127.0.0.{i + 2}")
    wait_until(lambda: relay.metric("newcomers_dropped_memory_total") >= 900, "they are not dropped")
    assert relay.metric("handshakes_now") < 100
    assert resident_bytes(relay.process.pid) - before < 12 << 20
    for _ in range(5):
        talk(visitor(running, source="127.0.0.99"))


def test_little_memory_is_enough_for_a_handshake_at_each_of_many_loops(start_relay, agent, app, visitor):
    relay = start_relay(options=["--handshake-memory", "1MB", "--workers", "32"])
    running = agent(app(echo), relay=relay)
    for _ in range(64):                          # one after the other, as the kernel chooses the loop of each
        v = visitor(running, hold_finished=True)
        v.flush()
        talk(v)


@pytest.mark.heavy
def test_the_memory_of_a_burst_is_given_back(start_relay, agent, app, visitor, box):
    relay = start_relay(options=["--handshake-memory", "200MB"])
    running = agent(app(echo), relay=relay)
    talk(visitor(running))
    before = resident_bytes(relay.process.pid)
    said, all_sockets = hello.records(hello.client_hello(running.host)), []
    for i in range(5):
        all_sockets += crowd(box, relay, 300, said, source=f"127.0.0.{i + 2}")
    wait_until(lambda: relay.metric("handshakes_now") == len(all_sockets), "they are not all in handshake")
    assert resident_bytes(relay.process.pid) - before > 24 << 20
    leave(all_sockets)
    wait_until(lambda: resident_bytes(relay.process.pid) - before < 10 << 20, "the memory is not given back",
               seconds=60)
    talk(visitor(running))


@pytest.mark.heavy                               # a flood at a sanitized relay is one of another kind
def test_newcomers_are_served_while_others_flood(relay, agent, app, visitor, box):
    running = agent(app(echo))
    with flood(box, relay, running.host) as begun:
        begun.wait()
        for i in range(20):
            talk(visitor(running, source=f"127.0.0.{i + 2}"))
