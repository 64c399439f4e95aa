"""A tunnel as programs have it in hand: opened and closed without a block, found when it was lost, over for good."""

import asyncio
import contextlib
import copy
import dataclasses
import gc
import inspect
import logging
import os
import pickle
import queue
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ended
from kit import embedded
from kit.app import echo, read_exactly
from kit.process import wait_until
from kit.roles import Relay
from test_endings import in_hand, is_gone

import adit
from adit import forward
from adit.exception import AuthError, ClosedError, InvalidError

WAIT_S = 20


class Events(queue.Queue):
    """What on_event= was told."""

    def __call__(self, event):
        self.put(event)

    def next(self, kind):
        while True:
            event = self.get(timeout=WAIT_S)
            if event.kind == kind:
                return event


@pytest.fixture
def events():
    return Events()


@pytest.fixture(params=["default", "own"])
def forwarding(request, token, monkeypatch):
    """forward() by the process's client, and by one that nobody else holds."""
    monkeypatch.setenv("ADIT_TOKEN", token)
    yield forward if request.param == "default" else lambda port, **options: adit.Client().forward(port, **options)
    for tunnel in adit.tunnels():
        tunnel.close()


def test_without_a_block(client, app, relay, visitor):
    f = forward(app(echo).port, client=client)
    for _ in range(2):
        assert f.closed
        tunnel = f.start()
        assert isinstance(tunnel, adit.Tunnel) and not f.closed and not tunnel.closed
        assert f.url == tunnel.url == f.tunnel.url and tunnel.reason is f.reason is None
        visitor(tunnel).close()
        for _ in range(2):
            f.close()
        assert f.closed and tunnel.closed and tunnel.reason == f.reason == "closed"
        assert is_gone(relay, visitor, tunnel)


def test_in_a_block_it_may_be_closed_before_its_end(client, relay, visitor, app):
    f = forward(app(echo).port, client=client)
    with f as tunnel:
        tunnel.close()
        assert is_gone(relay, visitor, tunnel)
        with f as another:
            assert another.host != tunnel.host
            tunnel.close()
            assert not another.closed


def test_a_block_may_open_what_is_started_and_end_it(client):
    with forward(8000, client=client) as tunnel:
        assert client.tunnels == [tunnel]
    assert client.tunnels == []


@pytest.mark.parametrize("asked", ["url", "tunnel"])
def test_what_is_not_open_has_no_address_and_says_how_to_get_one(client, asked):
    f = forward(8000, client=client)
    with pytest.raises(InvalidError, match=rf"^{asked}: .*not open yet \(enter it by with, or start\(\) it\)"):
        getattr(f, asked)
    f.start()
    f.close()
    with pytest.raises(ClosedError, match=rf"^{asked}: .*closed \(start\(\) opens it again\)"):
        getattr(f, asked)


def test_what_was_never_open_cannot_be_waited_for(client):
    f = forward(8000, client=client)
    f.close()
    for ask in (f.wait, lambda: f.reason, lambda: f.stats):
        with pytest.raises(InvalidError, match="not open yet"):
            ask()


def test_they_say_what_they_are(client):
    f = forward(8000, client=client)
    assert repr(f) == "<adit.Forward of localhost:8000, not open>"
    assert "adit.Client" in repr(client) and "0 tunnels" in repr(client)
    tunnel = f.start()
    assert repr(f) == f"<adit.Forward of localhost:8000, open at {tunnel.url}>"
    assert repr(tunnel) == f"<adit.Tunnel {tunnel.url} of localhost:8000, open>"
    assert repr(client) == "<adit.Client r1.test, 1 tunnel>"
    f.close()
    assert repr(f) == "<adit.Forward of localhost:8000, closed>"
    assert repr(tunnel) == f"<adit.Tunnel {tunnel.url} of localhost:8000, closed>"
    client.close()
    assert repr(client) == "<adit.Client closed>"


# --- lost and found ---


def test_the_open_ones_are_listed(client, token):
    with adit.Client(token) as other:
        one, two, three = client.forward(8000), client.forward(8001), other.forward(8000)
        tunnels = [f.start() for f in (one, two, three)]
        assert adit.tunnels() == tunnels
        assert client.tunnels == tunnels[:2] and other.tunnels == tunnels[2:]
        assert (
            adit.tunnels(8000)
            == adit.tunnels("localhost:8000")
            == adit.tunnels("127.0.0.1:8000")
            == [tunnels[0], tunnels[2]]
        )
        assert adit.tunnels("8001") == [tunnels[1]] and adit.tunnels(80) == []
        with pytest.raises(InvalidError, match="neither a port nor a string"):
            adit.tunnels(8000.0)
        two.close()
        assert adit.tunnels() == [tunnels[0], tunnels[2]]
        client.close()
        assert adit.tunnels() == [tunnels[2]] and client.tunnels == []
        assert tunnels[0].closed and one.closed
    assert adit.tunnels() == []


def test_what_is_being_opened_is_not_listed(token, silent):
    client = adit.Client(token, relays=[f"127.0.0.1:{silent.port}"])

    def open_one():
        with pytest.raises(ClosedError):
            client.forward(8000, timeout=100).start()

    opening = threading.Thread(target=open_one)
    opening.start()
    silent.accept()
    assert adit.tunnels() == client.tunnels == [] and len(in_hand(client)) == 1
    client.close()
    opening.join(WAIT_S)
    assert in_hand(client) == []


def test_the_collector_closes_nothing(forwarding, app, visitor, relay):
    """Neither a tunnel nor a client through which one is open."""
    port = app(echo).port
    forwarding(port).start()
    gc.collect()
    (tunnel,) = adit.tunnels()
    visitor(tunnel).close()
    tunnel.close()
    assert is_gone(relay, visitor, tunnel)
    forwarding(port).start()


def test_a_client_whose_last_tunnel_is_closed_goes_with_whoever_held_it(token):
    tunnel = adit.Client(token).forward(8000).start()
    (thread,) = (t for t in threading.enumerate() if t.name == "adit-events")
    gc.collect()
    assert thread.is_alive()
    tunnel.close()
    gc.collect()
    thread.join(WAIT_S)
    assert not thread.is_alive() and tunnel.closed


def test_the_second_of_an_app_says_how_to_close_the_first(forwarding, monkeypatch):
    """As when the cell of a notebook is run again."""
    own = adit.Client()
    monkeypatch.setattr(adit, "Client", lambda: own)
    before = own.forward(7000).start()
    first = forwarding(8000).start()
    with pytest.raises(InvalidError) as failure:
        forwarding(8000).start()
    text = str(failure.value)
    assert first.url in text
    remedy = text[text.index("(close that one first: ") :].removeprefix("(close that one first: ").removesuffix(")")
    assert remedy == "adit.tunnels(8000)[0].close()"
    exec(remedy)
    assert first.closed and not before.closed
    forwarding(8000).start()
    own.close()


def test_a_wrong_option_is_told_as_such_although_the_app_is_forwarded(client):
    with client.forward(8000), pytest.raises(InvalidError, match="allow nowhere"):
        client.forward(8000, allow="nowhere").start()


# --- over for good ---


@pytest.fixture
def superseded(client, token, app, box, events, records):
    """A tunnel, and the Forward that it is of, whose address another client has taken."""
    f = client.forward(app(echo).port, keep=box.file("ticket"), on_event=events)
    tunnel = f.start()
    other = adit.Client(token)
    taker = other.forward(app(echo).port, keep=box.file("ticket")).start()
    assert tunnel.wait(WAIT_S) == "superseded" and taker.url == tunnel.url
    yield f, tunnel
    other.close()


def test_a_program_learns_that_its_tunnel_is_superseded(superseded, client, events, records):
    f, tunnel = superseded
    assert tunnel.closed and f.closed and tunnel.reason == f.reason == f.wait() == "superseded"
    event = events.next("superseded")
    assert event.tunnel is tunnel and event.reason == "superseded" and event.final
    assert event.text.startswith("another agent has taken over the address (")
    records.wait(logging.ERROR, rf"^{tunnel.app} \({tunnel.host[:8]}\): another agent has taken over")
    assert not [r for r in records.records if r.levelno > logging.DEBUG and tunnel.host in r.getMessage()]
    assert client.tunnels == [] and [t.closed for t in adit.tunnels()] == [False]
    with pytest.raises(ClosedError, match=r"^url: .*another agent has taken over .*\)$"):
        _ = f.url
    assert repr(f).endswith(", superseded>")
    f.close()
    assert tunnel.reason == "superseded"


def test_its_app_and_file_are_free_again(superseded, client, box):
    f, tunnel = superseded
    port = int(tunnel.app.split(":")[1])
    again = client.forward(port, keep=box.file("ticket")).start()
    assert again.url == tunnel.url and not again.closed and tunnel.closed
    again.close()
    assert f.start().url == tunnel.url


def test_a_block_whose_tunnel_is_over_is_left_as_ever(client, token, box):
    with client.forward(8000, keep=box.file("ticket")) as tunnel:
        with adit.Client(token) as other, other.forward(8001, keep=box.file("ticket")):
            assert tunnel.wait(WAIT_S) == "superseded"
    assert tunnel.reason == "superseded" and in_hand(client) == []


def test_visitors_stay_until_it_is_closed(client, token, app, visitor, box):
    with client.forward(app(echo).port, keep=box.file("ticket")) as tunnel:
        v = visitor(tunnel)
        v.sendall(b"before")
        assert read_exactly(v, 6) == b"before"
        with adit.Client(token) as other, other.forward(8001, keep=box.file("ticket")):
            assert tunnel.wait(WAIT_S) == "superseded"
            v.sendall(b"after")
            assert read_exactly(v, 5) == b"after"
            assert tunnel.stats.visitors_now == 1


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_token_that_is_no_good_any_more_ends_it_and_the_next_begins_anew(relay, token, events, monkeypatch, how):
    """With what is configured by then, although the old one was never closed."""
    monkeypatch.setenv("ADIT_TOKEN", relay.create_token("alice", *(["--expires", "2s"] if how == "expired" else [])))
    tunnel = forward(8000, on_event=events).start()
    if how == "revoked":
        relay.revoke("alice")
    assert tunnel.wait(WAIT_S) == f"token_{how}" and tunnel.closed
    event = events.next("closed")
    assert event.tunnel is tunnel and event.reason == f"token_{how}" and how in event.text
    with pytest.raises(AuthError, match=how):
        forward(8000).start()
    monkeypatch.setenv("ADIT_TOKEN", token)
    with forward(8000) as another:
        assert adit.tunnels() == [another]
    tunnel.close()


def test_an_embedded_relay_that_dies_for_good_ends_it(box, events):
    with pytest.warns(adit.exception.EmbeddedRelayWarning):
        tunnel = forward(8000, on_event=events).start()
    embedded.kill_for_good(box.home)
    assert tunnel.wait(WAIT_S) == "embedded_relay" and events.next("closed").tunnel is tunnel
    with pytest.warns(adit.exception.EmbeddedRelayWarning), forward(8000):
        pass
    tunnel.close()


def test_a_lost_link_is_no_end(relay, token, wire, events):
    heard = Events()
    with adit.Client(token, relays=[wire.dial], on_event=heard) as client:
        with client.forward(8000, on_event=events) as tunnel, client.forward(8001) as other:
            wire.cut_links()
            lost, back = events.next("reconnecting"), events.next("restored")
            assert lost.tunnel is back.tunnel is tunnel and not lost.final
            assert heard.next("reconnecting").tunnel is None and heard.next("restored").tunnel is None
            assert not tunnel.closed and not other.closed and tunnel.wait(0) is None


def test_the_log_names_the_tunnels_of_a_lost_link(relay, token, wire, records):
    with adit.Client(token, relays=[wire.dial]) as client:
        with client.forward(8000) as one, client.forward(8001) as two:
            wire.cut_links()
            labels = rf"localhost:8000 \({one.host[:8]}\), localhost:8001 \({two.host[:8]}\)"
            records.wait(logging.WARNING, rf"^{labels}: relay r1\.test: ")
            records.wait(logging.WARNING, rf"^{labels}: the link to the relay is back")


def test_an_address_that_has_changed_is_told(box, app, records, events):
    """As by a relay that has lost its state: the Tunnel in hand stays as it was, the Forward knows the new one."""
    relay = Relay(box)
    with adit.Client(relay.token()) as client:
        f = client.forward(8000, on_event=events)
        tunnel = f.start()
        assert events.next("open").tunnel == tunnel
        relay.process.kill()
        relay.process.wait()
        os.unlink(os.path.join(relay.state, "ticket.key"))
        relay.options = ["--reset-state"]
        relay.restart()
        event = events.next("open")
        assert event.tunnel.url == f.url == event.text != tunnel.url and client.tunnels == [event.tunnel]
        records.wait(logging.WARNING, "it has another address now: " + f.url)
        event.tunnel.close()
        assert tunnel.closed and f.closed


# --- waiting ---


def test_waiting_has_a_limit(client):
    with client.forward(8000) as tunnel:
        began = time.monotonic()
        assert tunnel.wait(0.2) is None and time.monotonic() - began >= 0.2
        with pytest.raises(InvalidError, match="timeout"):
            tunnel.wait(-1)


@pytest.mark.parametrize("timeout", [10**9, float("inf")])
def test_waiting_may_have_a_limit_that_is_far_away(client, timeout):
    tunnel = client.forward(8000).start()
    threading.Timer(0.05, tunnel.close).start()
    assert tunnel.wait(timeout) == "closed"


@pytest.mark.parametrize("how", ["tunnel", "forward", "client"])
def test_whoever_waits_is_told_of_a_close(client, how):
    f = client.forward(8000)
    tunnel = f.start()
    reasons = []
    waiting = [threading.Thread(target=lambda: reasons.append(tunnel.wait())) for _ in range(3)]
    for thread in waiting:
        thread.start()
    {"tunnel": tunnel, "forward": f, "client": client}[how].close()
    for thread in waiting:
        thread.join(WAIT_S)
    assert reasons == ["closed"] * 3 and tunnel.wait() == "closed"


WAITING = """
import signal, sys
from adit import forward
tunnel = forward(8000).start()
signal.signal(signal.SIGTERM, lambda *_: tunnel.close())
try:
    print("waiting")
    print(tunnel.wait())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "closed"), (signal.SIGINT, "interrupted")])
def test_a_signal_reaches_who_waits(script, token, number, said):
    program = script(WAITING, token=token)
    program.out.wait(lambda line: line == "waiting")
    program.kill(number)
    assert ended(program).endswith(said)


def test_nobody_can_be_told_without_a_thread(token, monkeypatch):
    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        client = adit.Client(token)
        tunnel = client.forward(8000).start()
        with pytest.raises(RuntimeError, match="new thread"):
            tunnel.wait()
    waiting = threading.Thread(target=tunnel.wait)  # for which there is one by now
    waiting.start()
    client.close()
    waiting.join(WAIT_S)
    assert not waiting.is_alive()


# --- counts ---


def test_counts(client, app, visitor):
    with client.forward(app(echo).port) as tunnel:
        assert tunnel.stats == adit.Stats(0, 0, 0, 0, 0)
        v = visitor(tunnel)
        v.sendall(b"hello")
        assert read_exactly(v, 5) == b"hello"
        # What has arrived may not be counted yet.
        wait_until(lambda: tunnel.stats.bytes_from_app == 5, "what was sent is not counted")
        now = tunnel.stats
        assert (now.visitors_now, now.visitors_total, now.bytes_to_app) == (1, 1, 5)
        v.close()
    assert tunnel.stats == dataclasses.replace(now, visitors_now=0)


# --- events ---


@pytest.mark.parametrize("on_event", [5, "print"])
def test_what_cannot_be_called(client, token, on_event):
    with pytest.raises(InvalidError, match=r"on_event: .* cannot be called"):
        client.forward(8000, on_event=on_event)
    with pytest.raises(InvalidError, match=r"on_event: .* cannot be called"):
        adit.Client(token, on_event=on_event)


def test_each_event_carries_its_tunnel(client):
    """Also the first of one that another thread has just asked for."""
    told, ports, lock = {}, range(9000, 9040), threading.Lock()

    def on_event(event, port):
        with lock:
            told.setdefault(port, []).append((event.kind, event.tunnel.app, event.tunnel.url, event.text))

    tunnels = {}

    def open_one(port):
        tunnels[port] = client.forward(port, on_event=lambda event: on_event(event, port)).start()

    threads = [threading.Thread(target=open_one, args=(port,)) for port in ports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = Events()
    client.forward(9999, on_event=last).start()
    last.next("open")  # so those before it have been told
    for port in ports:
        url = tunnels[port].url
        assert told[port] == [("open", f"localhost:{port}", url, url)]


def test_a_callback_that_fails_is_told_to_the_log(client, token, records, box, events):
    def fails(event):
        raise ZeroDivisionError

    client.forward(8000, on_event=fails).start()
    records.wait(logging.ERROR, "on_event: it has failed")
    client.forward(8001, on_event=events).start()
    assert events.next("open")


def test_a_callback_may_close(client, token, box):
    done = queue.Queue()

    def closes(event):
        if event.final:
            event.tunnel.close()
            client.close()
            done.put(event.tunnel)

    tunnel = client.forward(8000, keep=box.file("ticket"), on_event=closes).start()
    with adit.Client(token) as other, other.forward(8000, keep=box.file("ticket")):
        assert done.get(timeout=WAIT_S) is tunnel and client.closed


def test_a_warning_before_it_is_open_is_told(client, token, box, events, records):
    """That a kept address is another relay's, and so will be another: no exception tells that."""
    elsewhere = Relay(box, domain="r2.test")
    with adit.Client(elsewhere.token()) as other, other.forward(8000, keep=box.file("ticket")):
        pass
    with client.forward(8000, keep=box.file("ticket"), on_event=events):
        assert events.next("warning").reason == "ticket_relay"
        records.wait(logging.WARNING, r"^localhost:8000.*: the kept ticket is of relay r2\.test")


# --- copies ---


def copies(tunnel):
    yield copy.copy(tunnel)
    yield copy.deepcopy(tunnel)
    yield pickle.loads(pickle.dumps(tunnel))
    yield dataclasses.replace(tunnel)
    yield adit.Tunnel(**dataclasses.asdict(tunnel))


def test_a_copy_is_of_the_addresses_alone(client):
    with client.forward(8000, unencrypted=True) as tunnel:
        for other in copies(tunnel):
            assert other == tunnel and hash(other) == hash(tunnel) and other.tcp_socket == tunnel.tcp_socket
            assert tunnel.url in repr(other)
            for ask in (lambda t: t.closed, lambda t: t.stats, lambda t: t.wait(0), lambda t: t.close()):
                with pytest.raises(InvalidError, match="copy of its addresses"):
                    ask(other)
        assert not tunnel.closed


# --- children ---


FORKED = """
import os, sys
import adit
f = adit.forward(8000)
tunnel = f.start()
if os.fork() == 0:
    assert adit.tunnels() == [] and f.closed and tunnel.closed
    print(tunnel.reason, tunnel.wait(), repr(f).endswith("forked>"), tunnel.stats.visitors_total)
    tunnel.close()
    with adit.forward(8000) as own:
        assert adit.tunnels() == [own]
    sys.exit(0)
assert os.wait()[1] == 0
assert adit.tunnels() == [tunnel] and not tunnel.closed
"""


def test_in_a_child_its_parents_are_over(script, token):
    assert ended(script(FORKED, token=token)) == "forked forked True 0"


# --- help ---


PUBLIC = "forward, Client, Forward, Tunnel, Event, Stats, tunnels, https"


def test_help_shows_what_users_may_write():
    program = f"from adit import {PUBLIC}\nfor shown in ({PUBLIC}): help(shown)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    shown = re.sub(r"__dataclass\w+ = .*", "", shown)  # which every dataclass has
    private = set(re.findall(r"(?<![\w.`])_(?!_)\w+", shown))
    assert not private, private
    for name in ("Unpack", "Options", "Request", "Opening", "Words", "SupportsFloat"):
        assert not re.search(rf"\b{name}\b", shown), name
    own = set(inspect.signature(adit.Client.forward).parameters) - {"self"}
    assert own == set(inspect.signature(forward).parameters) - {"client"}
    assert {t.__module__ for t in (adit.Client, adit.Tunnel, forward, adit.tunnels)} == {"adit"}


def test_an_event_loop_that_waits_for_the_end(client, token, box):
    async def run():
        tunnel = await client.forward(8000, keep=box.file("ticket"))
        waiting = asyncio.ensure_future(tunnel)
        async with adit.Client(token).forward(8000, keep=box.file("ticket")):
            assert await asyncio.wait_for(waiting, WAIT_S) == "superseded"
        await tunnel.aclose()

    with contextlib.closing(client):
        asyncio.run(run())


def test_a_filter_of_the_log_that_fails_ends_nothing(client, token, box, records, monkeypatch):
    def fails(record):
        raise ZeroDivisionError

    failures = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    log = logging.getLogger("adit")
    log.addFilter(fails)
    try:
        with client.forward(8000, keep=box.file("ticket")) as tunnel:
            with adit.Client(token) as other, other.forward(8000, keep=box.file("ticket")):
                assert tunnel.wait(WAIT_S) == "superseded"
    finally:
        log.removeFilter(fails)
    assert {failure.exc_type for failure in failures} == {ZeroDivisionError}
