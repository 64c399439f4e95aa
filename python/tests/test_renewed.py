"""The process's client, when another takes its place."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

from adit import _default
from adit.exception import InvalidError, RemoteError
from adit.functions import runner
from adit.functions.foreman import relays
from adit.functions.foreman.store import Store
from adit.functions.foreman.tokens import TABLES, Given, Tokens


class Client:
    def __init__(self, token="", relays=None, proxy=None):
        self.proxy = proxy
        self.token, self.closed, self._state = token, False, SimpleNamespace(failed=False)

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def own(monkeypatch):
    monkeypatch.setattr(_default, "_shared", _default._Shared())
    monkeypatch.setattr(_default, "_make", Client)
    monkeypatch.setattr("adit._options.default_app_wait", 0.0)


def test_whoever_has_the_client_keeps_it_when_it_is_renewed_and_it_goes_with_the_last():
    first = _default.default_client()
    assert _default.default_client() is first
    _default.renew()
    second = _default.default_client()
    assert second is not first and not first.closed
    _default.release(first, failed=False)
    assert not first.closed
    _default.release(first, failed=False)
    assert first.closed and not second.closed
    _default.release(second, failed=False)
    _default.renew()
    assert second.closed  # nobody has it


def test_the_former_ones_end_with_the_process():
    first = _default.default_client()
    _default.renew()
    second = _default.default_client()
    _default.shut()
    assert first.closed and second.closed


def test_a_call_never_begins_with_a_token_that_ends_within_it(monkeypatch):
    now, given = [1000.0], iter("abc")
    monkeypatch.setattr(runner, "Client", Client)
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    way = runner.Way(SimpleNamespace(ask=lambda verb: ({"token": next(given), "life": 100.0}, b"")))
    way.last(300)  # none is asked for before it is needed
    first = _default.default_client()
    assert first.token == "a"
    now[0] += 60
    way.last(30)
    assert _default.default_client() is first
    way.last(50)
    assert _default.default_client().token == "b"
    now[0] += 10
    way.last(50)
    assert _default.default_client().token == "b"


def test_a_container_whose_proxy_is_for_listed_hosts_goes_to_the_relay_without_it(monkeypatch):
    monkeypatch.setattr(runner, "Client", Client)
    for has_way_out, proxy in ((True, "none"), (False, None)):
        way = runner.Way(SimpleNamespace(ask=lambda verb: ({"token": "a", "life": 100.0}, b"")))
        way.has_way_out = has_way_out
        assert _default.default_client().proxy == proxy
        _default.shut()


@pytest.mark.parametrize("relay", [(), ("unix:/run/adit/relay.sock",)])
def test_a_link_is_made_before_it_is_needed_where_nothing_told_later_changes_the_way(monkeypatch, relay):
    asked = []

    def ask(verb):
        asked.append(verb)
        return {"token": "a", "life": 100.0}, b""

    monkeypatch.setattr(runner, "Client", Client)
    monkeypatch.setattr(runner.session, "relay", lambda: relay)
    way = runner.Way(SimpleNamespace(ask=ask))
    way.prepare()
    assert asked == (["token"] if relay else [])
    first = _default.default_client()
    assert asked == ["token"] and not first.closed


def test_a_container_has_one_token_until_that_is_too_short(monkeypatch):
    now, made = [1000.0], []
    monkeypatch.setattr(relays.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(relays, "identities", lambda token: ("root", token))

    class Worker:
        id = "1"

    class Narrowing:
        most = 200.0

        def narrow(self, *, max_tunnels, name, expires=None):
            if expires is not None and expires > self.most:
                raise InvalidError("expires: the token itself is good for less")
            made.append((name, expires))
            return f"token {len(made)}"

    async def use():
        relay = relays.Relay()
        relay._client, relay._ways = Narrowing(), [SimpleNamespace(narrow=lambda token: token)]
        worker = Worker()
        given = await asyncio.gather(*(relay.token_for(worker, 100, 40) for _ in range(20)))
        assert set(given) == {("token 1", 100)}
        now[0] += 59
        assert await relay.token_for(worker, 100, 40) == ("token 1", 41)
        now[0] += 2
        assert await relay.token_for(worker, 100, 40) == ("token 2", 100)
        assert await relay.token_for(Worker(), 300, 40) == ("token 3", 300)  # as long as the foreman's own
        assert made == [("fn-1", 100), ("fn-1", 100), ("fn-1", None)]

    asyncio.run(use())


class Worker:
    def __init__(self, name="1"):
        self.id = name


class Narrowing:
    made = 0

    def narrow(self, *, max_tunnels, name, expires=None):
        self.made += 1
        return f"token {self.made}"

    def close(self):
        pass


def relay_by(client):
    relay = relays.Relay()
    relay._client, relay._ways = client, [SimpleNamespace(narrow=lambda token: token)]
    relay._root = "root"
    return relay


def test_what_a_container_was_given_is_revoked_when_it_has_ended(monkeypatch):
    now, revoked = [1000.0], []
    monkeypatch.setattr(relays.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(relays.time, "time", lambda: now[0])
    monkeypatch.setattr(relays, "identities", lambda token: ("root", token))

    class Full(Narrowing):
        def revoke(self, token, timeout, *, expires):
            revoked.append((token, timeout, expires))
            now[0] += 3
            raise RemoteError("relay: it keeps no more revocations")

    async def use():
        relay, worker, other = relay_by(Full()), Worker("1"), Worker("2")
        relay.revoke("1")  # which has none
        for seconds in (50, 100, 300, 400, 500):
            await relay.token_for(worker, seconds, seconds - 1)
            now[0] += 10
        await relay.token_for(other, 100, 40)
        now[0] += 5
        relay.revoke("1")
        await relay.close()
        # The first has expired; for the last there was no time.
        assert revoked == [("token 2", 5.0, 55), ("token 3", 2.0, 262)]

    asyncio.run(use())


def test_containers_end_while_the_relay_that_is_to_revoke_their_tokens_is_away(monkeypatch):
    answers = threading.Event()
    monkeypatch.setattr(relays, "identities", lambda token: ("root", token))

    class Away(Narrowing):
        def revoke(self, token, timeout, *, expires):
            answers.wait(30)

    async def use():
        relay = relay_by(Away())
        workers = [Worker(str(n)) for n in range(64)]
        for worker in workers:
            await relay.token_for(worker, 300, 100)
            relay.revoke(worker.id)
        await asyncio.wait_for(asyncio.to_thread(int), 10)  # others have their threads
        closing = asyncio.create_task(relay.close())
        assert await asyncio.wait({closing}, timeout=0.05) == (set(), {closing})
        answers.set()
        await closing

    asyncio.run(use())


class Revoking:
    """A foreman's link, from one start of a relay to the next."""

    def __init__(self):
        self.revoked, self.is_there = [], True

    def close(self):
        pass

    def revoke(self, identity, timeout, *, expires):
        if not self.is_there:
            raise RemoteError("relay: it has not revoked the token")
        self.revoked.append(identity)


def of_foreman(place, use, link=None, root="root", name="foreman"):
    """What ``use`` does with what one foreman knows, which then dies. Whatever is left in the store."""

    async def live():
        store = Store(place)
        tokens = Tokens(store, name)
        relay = relays.Relay(tokens)
        relay._client, relay._root = link, root
        await tokens.load()
        await use(tokens, relay)
        await relay.close()
        await tokens.is_written()
        rows = await store.read(TABLES, "SELECT id FROM tokens ORDER BY id")
        await store.close()
        return [row["id"] for row in rows]

    return asyncio.run(live())


def test_the_next_foreman_revokes_what_the_one_before_gave(store_place):
    async def give(tokens, relay):
        for identity, root, seconds, worker in (
            ("a", "root", 100, "1"),
            ("b", "root", 100, "1"),
            ("c", "root", 100, "2"),
            ("d", "another", 100, "1"),  # of a token that the next foreman does not have
        ):
            await tokens.add(Given(identity, root, time.time() + seconds, worker))

    async def end(tokens, relay):
        assert tokens.workers == {"1", "2"}
        relay.revoke("1")
        assert tokens.workers == {"2"}

    link = Revoking()
    assert of_foreman(store_place, give) == ["a", "b", "c", "d"]
    link.is_there = False
    assert of_foreman(store_place, end, link) == ["a", "b", "c", "d"]  # they are for the one after it
    link.is_there = True
    assert of_foreman(store_place, end, link) == ["c", "d"]
    assert link.revoked == ["a", "b"]


def test_what_has_expired_is_kept_by_nobody(store_place, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(relays.time, "time", lambda: now[0])

    def give(identity, seconds):
        async def give(tokens, relay):
            await tokens.add(Given(identity, "root", now[0] + seconds, identity))
            assert tokens.workers == {identity}

        return give

    async def look(tokens, relay):
        assert tokens.workers == set()

    assert of_foreman(store_place, give("a", 10)) == ["a"]
    now[0] += 11
    of_foreman(store_place, look)
    assert of_foreman(store_place, give("b", 10), name="another") == ["b"]
