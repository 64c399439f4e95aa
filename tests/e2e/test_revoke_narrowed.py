"""A narrowed token is revoked by the holder of a token that it is from, at the relay, by the right of that alone."""
import itertools
import json
import os
import time

import pytest

from kit.app import echo, ends_by_reset, read_exactly
from kit.errors import expect_error
from kit.frames import (GOODBYE, MALFORMED, NOT_NARROWED, REVOCATIONS, REVOKE, REVOKED, SHORTAGE, WELCOME, u)
from kit.frames import revoke as revoke_frame
from kit.hostile import HostileAgent
from kit.process import SANITIZED
from kit.tls import BROKEN, how_it_ends

AT_ONCE_S = 1 * (5 if SANITIZED else 1)


def narrow(box, token, *options):
    done = box.adit("token", "narrow", "--json", *options, env={"ADIT_TOKEN": token})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def revoke(box, own, narrowed, *options, **more):
    return box.adit("token", "revoke-narrowed", narrowed, *options, env={"ADIT_TOKEN": own}, **more)


def forward(box, token):
    return box.adit("forward", "8000", env={"ADIT_TOKEN": token})


@pytest.mark.parametrize("by", ["parent", "root"])
@pytest.mark.parametrize("way", ["id", "token"])
def test_it_ends_what_is_open_and_lets_nothing_more_in(relay, box, agent, app, visitor, by, way):
    root = relay.create_token("laptop")
    parent = narrow(box, root)
    child = narrow(box, parent["token"], "--expires", "1h")
    a = app()
    running, other = agent(a, "--unencrypted", token=child["token"]), agent(app(echo), token=parent["token"])
    v, raw, alive = visitor(running), visitor.raw(running), visitor(other)
    first, second = a.accept(), a.accept()
    own = parent["token"] if by == "parent" else root
    done = revoke(box, own, "-", input=child["token"] + "\n") if way == "token" else revoke(box, own, child["id"])
    began = time.monotonic()
    assert done.returncode == 0 and "revoked at r1.test" in done.stderr, done.stderr
    assert how_it_ends(v) in BROKEN and how_it_ends(raw) == "reset"
    assert ends_by_reset(first) and ends_by_reset(second)
    assert "revoked" in running.events.wait("closed")["reason"] and running.process.wait() == 1
    assert time.monotonic() - began < AT_ONCE_S
    expect_error(forward(box, child["token"]), 1, "revoked")
    alive.sendall(b"fine")
    assert read_exactly(alive, 4) == b"fine"


def test_it_ends_those_that_were_narrowed_from_it(relay, box, agent, app):
    root = relay.create_token("laptop")
    parent = narrow(box, root)
    child = narrow(box, parent["token"])
    running = agent(app(echo), token=child["token"])
    assert revoke(box, root, parent["id"]).returncode == 0
    assert "revoked" in running.events.wait("closed")["reason"]
    expect_error(forward(box, child["token"]), 1, "revoked")


def test_one_that_was_never_used_is_refused(relay, box):
    root = relay.create_token("laptop")
    child = narrow(box, root)
    assert revoke(box, root, child["id"]).returncode == 0
    expect_error(forward(box, child["token"]), 1, "revoked")
    assert revoke(box, root, child["id"]).returncode == 0, "and once more is no error"


def test_it_outlives_a_restart_of_the_relay(relay, box):
    root = relay.create_token("laptop")
    child = narrow(box, root)
    assert revoke(box, root, child["id"]).returncode == 0
    relay.process.kill()
    relay.process.wait()
    relay.restart()
    expect_error(forward(box, child["token"]), 1, "revoked")


def test_it_outlives_an_upgrade_in_place(relay, box, agent, app):
    root = relay.create_token("laptop")
    before, after = narrow(box, root), narrow(box, root)
    running = agent(app(echo), token=after["token"])
    assert revoke(box, root, before["id"]).returncode == 0
    relay.upgrade()
    expect_error(forward(box, before["token"]), 1, "revoked")
    assert revoke(box, root, after["id"]).returncode == 0
    assert "revoked" in running.events.wait("closed")["reason"]


def test_nobody_elses_is_revoked(relay, box, agent, app, visitor):
    """Neither one that is in use, which is said, nor one that is not, which the relay cannot know."""
    mine, theirs = relay.create_token("mine"), relay.create_token("theirs")
    used, unused = narrow(box, theirs), narrow(box, theirs)
    running = agent(app(echo), token=used["token"])
    expect_error(revoke(box, mine, used["id"]), 1, "not narrowed from this token")
    assert revoke(box, mine, unused["id"]).returncode == 0
    expect_error(revoke(box, mine, "-", input=unused["token"]), 2, "not from this client's")
    v = visitor(running)
    v.sendall(b"hi")
    assert read_exactly(v, 2) == b"hi"
    agent(app(echo), token=unused["token"])


def test_no_token_revokes_itself_its_parent_or_its_sister(relay, box, agent, app):
    root = relay.create_token("laptop")
    one, other = narrow(box, root), narrow(box, root)
    grandchild = narrow(box, one["token"])
    for token in one, other, grandchild:
        agent(app(echo), token=token["token"])
    for own, what in (one, one), (one, other), (grandchild, one), (grandchild, other):
        expect_error(revoke(box, own["token"], what["id"]), 1, "not narrowed from this token")


@pytest.mark.parametrize("word,says", [("nonsense", "neither a token nor the id"), ("", "neither"),
                                       ("adit1_AAAA", "narrowed token")])
def test_what_is_no_token_is_an_error_that_says_so(relay, box, word, says):
    expect_error(revoke(box, relay.create_token("laptop"), word), 2, says)


def test_the_token_that_it_is_from_is_needed(box):
    expect_error(box.adit("token", "revoke-narrowed", "0" * 32), 1, "ADIT_TOKEN")
    expect_error(box.adit("token", "revoke-narrowed"), 2, "give an ID")


def test_a_token_that_is_no_good_revokes_nothing(relay, box, agent, app):
    root = relay.create_token("laptop")
    child = narrow(box, root)
    running = agent(app(echo), token=root)
    relay.revoke("laptop")
    running.events.wait("closed")
    expect_error(revoke(box, root, child["id"]), 1, "the token was revoked")


# --- agents that keep to no rule ---

PER_TOKEN, BY_NARROWED, PER_NARROWED, PER_LINK = 4096, 2048, 512, 64
numbers = itertools.count(1)


def answers(hostile, identities, expires=0):
    """The reasons, in the order of the ids."""
    asked = {}
    for identity in identities:
        asked[next(numbers)] = identity
        hostile.tell("frame", REVOKE, revoke_frame(list(asked)[-1], identity, expires))
    got = {}
    while len(got) < len(asked):
        body = hostile.got(REVOKED)
        got[int.from_bytes(body[:4], "big")] = int.from_bytes(body[4:6], "big")
    return [got[number] for number in asked]


def fill(hostile, most):
    """Revokes made-up ids until no more are kept: how many there were."""
    for n in range(0, most + PER_LINK, PER_LINK):
        found = answers(hostile, [os.urandom(16).hex() for _ in range(PER_LINK)])
        if REVOCATIONS in found:
            return n + found.count(0)
        assert set(found) == {0}
    raise AssertionError(f"more than {most} are kept")


def hostile_with(box, token, *chain):
    made = HostileAgent(box, token)
    if chain:
        made.do("chain", *chain)
    made.log_in()
    made.got(WELCOME)
    return made


def id_of(relay, box, name):
    rows = [json.loads(line)
            for line in box.adit("token", "list", "--json", "--state", relay.state).stdout.splitlines()]
    return next(row["id"] for row in rows if row["name"] == name)


def test_a_liar_revokes_nothing_that_is_not_his(relay, box, agent, app, visitor):
    theirs = relay.create_token("theirs")
    used = narrow(box, theirs)
    running = agent(app(echo), token=used["token"])
    for chain in (), ("narrower",), ("narrowest",):
        liar = hostile_with(box, relay.create_token("".join(("liar", *chain))), *chain)
        assert answers(liar, [used["id"], id_of(relay, box, "theirs")]) == [NOT_NARROWED] * 2
    v = visitor(running)
    v.sendall(b"hi")
    assert read_exactly(v, 2) == b"hi"


def test_a_narrowed_token_does_not_revoke_its_root_nor_the_last_of_a_chain_anything(relay, box):
    token = relay.create_token("liar")
    child, grandchild = hostile_with(box, token, "narrower"), hostile_with(box, token, "narrowest")
    assert answers(child, [id_of(relay, box, "liar")]) == [NOT_NARROWED]
    assert answers(grandchild, ["ab" * 16]) == [NOT_NARROWED]
    assert answers(child, ["ab" * 16]) == [0]


def test_a_flood_of_revocations_fills_its_own_tokens_share_and_nobody_elses(relay, box, agent, app):
    """And those of a token that is narrowed itself, a part of that; and what is full stays so after a restart."""
    token, other = relay.create_token("greedy"), relay.create_token("other")
    assert fill(hostile_with(box, token, "narrower"), PER_NARROWED) == PER_NARROWED
    root = hostile_with(box, token)
    assert fill(root, PER_TOKEN) == PER_TOKEN - PER_NARROWED
    child, more = narrow(box, other), narrow(box, token)
    assert revoke(box, other, child["id"]).returncode == 0
    expect_error(forward(box, child["token"]), 1, "revoked")
    expect_error(revoke(box, token, more["id"]), 1, "keeps no more revocations", "ask the operator")
    agent(app(echo), token=more["token"])
    relay.process.stop()
    relay.restart()
    expect_error(revoke(box, token, more["id"]), 1, "keeps no more revocations")
    relay.revoke(more["id"])


def test_more_than_a_link_may_have_under_way_is_refused_for_now(relay, box):
    hostile = hostile_with(box, relay.create_token("hasty"))
    found = answers(hostile, [os.urandom(16).hex() for _ in range(20 * PER_LINK)])
    assert set(found) <= {0, SHORTAGE} and found.count(0) >= PER_LINK


@pytest.mark.parametrize("body", [b"", u(1, 4) + bytes(16) + u(1, 7), u(1, 4) + bytes(16) + b"\xff" * 8],
                         ids=["empty", "short", "negative"])
def test_what_is_no_revocation_is_malformed(relay, box, body):
    hostile = hostile_with(box, relay.create_token("liar"))
    hostile.tell("frame", REVOKE, body)
    assert hostile.got(GOODBYE)[:2] == u(MALFORMED, 2)


def test_before_hello_nothing_is_revoked(relay, box):
    hostile = HostileAgent(box, relay.create_token("liar"))
    hostile.do("link")
    hostile.tell("frame", REVOKE, revoke_frame(1, "ab" * 16))
    assert hostile.got(GOODBYE)[:2] == u(MALFORMED, 2)
