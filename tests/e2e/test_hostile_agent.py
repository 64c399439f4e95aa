"""What a relay takes from an agent that lies."""
import os
import signal
import time
from ipaddress import IPv4Network

import pytest

from kit.app import echo, read_exactly
from kit.frames import (ALPN, BIND, BOUND, GOODBYE, H2, HELLO, MALFORMED, TCP, TOKEN_ALLOW, TOKEN_PROOF, TOKEN_RAW,
                        TOKEN_REVOKED,
                        TUNNEL_LIMIT, UNBIND, UNBOUND,
                        WELCOME, Bound, bind, u)
from kit.hostile import HostileAgent
from kit.process import DEADLINE_S, wait_until
from kit.roles import Tunnel
from kit.slow_disk import SlowDisk
from kit.tls import how_it_ends

small = pytest.mark.skipif(not os.environ.get("ADIT_SMALL"),
                           reason="only a build with small_limits=true (ADIT_SMALL=1) has so short a silence")


@pytest.fixture
def hostile(box, relay):
    return HostileAgent(box, relay.create_token("hostile", "--max-tunnels", "4"))


def ends_saying(hostile, reason):
    assert hostile.got(GOODBYE)[:2] == u(reason, 2)
    hostile.sees("link ended")


def test_a_forged_signature_proves_nothing(relay, hostile):
    hostile.do("link")
    hostile.do("forged")
    ends_saying(hostile, TOKEN_PROOF)
    assert relay.metric("links_refused_total") == 1 and relay.metric("links_total") == 0


def test_a_hello_that_was_recorded_proves_nothing_on_another_link(relay, hostile):
    hostile.log_in()
    hostile.got(WELCOME)
    hostile.do("link")
    hostile.do("repeat")
    ends_saying(hostile, TOKEN_PROOF)


@pytest.mark.parametrize("chain,reason", [
    ("wider", MALFORMED), ("four", MALFORMED), ("cut", MALFORMED), ("headless", MALFORMED),
    ("usurped", TOKEN_PROOF), ("stolen", TOKEN_PROOF), ("moved", TOKEN_PROOF)])
def test_a_chain_that_does_not_hold_proves_nothing(relay, hostile, chain, reason):
    """A certificate wider than its parent; one too many; a piece of a chain; a child's that its parent has not signed;
    a child's with its parent's key; and a grandchild's beneath another child."""
    hostile.do("chain", chain)
    hostile.log_in()
    ends_saying(hostile, reason)
    assert relay.metric("links_refused_total") == 1 and relay.metric("links_total") == 0


@pytest.mark.parametrize("chain", ["narrower", "narrowest"])
def test_a_chain_opens_what_all_of_its_certificates_allow(relay, hostile, chain):
    hostile.do("chain", chain)
    hostile.log_in()
    hostile.got(WELCOME)
    for tunnel, flags, allow, reason in (1, TCP, (), TOKEN_RAW), (2, 0, [IPv4Network("10.0.0.0/8")], TOKEN_ALLOW):
        hostile.do("frame", BIND, bind(tunnel, flags, allow=allow))
        assert hostile.got(UNBOUND)[:6] == u(tunnel, 4) + u(reason, 2)
    for tunnel, allow in (3, ()), (4, [IPv4Network("127.0.0.1/32")]), (5, [IPv4Network("0.0.0.0/0")]):
        hostile.do("frame", BIND, bind(tunnel, allow=allow))
        assert hostile.got(BOUND)[:4] == u(tunnel, 4)
    assert relay.metric("tunnels_now") == 3


def test_tunnels_of_all_chains_count_for_the_token_that_they_begin_with(box, relay, hostile):
    hostile.log_in()
    for tunnel in range(3):
        hostile.do("frame", BIND, bind(tunnel))
        hostile.got(BOUND)
    other = HostileAgent(box, hostile.token)
    other.do("chain", "narrowest")
    other.log_in()
    other.do("frame", BIND, bind(1))
    other.got(BOUND)
    for agent in other, hostile:
        agent.do("frame", BIND, bind(9))
        assert agent.got(UNBOUND)[:6] == u(9, 4) + u(TUNNEL_LIMIT, 2)


def test_a_ticket_is_good_for_every_chain_of_its_token_and_gives_none_what_it_may_not_have(box, relay, hostile):
    hostile.log_in()
    hostile.do("frame", BIND, bind(1, TCP))
    bound = Bound(hostile.got(BOUND))
    other = HostileAgent(box, hostile.token)
    other.do("chain", "narrower")
    other.log_in()
    other.do("frame", BIND, bind(1, TCP, ticket=bound.ticket))
    assert other.got(UNBOUND)[:6] == u(1, 4) + u(TOKEN_RAW, 2)
    other.do("frame", BIND, bind(2, ticket=bound.ticket))
    taken = Bound(other.got(BOUND))
    assert (taken.host, taken.tcp_port) == (bound.host, 0)
    assert hostile.got(UNBOUND)[:4] == u(1, 4)


def test_nothing_but_hello_is_heard_before_it(relay, hostile):
    hostile.do("link")
    hostile.do("frame", BIND, bind(1))
    ends_saying(hostile, MALFORMED)


def test_hello_comes_once(relay, hostile):
    hostile.log_in()
    hostile.got(WELCOME)
    hostile.do("repeat")
    ends_saying(hostile, MALFORMED)


@pytest.mark.parametrize("known,length", [(False, 8193), (True, 16385)])
def test_a_frame_that_is_too_long_is_refused_by_its_header(relay, hostile, known, length):
    hostile.do("link")
    if known:
        hostile.do("hello")
        hostile.got(WELCOME)
    hostile.do("header", HELLO, length)
    ends_saying(hostile, MALFORMED)


def test_one_id_for_two_tunnels_is_malformed(relay, hostile):
    hostile.log_in()
    hostile.do("frame", BIND, bind(1))
    hostile.do("frame", BIND, bind(1))
    ends_saying(hostile, MALFORMED)


def test_the_id_of_a_tunnel_that_was_given_up_is_used(relay, hostile):
    hostile.log_in()
    for tunnel in (2, 1):
        hostile.do("frame", BIND, bind(tunnel))
        assert hostile.got(BOUND)[:4] == u(tunnel, 4)
    hostile.do("frame", UNBIND, u(1, 4))
    assert hostile.got(UNBOUND)[:4] == u(1, 4)
    hostile.do("frame", BIND, bind(3))
    assert hostile.got(BOUND)[:4] == u(3, 4), "a new one is free"
    hostile.do("frame", BIND, bind(1))
    ends_saying(hostile, MALFORMED)


def test_the_id_of_a_tunnel_that_was_refused_may_ask_again_until_it_is_given_up(relay, hostile):
    hostile.log_in()
    for _ in range(3):
        hostile.do("frame", BIND, bind(1, alpn=["acme-tls/1"]))
        assert hostile.got(UNBOUND)[:6] == u(1, 4) + u(ALPN, 2)
    hostile.do("frame", UNBIND, u(1, 4))
    hostile.do("frame", BIND, bind(1))
    ends_saying(hostile, MALFORMED)


def test_an_id_far_below_the_highest_counts_as_used(relay, hostile):
    hostile.log_in()
    hostile.do("frame", BIND, bind(0xffffffff))
    assert hostile.got(BOUND)[:4] == u(0xffffffff, 4)
    hostile.do("frame", BIND, bind(1))
    ends_saying(hostile, MALFORMED)


def test_a_frame_of_unknown_type_is_skipped(relay, hostile):
    hostile.log_in()
    hostile.do("frame", 200, b"x" * 100)
    hostile.do("frame", BIND, bind(1))
    assert hostile.got(BOUND)[:4] == u(1, 4)


@pytest.mark.relay_options("--workers", "1")      # which so takes them in their order
def test_a_number_is_good_for_one_data_connection(relay, hostile):
    hostile.log_in()
    hostile.got(WELCOME)
    hostile.do("data")
    hostile.do("again")
    hostile.sees("data ended")
    assert relay.metric("data_connections_refused_total") == 1
    assert relay.metric("data_connections_total") == 1 and relay.metric("data_connections_warm_now") == 1


def test_a_data_connection_that_speaks_before_open_is_dead(relay, hostile):
    hostile.log_in()
    hostile.got(WELCOME)
    hostile.do("data")
    hostile.do("byte")
    hostile.sees("data ended")
    assert relay.metric("data_connections_total") == 1 and relay.metric("data_connections_warm_now") == 0


def test_a_visitor_for_whom_there_is_no_data_connection_is_told(relay, hostile, visitor):
    hostile.log_in()
    hostile.do("frame", BIND, bind(1))
    v = visitor(tunnel_of(relay, hostile))
    assert "internal" in how_it_ends(v)
    assert relay.metric("visitors_wait_timeout_total") == 1


@pytest.mark.parametrize("status,reason", [(1, "not_accepted"), (2, "protocol")])
def test_a_visitor_whose_tunnel_has_just_gone_is_no_violation_of_the_protocol(relay, hostile, visitor, status, reason):
    """The tunnel may end while OPEN is on its way to the agent, which then says that it has none: nobody did anything
    wrong."""
    hostile.log_in()
    hostile.do("frame", BIND, bind(1))
    v = visitor(tunnel_of(relay, hostile))
    hostile.do("data")
    hostile.sees("data open")
    hostile.do("accept", status)
    assert how_it_ends(v) == "reset"
    wait_until(lambda: f'streams_closed_total{{reason="{reason}"}} 1' in relay.get("/metrics"),
               "another reason is counted")


def tunnel_of(relay, hostile):
    body = hostile.got(BOUND)
    name = body[5:5 + body[4]].decode()
    return Tunnel(relay, {"url": f"https://{name}", "port": 0, "tls_socket": [name, relay.port], "tcp_socket": None})


@pytest.mark.relay_options("--workers", "1")
def test_a_flood_of_binds_leaves_others_their_turn(relay, hostile, agent, app, visitor):
    """Each is refused, the limit being reached, and none is worth a certificate."""
    tunnel = agent(app(echo), "--h2")
    hostile.log_in()
    hostile.tell("flood", 1_000_000)
    while hostile.got(UNBOUND)[4:6] != u(TUNNEL_LIMIT, 2):
        pass
    until = time.monotonic() + DEADLINE_S
    for _ in range(20):
        v = visitor(tunnel, alpn=["h2"])
        v.sendall(b"my turn")
        assert read_exactly(v, 7) == b"my turn"
        v.close()
        assert time.monotonic() < until
    assert "flood" not in hostile.program.out.lines, "it was still going on"


def test_a_token_that_asks_for_ports_without_end_can_be_revoked(relay, box):
    """Each of them is a write to the state, where the revocation has to go, too."""
    hostile = ask_for_ports_without_end(relay, box, "greedy")
    relay.revoke("greedy")
    ends_saying(hostile, TOKEN_REVOKED)
    assert "ports" not in hostile.program.out.lines, "it was still going on"


def ask_for_ports_without_end(relay, box, name):
    hostile = HostileAgent(box, relay.create_token(name, "--max-tunnels", "1000"))
    hostile.log_in()
    hostile.tell("ports", 4_000_000_000)
    for _ in range(5000):
        hostile.got(UNBOUND)                # it is well under way
    return hostile


def ask_for_ports(hostile, first, n):
    """Returns once the relay has heard it."""
    for i in range(n):
        hostile.tell("frame", BIND, bind(first + i, TCP))
    hostile.is_heard()


@pytest.mark.unsanitized      # sanitizers want to be loaded first
def test_a_token_that_asks_for_many_ports_does_not_make_others_wait(start_relay, box):
    """Each write to the state serves all owners that wait."""
    disk = SlowDisk(box)
    relay = start_relay(prefix=disk.prefix)
    greedy, other = (HostileAgent(box, relay.create_token(name, "--max-tunnels", "1000"))
                     for name in ("greedy", "other"))
    greedy.log_in()
    other.log_in()
    disk.hold()
    ask_for_ports(greedy, 1, 500)
    ask_for_ports(other, 1, 1)
    disk.let_through(20)
    assert Bound(other.got(BOUND)).id == u(1, 4)


@pytest.mark.unsanitized
def test_ports_that_were_asked_for_do_not_keep_the_relay_from_ending(start_relay, box):
    disk = SlowDisk(box)
    relay = start_relay(prefix=disk.prefix, options=["--drain", "0s"])
    greedy = HostileAgent(box, relay.create_token("greedy", "--max-tunnels", "1000"))
    greedy.log_in()
    disk.hold()
    ask_for_ports(greedy, 1, 500)
    relay.process.kill(signal.SIGTERM)
    greedy.sees("link ended")                    # else any number of them might be written before it is told to end
    disk.let_through(20)
    assert relay.process.wait() == 0


@pytest.mark.parametrize("known", [False, True])
def test_a_flood_of_key_updates_ends_the_link(relay, hostile, known):
    hostile.do("link")
    if known:
        hostile.do("hello")
        hostile.got(WELCOME)
    hostile.tell("updates", 200_000)
    hostile.sees("link ended")
    assert "updates" not in hostile.program.out.lines, "it was cut short"
    assert relay.metric("links_now") == 0


@small
@pytest.mark.parametrize("manner", ["silent", "dribble"])
def test_an_agent_of_which_no_frame_comes_is_lost(relay, hostile, manner):
    """Also when bytes do. The small limit on silence is 5 s."""
    hostile.log_in()
    hostile.got(WELCOME)
    hostile.do("silent")
    hostile.do(manner)
    hostile.sees("link ended")
    assert relay.metric("links_now") == 0


@small
def test_a_frozen_relay_is_lost_to_its_agent(relay, agent, app):
    running = agent(app(echo))
    relay.process.freeze()
    assert "silent" in running.events.wait("reconnecting")["text"]
    relay.process.kill(18)
    running.events.wait("restored")
