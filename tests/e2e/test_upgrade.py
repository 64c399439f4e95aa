"""A relay hands over to its program as it is on the disk now, while visitors come."""
import os
import signal
import socket
import stat
import sys
import threading

import pytest

from kit import hello
from kit.app import echo, read_exactly, read_until_end, reset
from kit.impostor import PARTS, impostor
from kit.process import ADIT, BUILD, DEADLINE_S, scaled, wait_until
from kit.tls import BROKEN, how_it_ends
from kit.traffic import Comers, streams_of_every_kind, talk, talk_between


def ask_for_nobody(relay):
    """A stranger who asks for a name that is nobody's gets the answer that says so."""
    answer = hello.answer_to(relay.address, hello.records(hello.client_hello("nobody.r1.test")))
    assert hello.alert_in(answer) == hello.fatal(hello.UNRECOGNIZED_NAME)


def test_a_relay_is_upgraded_again_and_again_and_turns_nobody_away(relay, box):
    with Comers(lambda: ask_for_nobody(relay)) as strangers, Comers(lambda: relay.get("/healthz")):
        for _ in range(5):
            strangers.wait(3)
            before = relay.upgrade()
            assert before.pid != relay.process.pid
            strangers.wait(3)
    assert relay.get("/healthz") == "ok\n"
    second = box.adit("relay", "--domain", "r1.test", "--listen", "127.0.0.1:0", "--state", relay.state)
    assert second.returncode == 1 and "another relay serves from it" in second.stderr, "the claim went along"


def test_a_signal_upgrades_as_the_command_does(relay):
    before = relay.process
    relay.upgrade(ask=lambda: before.kill(signal.SIGUSR2))
    assert before.popen.wait(DEADLINE_S) == 0
    ask_for_nobody(relay)


def unnoticed(agent):
    """That agent knows of nothing."""
    return agent.process.running and not any(agent.events.seen(kind)
                                             for kind in ("reconnecting", "restored", "superseded"))


@pytest.mark.both_pumps
def test_streams_of_every_kind_go_on_and_no_agent_notices(start_relay, agent, app, visitor):
    relay = start_relay(options=["--link", "plain"])
    sealed = agent(app(echo), "--unencrypted", relay=relay)
    plain = agent(app(echo), "--unencrypted", "--link", "plain", relay=relay)
    with streams_of_every_kind(visitor, sealed, plain) as visitors:
        for _ in range(5):
            visitors.wait(3)
            before = relay.upgrade()
            wait_until(lambda: not before.running, "the old process does not end")
        assert relay.metric("links_now") == 2 and relay.metric("tunnels_now") == 2
        assert relay.metric("streams_now") >= 8
    assert unnoticed(sealed) and unnoticed(plain)


def test_who_is_amid_a_handshake_gets_through_and_has_a_stream_in_the_new_relay(relay, agent, app, visitor):
    running = agent(app(echo))
    held = [visitor(running, hold_finished=True) for _ in range(4)]
    before = relay.upgrade()
    for v in held:
        talk(v)                         # behind Finished
    wait_until(lambda: not before.running, "the old process does not end")
    for v in held:
        talk(v)
    assert relay.metric("streams_now") == len(held)
    assert unnoticed(running)


def test_an_agent_amid_its_handshake_comes_up_in_the_new_relay(relay, agent, app, visitor, wire):
    cable, before = wire(relay), relay.process
    cable.hold()

    def upgrade():
        cable.wait_held(1)
        relay.upgrade()
        cable.flow()
    upgrading = threading.Thread(target=upgrade)
    upgrading.start()
    running = agent(app(echo), dial=cable.dial)
    upgrading.join()
    talk(visitor(running))
    wait_until(lambda: not before.running, "the old process does not end")
    talk(visitor(running))
    assert unnoticed(running) and len(cable.links) == 1
    assert relay.metric("links_now") == relay.metric("links_total") == relay.metric("tunnels_now") == 1


def test_a_data_connection_amid_its_handshake_follows_its_link(relay, agent, app, visitor, wire):
    cable = wire(relay)
    running = agent(app(echo), "--data", "tls", dial=cable.dial)
    talk(visitor(running))
    wait_until(lambda: relay.metric("data_connections_warm_now") > 0, "there is none in store")
    cable.hold()
    early = visitor(running)
    cable.wait_held(1)
    before = relay.upgrade()
    cable.flow()
    wait_until(lambda: not before.running, "the old process does not end")
    for v in (early, visitor(running)):
        talk(v)
    wait_until(lambda: relay.metric("data_connections_wrapped_total") == len(cable.data), "some were lost")
    assert relay.metric("data_connections_refused_total") == 0 and unnoticed(running)


def test_counters_go_on_and_never_back(relay, agent, app, visitor):
    """Also for whoever asks in the midst of it."""
    running, last = agent(app(echo)), [0, 0]

    def ask():
        now = [relay.metric(name) for name in ("streams_total", "links_total")]
        assert all(n >= before for n, before in zip(now, last)), (now, last)
        last[:] = now
    with Comers(ask) as asking, Comers(lambda: talk(visitor(running))) as visitors:
        for _ in range(3):
            visitors.wait(2)
            before = relay.upgrade()
            asking.wait(3)
            wait_until(lambda: not before.running, "the old process does not end")
    assert relay.metric("streams_total") >= visitors.served and relay.metric("links_total") == 1


def test_silent_strangers_hold_up_nobody(relay):
    """Who has said nothing, or half of it, keeps newcomers from nothing."""
    silent = [socket.create_connection(relay.address, DEADLINE_S) for _ in range(3)]
    said = hello.records(hello.client_hello("nobody.r1.test"))
    silent[0].sendall(b"PRO")
    silent[1].sendall(said[:40])
    wait_until(lambda: relay.metric("connections_accepted_total") >= 3, "they do not come in")
    before = relay.upgrade()
    ask_for_nobody(relay)
    assert before.running, "they are heard out where they are"
    silent[1].sendall(said[40:])
    assert hello.alert_in(read_until_end(silent[1])) == hello.fatal(hello.UNRECOGNIZED_NAME)
    for s in silent:
        s.close()
    wait_until(lambda: not before.running, "the old process does not end")


@pytest.mark.both_pumps
def test_streams_end_as_they_would_have_ended(relay, agent, app, visitor):
    a = app()
    running = agent(a, "--unencrypted")
    for connect in (visitor, visitor.raw):
        (half, at_half), (broken, at_broken) = ((connect(running), a.accept()) for _ in range(2))
        talk_between(half, at_half)
        talk_between(broken, at_broken)
        half.shutdown(socket.SHUT_WR)
        assert read_until_end(at_half) == b""
        relay.upgrade()
        at_half.sendall(b"the answer")
        at_half.close()
        assert read_exactly(half, 10) == b"the answer" and not half.recv(1)
        reset(at_broken)
        assert how_it_ends(broken) in BROKEN


@pytest.mark.both_pumps
def test_what_nobody_reads_waits_through_an_upgrade(relay, agent, app, visitor):
    a = app()
    running = agent(a, "--unencrypted")
    for connect in (visitor, visitor.raw):
        v = connect(running)
        connection = a.accept()
        sent = os.urandom(scaled(64 << 20, 8 << 20))
        for sender, receiver in ((v, connection), (connection, v)):
            sending = threading.Thread(target=sender.sendall, args=(sent,))
            sending.start()
            relay.upgrade()
            assert read_exactly(receiver, len(sent)) == sent
            sending.join()


@pytest.mark.parametrize("part", PARTS)
def test_a_program_that_does_not_get_ready_changes_nothing(relay, agent, app, visitor, box, part):
    running = agent(app(echo))
    v = visitor(running)
    program, said = impostor(box, part)
    with Comers(lambda: talk(visitor(running))) as visitors:
        visitors.wait(1)
        done = box.adit("relay", "upgrade", "--state", relay.state, "--exec", program)
        assert done.returncode == 1 and said in done.stderr, done.stderr
        relay.process.err.wait(lambda line: "upgrade_failed" in line and said in line)
        visitors.wait(1)
    talk(v)
    assert relay.process.running and not running.events.seen("restored")


NEXT, BEHIND_NEXT = (os.path.join(BUILD, "tests", "e2e", name) for name in ("next-relay", "relay-behind-next"))
FORMAT_OF = {(ADIT, NEXT): 1, (NEXT, NEXT): 2, (NEXT, ADIT): 1, (NEXT, BEHIND_NEXT): 2, (BEHIND_NEXT, NEXT): 2}


def upgrade_to(relay, program):
    return relay.box.adit("relay", "upgrade", "--state", relay.state, "--exec", program)


def test_releases_follow_on_each_other_forwards_and_back(relay, agent, app, visitor):
    """In the newest format that both know. What the next release would say besides, and this one could not read, is
    said to the next alone, which does without it from this one."""
    running = agent(app(echo))
    v, now = visitor(running), ADIT
    for program in (NEXT, NEXT, BEHIND_NEXT, NEXT, ADIT):
        wait_until(lambda: relay.metric("data_connections_warm_now") > 0, "there is none in store")
        before = relay.upgrade(program=program)
        wait_until(lambda: not before.running, "the old process does not end")
        before.err.wait(lambda line: f" upgraded to_process={relay.process.pid} " in line
                        and line.endswith(f" format={FORMAT_OF[now, program]}"))
        talk(v)
        talk(visitor(running))
        now = program
    for what in ("link", "warm"):
        read = [line.split()[2] for line in before.err.lines if line.endswith(f"_more what={what}")]
        assert list(dict.fromkeys(read)) == ["without_more", "with_more"], read
    assert relay.metric("links_total") == 1 and unnoticed(running)


@pytest.mark.parametrize("one, other", [(ADIT, BEHIND_NEXT), (BEHIND_NEXT, ADIT)], ids=["forwards", "back"])
def test_releases_that_are_further_apart_refuse_each_other_and_the_old_one_goes_on(start_relay, agent, app, visitor,
                                                                                    one, other):
    relay = start_relay(program=one)
    running = agent(app(echo), relay=relay)
    v = visitor(running)
    done = upgrade_to(relay, other)
    assert done.returncode == 1, done
    assert "takes over from relays of other versions only (restart the relay instead)" in done.stderr
    talk(v)
    talk(visitor(running))
    assert relay.process.running and unnoticed(running)


def test_a_program_that_finds_its_configuration_wrong_says_why(box, start_relay):
    configuration = box.file("relay.conf", "workers = 1\n")
    relay = start_relay(options=["--config", configuration])
    box.file("relay.conf", "workers = 1\ncert = /nowhere\nkey = /nowhere\n")
    done = box.adit("relay", "upgrade", "--state", relay.state)
    assert done.returncode == 1 and "/nowhere" in done.stderr
    ask_for_nobody(relay)
    box.file("relay.conf", "workers = 3\n")
    relay.upgrade()
    relay.process.err.wait(lambda line: "relay_ready" in line and "workers=3" in line)
    ask_for_nobody(relay)


def test_workers_may_be_fewer_or_more_than_before(box, start_relay):
    configuration = box.file("relay.conf", "workers = 4\n")
    relay = start_relay(options=["--config", configuration])
    with Comers(lambda: ask_for_nobody(relay)) as strangers:
        for workers in (1, 3, 2):
            box.file("relay.conf", f"workers = {workers}\n")
            relay.upgrade()
            strangers.wait(8)       # they are spread over all sockets


def test_the_socket_is_for_the_relays_user_alone(relay, box):
    path = os.path.join(relay.state, "upgrade.sock")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.connect(path)
        s.sendall(b"upgrade /bin/\0false")
        s.settimeout(DEADLINE_S)
        assert s.recv(512) == b"failed: malformed request"
    relay.process.stop()
    assert not os.path.exists(path)
    done = box.adit("relay", "upgrade", "--state", relay.state)
    assert done.returncode == 1 and "no relay runs there" in done.stderr


def test_what_ends_a_relay_during_its_upgrade_ends_it(relay, box):
    program, _ = impostor(box, "says nothing")
    asking = threading.Thread(target=lambda: box.adit("relay", "upgrade", "--state", relay.state, "--exec", program))
    asking.start()
    relay.process.err.wait(lambda line: " upgrading" in line)
    relay.process.kill(signal.SIGTERM)
    assert relay.process.wait() == 0
    asking.join()


@pytest.mark.heavy
def test_under_load_nothing_is_lost(box):
    """What `make upgrade-soak` does, in small."""
    soak = os.path.join(os.path.dirname(__file__), "..", "soak", "upgrade.py")
    done = box.run(sys.executable, soak, "--connections", scaled(200, 64), "--agents", 4, "--visitors", 20,
                   "--upgrades", 3, "--pause", 1, "--between", 0.2, "--every", 0.5, env={"ADIT": ADIT}, seconds=300)
    assert done.returncode == 0, done.stdout + done.stderr
