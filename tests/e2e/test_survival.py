"""What survives what: the relay's death, the agent's death, the loss of the control link."""
import os
import signal
import socket
import time

import pytest

from kit import hello
from kit.app import echo, read_exactly, reset
from kit.ports import free_raw_ports
from kit.process import DEADLINE_S, SANITIZED
from kit.roles import Tunnel
from kit.slow_disk import SlowDisk
from kit.tls import BROKEN, how_it_ends

RELAY_BACK_S = 3 * (5 if SANITIZED else 1)


def talk(stream, words=b"hello"):
    stream.sendall(words)
    assert read_exactly(stream, len(words)) == words


@pytest.mark.both_pumps
def test_a_killed_relay_comes_back_with_the_same_addresses(relay, agent, app, visitor):
    """Within three seconds of its restart, and without the agent being touched."""
    running = agent(app(echo), "--unencrypted")
    talk(visitor(running))
    relay.process.kill()
    relay.process.wait()
    running.events.wait("reconnecting")
    relay.restart()
    began = time.monotonic()
    running.events.wait("restored", RELAY_BACK_S)
    talk(visitor(running))
    talk(visitor.raw(running))
    assert time.monotonic() - began < RELAY_BACK_S
    assert len(running.events.seen("open")) == 1 and running.process.running


def test_a_new_address_is_told(relay, agent, app, visitor):
    """Of a relay that has lost its ticket keys, which cannot know the old address any more."""
    running = agent(app(echo))
    relay.process.kill()
    relay.process.wait()
    os.unlink(os.path.join(relay.state, "ticket.key"))
    relay.options.append("--reset-state")
    relay.restart()
    changed = Tunnel(relay, running.events.wait("open"))
    assert changed.host != running.host
    talk(visitor(changed))
    assert len(running.events.seen("open")) == 2


def test_a_waiting_visitor_is_served_once_data_connections_get_through_again(relay, agent, app, visitor, wire):
    cable = wire(relay)
    running = agent(app(echo), dial=cable.dial)
    talk(visitor(running))
    cable.refuse()
    v = visitor(running)                  # its handshake needs the relay only
    v.sendall(b"anybody there?")
    cable.accept_again()
    assert read_exactly(v, 14) == b"anybody there?"
    assert not running.events.seen("reconnecting")


def test_a_newcomer_cannot_take_the_port_of_an_agent_that_is_not_back_yet(start_relay, agent, app, wire, box):
    """The range has one port; its lease was committed before it was announced."""
    port = free_raw_ports()
    relay = start_relay(options=["--tcp-ports", f"{port}-{port}"])
    cable = wire(relay)
    owner = agent(app(echo), "--unencrypted", relay=relay, dial=cable.dial)
    assert owner.tcp_port == port
    relay.process.kill()
    relay.process.wait()
    cable.open = False                    # the owner cannot come back for now
    cable.cut_links()
    relay.restart()
    newcomer = agent(app(echo), "--unencrypted", relay=relay, token=relay.create_token("newcomer"), wait=False)
    assert newcomer.process.wait() == 1
    assert "adit: " in newcomer.process.err.text()
    cable.open = True
    owner.events.wait("restored")


@pytest.mark.both_pumps
def test_a_killed_agent_comes_back_with_its_kept_address(relay, agent, app, visitor, box):
    a, keep = app(echo), box.file("keep")
    first = agent(a, "--unencrypted", "--keep", keep)
    v = visitor(first)
    talk(v)
    first.process.kill()
    second = agent(a, "--unencrypted", "--keep", keep)
    assert second.same_address_as(first)
    talk(visitor(second))
    talk(visitor.raw(second))
    assert how_it_ends(v) in BROKEN


def test_a_kept_address_is_taken_back_while_the_relay_believes_the_old_agent_alive(relay, agent, app, visitor, wire,
                                                                                   box):
    """A stopped agent's link looks alive for as long as its heartbeat allows; nobody waits for that."""
    a, keep = app(echo), box.file("keep")
    first = agent(a, "--unencrypted", "--keep", keep)
    first.process.freeze()
    began = time.monotonic()
    second = agent(a, "--unencrypted", "--keep", keep)
    assert second.same_address_as(first) and time.monotonic() - began < DEADLINE_S / 4
    talk(visitor(second))
    first.process.kill(signal.SIGCONT)
    first.events.wait("superseded")


def test_of_two_agents_with_one_ticket_the_newer_wins_for_good(relay, agent, app, visitor, box):
    keep = box.file("keep")
    first = agent(app(lambda c: c.sendall(b"old")), "--keep", keep)
    second = agent(app(lambda c: c.sendall(b"new")), "--keep", keep)
    assert second.same_address_as(first)
    first.events.wait("superseded")
    assert first.process.wait() == 1
    assert read_exactly(visitor(second), 3) == b"new"
    assert not second.events.seen("superseded") and not second.events.seen("reconnecting")


def test_a_ticket_file_is_private(relay, agent, app, box):
    keep = box.file("keep")
    agent(app(echo), "--keep", keep)
    assert os.stat(keep).st_mode & 0o777 == 0o600


@pytest.mark.unsanitized      # sanitizers want to be loaded first and have threads of their own
def test_a_slow_disk_stops_no_stream(relay, agent, app, visitor, wire, box):
    """A reconnect renews the kept ticket; while its file is being written all goes on, and closing waits for it."""
    cable, disk, keep = wire(relay), SlowDisk(box), box.file("keep")
    running = agent(app(echo), "--keep", keep, dial=cable.dial, prefix=disk.prefix)
    v = visitor(running)
    talk(v)
    disk.hold()
    cable.cut_links()
    with disk.next_write():
        running.events.wait("restored")
        talk(v, b"while the disk is busy")
        talk(visitor(running), b"a new visitor, too")
        running.process.kill(signal.SIGTERM)
        assert how_it_ends(v) in BROKEN  # the time for its streams is up: it waits for the disk alone
        assert running.process.running
        disk.free()
    assert running.process.wait() == 0
    assert os.listdir(box.path).count("keep") == 1 and not [name for name in os.listdir(box.path)
                                                            if name.startswith("keep.")]


@pytest.mark.unsanitized      # as above
def test_a_disk_that_hangs_keeps_no_agent_from_ending(relay, agent, app, box):
    disk, keep = SlowDisk(box), box.file("keep")
    disk.hold()
    running = agent(app(echo), "--keep", keep, prefix=disk.prefix, wait=False)
    with disk.next_write():             # which never ends
        running.process.kill(signal.SIGTERM)
        assert running.process.wait() == 0
    assert not os.path.exists(keep)


def test_a_kept_address_is_of_no_use_to_another_token_and_is_not_lost(relay, agent, app, box):
    a, keep = app(echo), box.file("keep")
    first = agent(a, "--keep", keep)
    assert first.process.stop() == 0
    thief = agent(a, "--keep", keep, token=relay.create_token("thief"), wait=False)
    assert "keep file" in thief.events.wait("closed")["text"] and thief.process.wait() == 1
    assert agent(a, "--keep", keep).same_address_as(first)


def test_a_kept_ticket_that_is_refused_later_is_set_aside(relay, agent, app, visitor, box):
    """A relay that lost its ticket keys gives a running agent a new address; once it has the keys back, so has the
    agent its old address."""
    a, keep, keys = app(echo), box.file("keep"), os.path.join(relay.state, "ticket.key")
    running = agent(a, "--keep", keep)
    kept, known = open(keep).read(), open(keys, "rb").read()
    relay.process.kill()
    relay.process.wait()
    os.unlink(keys)
    relay.options.append("--reset-state")
    relay.restart()
    changed = running.events.wait("open")
    assert changed["url"] != running.url
    said = running.events.wait("warning", reason="keep_file")
    assert keep + ".old" in said["text"]
    assert open(keep + ".old").read() == kept and changed["tls_socket"][0] in open(keep).read()
    assert running.process.stop() == 0
    relay.process.kill()
    relay.process.wait()
    box.file(os.path.relpath(keys, box.path), known)
    os.rename(keep + ".old", keep)
    relay.options.remove("--reset-state")
    relay.restart()
    back = agent(a, "--keep", keep)
    assert back.same_address_as(running)
    talk(visitor(back))


def test_a_kept_ticket_of_another_relay_is_set_aside(start_relay, agent, app, box):
    first, second = start_relay(domain="r1.test"), start_relay(domain="r2.test")
    a, keep = app(echo), box.file("keep")
    agent(a, "--keep", keep, relay=first).process.stop()
    kept = open(keep).read()
    running = agent(a, "--keep", keep, relay=second)
    assert running.host.endswith(".r2.test") and running.host in open(keep).read()
    assert keep + ".old" in running.events.wait("warning", reason="keep_file")["text"]
    without = [[line for line in text.splitlines() if not line.startswith("incarnation")]
               for text in (kept, open(keep + ".old").read())]
    assert without[0] == without[1]


def test_a_keep_file_that_cannot_be_written_is_told_at_start(relay, agent, app, box):
    running = agent(app(echo), "--keep", box.file("nowhere") + "/missing/keep", wait=False)
    assert running.process.wait() == 1 and not running.events.seen("open")


@pytest.mark.both_pumps
def test_a_stream_outlives_the_loss_of_the_control_link(relay, agent, app, visitor, wire):
    cable = wire(relay)
    running = agent(app(echo), "--unencrypted", dial=cable.dial)
    streams = [visitor(running), visitor.raw(running)]
    for v in streams:
        talk(v)
    cable.cut_links()
    for v in streams:
        talk(v, b"while the link is gone")
    running.events.wait("reconnecting")
    running.events.wait("restored")
    for v in streams:
        talk(v, b"and after")
    talk(visitor(running), b"a new visitor at the same address")
    assert len(running.events.seen("open")) == 1


@pytest.mark.both_pumps
def test_killing_the_agent_in_mid_stream_resets_the_visitor(relay, agent, app, visitor):
    a = app()
    running, streams = agent(a, "--unencrypted"), []
    for connect in (visitor, visitor.raw):
        streams.append(connect(running))
        a.accept().sendall(b"x" * 100000)
        assert read_exactly(streams[-1], 100000)
    running.process.kill()
    assert all(how_it_ends(v) in BROKEN for v in streams)


def test_new_visitors_fail_fast_after_the_agents_death(relay, agent, app):
    running = agent(app(echo))
    running.process.kill()
    running.process.wait()
    answer = hello.answer_to(relay.address, hello.records(hello.client_hello(running.host)))
    assert hello.alert_in(answer) == hello.fatal(hello.UNRECOGNIZED_NAME)


def test_a_frozen_agent_is_found_within_the_accept_deadline(relay, agent, app, visitor):
    """Nothing was accepted, so the visitor is reset; it never hangs."""
    running = agent(app(echo))
    running.process.freeze()
    v = visitor(running)
    v.sendall(b"anybody there?")
    v.settimeout(10 if not SANITIZED else 30)
    assert how_it_ends(v) in BROKEN
    running.process.kill(signal.SIGCONT)


def test_an_agent_waits_for_its_relay_with_jitter_and_not_in_a_spin(relay, agent, app):
    running = agent(app(echo))
    relay.process.kill()
    relay.process.wait()
    running.events.wait("reconnecting")
    before = sum(time_of(running.process.pid))
    began = time.monotonic()
    with socket.create_server(relay.address, reuse_port=False) as nobody:      # accepts, then resets: the worst relay
        nobody.settimeout(DEADLINE_S)
        tries = 0
        while time.monotonic() - began < 3:
            reset(nobody.accept()[0])
            tries += 1
    assert 2 <= tries <= 80, tries
    assert sum(time_of(running.process.pid)) - before < 2


def time_of(pid):
    """CPU seconds, user and system."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return [int(x) / os.sysconf("SC_CLK_TCK") for x in fields[11:13]]


@pytest.mark.skipif(not os.environ.get("ADIT_SMALL"),
                    reason="only a build with small_limits=true (ADIT_SMALL=1) has so short a silence")
def test_a_link_that_is_kept_busy_is_not_taken_for_silent(relay, agent, app, visitor):
    """Visitors keep the relay talking; the agent must speak all the same. The small limit on silence is 5 s."""
    running = agent(app(echo))
    until = time.monotonic() + 8
    while time.monotonic() < until:
        stream = visitor(running)
        talk(stream)
        stream.close()
    assert relay.metric("adit_links_total") == 1
    assert not running.events.seen("reconnecting")
