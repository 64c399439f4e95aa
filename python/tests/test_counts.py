"""What a foreman learns from a relay of its containers' tunnels."""

import asyncio
import json
import socket

import pytest
from kit.app import echo, read_exactly
from kit.process import wait_until

import adit
from adit.exception import ConfigError
from adit.functions.foreman import counts as module
from adit.functions.foreman.counts import ADMIN, Counts, place
from adit.functions.foreman.ways import identities, ways


@pytest.fixture
def narrowed(client):
    return client.narrow(name="fn-1")


def asked(counts, *ids, last=False):
    return asyncio.run(counts.of(ids, last=last))


def moves(app, token, count):
    """A raw visitor sends so much to an app behind a tunnel of the token, and reads it back."""
    with adit.Client(token) as one, one.forward(app(echo).port, unencrypted=True) as tunnel:
        with socket.create_connection(("127.0.0.1", tunnel.unencrypted_port), 30) as visitor:
            visitor.sendall(b"x" * count)
            assert read_exactly(visitor, count) == b"x" * count


def test_what_a_visitor_moved_is_told_by_the_narrowed_tokens_id(relay, narrowed, client, app, monkeypatch):
    """Those included that were narrowed from it, and also when its tunnels have gone."""
    monkeypatch.setenv(ADMIN, f"127.0.0.1:{relay.admin}")
    root, own = identities(narrowed)
    counts = Counts(place(ways(narrowed), None), root)
    wait_until(lambda: asked(counts, own, last=True) == {}, "its root is not there", 30)
    moves(app, narrowed, 100_000)
    with adit.Client(narrowed) as one:
        moves(app, one.narrow(), 1000)
    moves(app, client.narrow(), 5000)
    wait_until(lambda: asked(counts, own, last=True)[own] == (2, 202_000), "the counts differ", 30)


def test_a_bare_port_is_one_of_this_machine(relay, narrowed, monkeypatch):
    monkeypatch.setenv(ADMIN, str(relay.admin))
    root, own = identities(narrowed)
    counts = Counts(place(ways(narrowed), None), root)
    wait_until(lambda: asked(counts, own, last=True) == {}, "its root is not there", 30)


def test_another_relays_counts_are_not_believed(relay, narrowed, monkeypatch):
    monkeypatch.setenv(ADMIN, f"127.0.0.1:{relay.admin}")
    assert asked(Counts(place(ways(narrowed), None), "00" * 16), identities(narrowed)[1]) is None


@pytest.mark.parametrize("text", ["nonsense", "host:", "host:x", "host:99999"])
def test_an_address_that_is_none_is_told(narrowed, monkeypatch, text):
    monkeypatch.setenv(ADMIN, text)
    with pytest.raises(ConfigError, match=f"{ADMIN}: '{text}' is no address and port"):
        place(ways(narrowed), None)


def test_one_of_several_relays_is_not_asked_for_all(narrowed, monkeypatch):
    monkeypatch.setenv(ADMIN, "127.0.0.1:1")
    assert place(ways(narrowed) * 2, None) is None


class Relay:
    """Answers as it is told to."""

    def __init__(self, answer=b""):
        self.answer, self.asked = answer, 0

    async def dial(self):
        self.asked += 1
        reader, writer = asyncio.StreamReader(), Writer()
        reader.feed_data(self.answer)
        reader.feed_eof()
        await asyncio.sleep(0)
        return reader, writer


class Writer:
    def write(self, data):
        assert data.startswith(b"GET /status ")

    def close(self):
        pass


def told(*rows, root="r"):
    status = {"tokens": [{"id": root}], "narrowed": list(rows)}
    return b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(status).encode()


ROW = {"id": "a", "streams_total": 1, "bytes_from_visitors": 2, "bytes_to_visitors": 3}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.0 404 Not Found\r\n\r\nthere is none",
        told(ROW)[:-3],
        told({**ROW, "streams_total": None}),
        b"\r\n\r\n[]",
    ],
)
def test_what_is_no_status_leaves_what_was_known(answer):
    async def work():
        relay = Relay(told(ROW))
        counts = Counts(relay.dial, "r")
        known = await counts.of(["a", "b"])
        relay.answer = answer
        return known, await counts.of(["a"], last=True), await Counts(relay.dial, "r").of(["a"])

    assert asyncio.run(work()) == ({"a": (1, 5)}, {"a": (1, 5)}, None)


def test_a_relay_that_does_not_know_the_token_yet_is_asked_again():
    async def work():
        relay = Relay(told(root="other"))
        counts = Counts(relay.dial, "r")
        before, relay.answer = await counts.of(["a"]), told(ROW)
        return before, await counts.of(["a"], last=True)

    assert asyncio.run(work()) == (None, {"a": (1, 5)})


def test_many_who_ask_at_once_share_what_it_answers_and_none_who_fails_asks_at_once_again(monkeypatch):
    async def work():
        relay = Relay(told(ROW))
        counts = Counts(relay.dial, "r")
        await asyncio.gather(*(counts.of(["a"], last=True) for _ in range(50)))
        shared, relay.answer = relay.asked, b""
        await asyncio.gather(*(counts.of(["a"]) for _ in range(50)))
        assert relay.asked == shared
        for _ in range(5):
            await counts.of(["a"], last=True)
        return shared, relay.asked - shared

    shared, failed = asyncio.run(work())
    assert shared <= 2 and failed == 1
    assert module.AGAIN_S > module.LOOK_S
