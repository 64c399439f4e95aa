"""Tokens: made, listed, refused, expired, revoked, logged in with; and operators that are trusted by more than one
relay."""
import json
import os
import re
import shutil
import socket
import ssl
import time

import pytest

from kit.app import echo, ends_by_reset, read_exactly
from kit.errors import expect_error
from kit.process import ADIT, SANITIZED
from kit.roles import Agent
from kit.terminal import Terminal
from kit.tls import BROKEN, how_it_ends

REVOKED_S = 1 * (5 if SANITIZED else 1)


def forward(box, token, *options, env=None):
    return box.adit("forward", "8000", *options, env={"ADIT_TOKEN": token, **(env or {})})


def test_a_token_is_one_word_and_shown_in_the_list(relay, box):
    token = relay.create_token("alice", "--max-tunnels", "3")
    assert re.fullmatch(r"adit1_[A-Za-z0-9_-]+", token)
    listed = box.adit("token", "list", "--state", relay.state)
    assert listed.returncode == 0 and "alice" in listed.stdout
    assert token not in listed.stdout, "the list holds nothing that opens a tunnel"


def test_a_tokens_limits_are_listed_for_people_and_programs(relay, box, agent, app):
    token = relay.create_token("guest", "--max-streams", "100", "--max-visitors-per-s", "20", "--max-rate", "10MB/s")
    listed = box.adit("token", "list", "--state", relay.state).stdout.splitlines()
    assert listed[0].split()[2:6] == ["TUNNELS", "STREAMS", "VISITORS/s", "RATE"]
    assert [line.split()[2:6] for line in listed if line.startswith("guest ")] == [["100", "100", "20", "10MB/s"]]
    rows = [json.loads(line)
            for line in box.adit("token", "list", "--json", "--state", relay.state).stdout.splitlines()]
    row = next(row for row in rows if row["name"] == "guest")
    assert (row["max_streams"], row["max_visitors_per_s"], row["max_bytes_per_s"]) == (100, 20, 10_000_000)
    agent(app(echo), token=token)


def test_a_token_can_be_made_before_the_relays_first_start(start_relay, box, agent, app):
    state = box.file("early")
    made = box.adit("token", "create", "early", "--state", state, "--domain", "r1.test", "--relay", "127.0.0.1:1")
    assert made.returncode == 0, made.stderr
    relay = start_relay(state=state)
    agent(app(echo), "--relay", relay.dial, token=made.stdout.strip())


def test_a_new_token_needs_no_restart_of_the_relay(relay, agent, app):
    agent(app(echo))
    agent(app(echo), token=relay.create_token("later"))


def test_a_name_is_given_once(relay, box):
    relay.create_token("alice")
    expect_error(box.adit("token", "create", "alice", "--state", relay.state, "--relay", relay.dial), 1, "alice")


@pytest.mark.parametrize("words",
                         [["create", "laptop"], ["create", "laptop", "--relay", "r1.test:443"], ["list"],
                          ["revoke", "alice"]], ids=" ".join)
@pytest.mark.parametrize("exists", [False, True], ids=["missing", "empty"])
def test_in_a_folder_that_is_no_relays_nothing_is_made(box, words, exists):
    """A state of its own would give tokens that no relay accepts."""
    folder = box.file("none")
    if exists:
        os.mkdir(folder)
    expect_error(box.adit("token", *words, "--state", folder), 1, folder, "no relay has run with it", "--state")
    assert os.path.exists(folder) == exists and (not exists or not os.listdir(folder))


def test_a_token_that_pins_the_relays_own_authority_names_no_other_relay(relay, box):
    """Neither before the relay's first run, where nothing is made then, nor after."""
    early = ("--state", box.file("early"), "--domain", "r1.test")
    for options in (early, ("--state", relay.state)):
        done = box.adit("token", "create", "both", *options, "--relay", relay.dial, "--relay", "r2.test=127.0.0.1:1")
        expect_error(done, 2, "r2.test", "vouches for no other name", "--cert")
    assert not os.path.exists(box.file("early"))
    assert box.adit("token", "list", "--state", relay.state).stdout == ""


def certificate(box, *domains):
    """A self-signed one for these relays."""
    names = ",".join(f"DNS:{prefix}{domain}" for domain in domains for prefix in ("", "*."))
    cert, key = box.file("cert.pem"), box.file("key.pem")
    done = box.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                   "-keyout", key, "-out", cert,
                   "-subj", "/CN=relays", "-addext", f"subjectAltName={names}")
    assert done.returncode == 0, done.stderr
    return ["--cert", cert, "--key", key]


def test_one_token_opens_tunnels_at_relays_with_one_certificate(start_relay, box, app):
    """As the README has it: the token of one names the other, too, and each must be told of its revocation."""
    options = certificate(box, "r1.test", "r2.test")
    first = start_relay(domain="r1.test", options=options)
    second = start_relay(domain="r2.test", options=[*options, "--operator", os.path.join(first.state, "operator.pub")])
    token = first.create_token("both", "--relay", f"r2.test={second.dial}")
    agents = []
    for relay in (second, first):
        other = first if relay is second else second
        other.process.stop()
        agents.append(Agent(box, relay, [app(echo)], token=token))
        assert agents[-1].host.endswith(f".{relay.domain}")
        other.restart()
    agents[0].events.wait("restored")            # its relay was the other one meanwhile
    listed = json.loads(box.adit("token", "list", "--state", first.state, "--json").stdout)
    assert (listed["name"], listed["state"]) == ("both", "live")
    for relay, said in ((first, "token both"), (second, "not issued here; refused from now on")):
        done = box.adit("token", "revoke", listed["id"], "--state", relay.state)
        assert done.returncode == 0 and listed["id"] in done.stderr and said in done.stderr, done.stderr
    for running in agents:                       # each tells that its relay has heard of it
        assert running.process.wait() != 0 and "revoked" in running.process.err.text()
    done = forward(box, token)                   # one refuses, then the other
    assert done.returncode == 1 and sorted(re.findall(r"(r\d.test): the token was revoked", done.stderr)) == ["r1.test",
                                                                                                              "r2.test"]
    assert "not issued here" in box.adit("token", "list", "--state", second.state).stdout


def test_revoking_an_unknown_name_is_an_error(relay, box):
    expect_error(box.adit("token", "revoke", "nobody", "--state", relay.state), 1, "nobody")


@pytest.mark.parametrize("token",
                         ["adit1_", "adit1_AAAA", "nonsense", "adit1_" + "A" * 5000, "adit9_AAAA", "adit1_!!!!"])
def test_a_malformed_token_is_an_error_that_says_so(box, token):
    done = forward(box, token)
    expect_error(done, (1, 2), "token")
    assert token[6:] == "" or token[6:] not in done.stderr, "a token is never shown"


def test_a_token_with_one_character_changed_is_refused(relay, box):
    token = relay.token()
    for at in (10, len(token) // 2, len(token) - 10):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1:]
        expect_error(forward(box, changed), (1, 2))


def test_an_expired_token_is_refused_and_live_tunnels_end(relay, agent, app, visitor, box):
    token = relay.create_token("brief", "--expires", "3s")
    running = agent(app(echo), token=token)
    v = visitor(running)
    closed = running.events.wait("closed")
    assert "expired" in closed["reason"]
    assert how_it_ends(v) in BROKEN
    assert running.process.wait() == 1
    expect_error(forward(box, token), 1, "expired")


def test_revoking_ends_live_tunnels_and_streams_within_a_second(relay, agent, app, visitor, box):
    a = app()
    running = agent(a, "--unencrypted", token=relay.create_token("bob"))
    v = visitor(running)
    first = a.accept()
    raw = visitor.raw(running)
    second = a.accept()
    relay.revoke("bob")
    began = time.monotonic()
    assert how_it_ends(v) in BROKEN and how_it_ends(raw) == "reset"
    assert ends_by_reset(first) and ends_by_reset(second)
    closed = running.events.wait("closed")
    assert time.monotonic() - began < REVOKED_S
    assert "revoked" in closed["reason"] and running.process.wait() == 1


def test_revoking_ends_streams_whose_link_is_gone(relay, agent, app, visitor, wire):
    cable, a = wire(relay), app()
    running = agent(a, token=relay.create_token("bob", dial=cable.dial), dial=cable.dial)
    v = visitor(running)
    connection = a.accept()
    cable.open = False
    cable.cut_links()
    running.events.wait("reconnecting")
    v.sendall(b"alive")
    assert read_exactly(connection, 5) == b"alive"
    relay.revoke("bob")
    began = time.monotonic()
    assert how_it_ends(v) in BROKEN and time.monotonic() - began < REVOKED_S
    assert ends_by_reset(connection)


def test_revoking_leaves_others_alone(relay, agent, app, visitor):
    other = agent(app(echo))
    v = visitor(other)
    doomed = agent(app(echo), token=relay.create_token("bob"))
    relay.revoke("bob")
    doomed.events.wait("closed")
    v.sendall(b"fine")
    assert read_exactly(v, 4) == b"fine"


def test_a_revoked_token_is_refused(relay, box):
    token = relay.create_token("bob")
    relay.revoke("bob")
    expect_error(forward(box, token), 1, "revoked")


def test_a_revocation_outlives_a_restart_of_the_relay(relay, box):
    token = relay.create_token("bob")
    relay.revoke("bob")
    relay.process.kill()
    relay.process.wait()
    relay.restart()
    expect_error(forward(box, token), 1, "revoked")


def test_a_token_of_an_unknown_operator_is_refused(start_relay, box, app):
    """Same domain and even the same authority, so that only the operator's key is another one."""
    ours, theirs = start_relay(), start_relay(state=None)
    theirs.process.stop()
    for name in ("authority.pem", "authority.key"):
        shutil.copy(os.path.join(ours.state, name), os.path.join(theirs.state, name))
    theirs.start()
    token = theirs.create_token("stranger", dial=ours.dial)
    expect_error(forward(box, token), 1, "operator")


def test_relays_that_trust_one_operator_accept_one_token(start_relay, agent, app, visitor, box):
    """Each has an operator's key of its own. Here they have one name and authority, so that the token's pin fits
    both."""
    first, state = start_relay(), box.file("second")
    os.mkdir(state, 0o700)
    for name in ("authority.pem", "authority.key"):
        shutil.copy(os.path.join(first.state, name), state)
    second, token = start_relay(state=state,
                                options=["--operator",
                                         os.path.join(first.state, "operator.pub")]), first.create_token("shared")
    for relay in (first, second):
        tunnel = agent(app(echo), "--relay", relay.dial, relay=relay, token=token)
        v = visitor(tunnel)
        v.sendall(b"hi")
        assert read_exactly(v, 2) == b"hi"
        assert relay.metric("links_now") == 1


def test_a_token_has_a_limit_of_tunnels(relay, agent, app, box):
    token = relay.create_token("small", "--max-tunnels", "2")
    agent([app(echo), app(echo)], token=token)
    expect_error(forward(box, token), 1)


def test_login_stores_the_token_for_later(relay, box, app, visitor):
    token = relay.token()
    done = box.adit("login", token)
    assert done.returncode == 0, done.stderr
    holding = [os.path.join(folder, name) for folder, _, names in os.walk(box.home) for name in names]
    holding = [path for path in holding if token in open(path).read()]
    assert len(holding) == 1 and os.stat(holding[0]).st_mode & 0o777 == 0o600
    done = box.adit("forward", app(echo).port, "--", "sh", "-c", "echo $ADIT_HOST")
    assert done.stdout.strip().endswith(".r1.test"), done.stderr


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_login_takes_the_token_from_where_no_history_has_it(relay, box, app, way):
    token = f" {relay.token()}\n"
    done = box.adit("login", "--token-file", box.file("token", token)) if way == "file" else box.adit("login", "-",
                                                                                                      input=token)
    assert done.returncode == 0, done.stderr
    assert box.adit("forward", app(echo).port, "--", "true").returncode == 0


def test_login_asks_for_the_token_and_does_not_show_it(relay, box, app):
    for keys, status in ((["C-c"], 130), ([relay.token(), "Enter"], 0)):
        terminal = Terminal(box,
                            ["sh", "-c", f"trap : INT; {ADIT} login; said=$?; stty -a | grep -o ' echo '; exit $said"])
        terminal.wait_output("Token: ")
        for key in keys:
            terminal.keys(key)
        terminal.wait_exit(status)
        assert " echo" in terminal.screen(), "what is typed afterwards is shown again"
        assert relay.token()[6:30] not in "".join(terminal.lines.lines)
    assert box.adit("forward", app(echo).port, "--", "true").returncode == 0


@pytest.mark.parametrize("given", ["option", "environment"])
def test_login_checks_at_the_relay_that_is_given(relay, box, app, given):
    """And stores that of the option, since the token's own cannot be reached."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        token = relay.create_token("elsewhere", dial="127.0.0.1:%d" % nobody.getsockname()[1])
    expect_error(box.adit("login", token), 1)
    options, env = (["--relay", relay.dial], {}) if given == "option" else ([], {"ADIT_RELAY": relay.dial})
    done = box.adit("login", token, *options, env=env)
    assert done.returncode == 0, done.stderr
    assert box.adit("forward", app(echo).port, "--", "true", env=env).returncode == 0
    if given == "environment":
        expect_error(forward(box, ""), 1)


def test_logout_removes_what_login_stored(relay, box):
    assert "logout" in box.adit("login", relay.token()).stderr
    done = box.adit("logout")
    assert done.returncode == 0 and "no longer" in done.stderr, done.stderr
    assert not any(os.path.exists(os.path.join(folder, "config")) for folder, _, _ in os.walk(box.home))
    assert "no token is stored" in box.adit("logout").stderr


def test_a_configuration_behind_a_link_stays_there(relay, box):
    token, folder = relay.token(), box.file("dotfiles")
    os.makedirs(os.path.join(box.home, ".config", "adit"))
    os.mkdir(folder)
    mine, link = os.path.join(folder, "adit"), os.path.join(box.home, ".config", "adit", "config")
    with open(mine, "w") as f:
        f.write("# mine\n")
    os.symlink(mine, link)
    assert box.adit("login", token).returncode == 0
    assert os.path.islink(link) and token in open(mine).read()
    assert box.adit("logout").returncode == 0
    assert os.path.islink(link) and open(mine).read() == "# mine\n"


def test_a_configuration_with_a_nul_byte_is_left_alone(relay, box):
    path = os.path.join(box.home, ".config", "adit", "config")
    os.makedirs(os.path.dirname(path))
    for command in (["login", relay.token()], ["logout"]):
        with open(path, "wb") as f:
            f.write(b"#\0x\nca = /x\ntoken = S\n")
        expect_error(box.adit(*command), 1, "NUL")
        assert open(path, "rb").read().endswith(b"token = S\n")


def test_login_checks_the_token_against_its_relay(relay, agent, app, box):
    token = relay.create_token("bob")
    live = agent(app(echo), token=token)
    relay.revoke("bob")
    live.events.wait("closed")          # from here on the relay knows
    expect_error(box.adit("login", token), 1, "revoked")
    assert not any(token in open(os.path.join(folder, name)).read() for folder, _, names in os.walk(box.home)
                   for name in names)


def test_a_flag_wins_over_the_environment_and_that_over_the_users_file(start_relay, box, app):
    relays = [start_relay(domain=f"r{i}.test") for i in (1, 2, 3)]
    assert box.adit("login", relays[0].token()).returncode == 0
    show = ["--", "sh", "-c", "echo $ADIT_HOST"]
    port = app(echo).port

    def chosen(*options, **env):
        done = box.adit("forward", port, *options, *show, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().split(".", 1)[1]
    assert chosen() == "r1.test"
    assert chosen(ADIT_TOKEN=relays[1].token()) == "r2.test"
    file = box.file("token", relays[2].token())
    assert chosen("--token-file", file, ADIT_TOKEN=relays[1].token()) == "r3.test"
    assert chosen("--token", relays[2].token(), ADIT_TOKEN=relays[1].token()) == "r3.test"


def test_no_secret_is_in_any_output(relay, agent, app, visitor, box):
    token = relay.token()
    running = agent(app(echo), "--unencrypted")
    v = visitor(running)
    v.sendall(b"hi")
    assert read_exactly(v, 2) == b"hi"
    running.process.stop()
    relay.process.stop()
    output = running.process.report() + relay.process.report()
    assert token[8:] not in output
    for line in running.process.out.lines:
        json.loads(line)


def test_key_files_are_private(relay):
    for name in os.listdir(relay.state):
        mode = os.stat(os.path.join(relay.state, name)).st_mode & 0o777
        assert name.endswith((".pub", ".pem")) or mode & 0o077 == 0, f"{name}: {mode:o}"
    assert os.stat(relay.state).st_mode & 0o777 == 0o700


def narrow(box, token, *options):
    done = box.adit("token", "narrow", *options, env={"ADIT_TOKEN": token})
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.strip()


def test_a_narrowed_token_is_one_word_and_opens_tunnels(relay, box, agent, app):
    own = relay.create_token("laptop")
    token = narrow(box, narrow(box, own, "--name", "build"), "--name", "job-7")
    assert re.fullmatch(r"adit1_[A-Za-z0-9_-]+", token) and token != own
    running = agent(app(echo), token=token)
    tunnel, = json.loads(relay.get("/status"))["tunnels"]
    assert (tunnel["owner"], tunnel["token"]) == ("laptop", "laptop/build/job-7")
    assert "laptop/build/job-7" in box.adit("status", "--admin", str(relay.admin)).stdout
    relay.process.err.wait(lambda line: "link_up" in line and "owner=laptop/build/job-7" in line)
    running.process.stop()


def test_a_narrowed_tokens_contents_are_told_as_those_of_issued_ones_are(relay, box):
    own = relay.create_token("laptop", "--max-streams", "50")
    row = json.loads(narrow(box, own, "--json", "--name", "job", "--expires", "1h", "--no-raw", "--allow",
                            "192.0.2.0/24", "--max-rate", "1MB/s"))
    listed = json.loads(box.adit("token", "list", "--json", "--state", relay.state).stdout)
    assert row.keys() == listed.keys() | {"token", "raw", "allow"}
    assert row["expires_at_s"] - row["issued_at_s"] == 3600
    assert (row["name"], row["max_tunnels"], row["max_streams"], row["max_bytes_per_s"]) == ("job", 100, 50, 1_000_000)
    assert (row["raw"], row["allow"]) == (False, ["192.0.2.0/24"])
    assert row["id"] != listed["id"]


def test_the_token_to_be_narrowed_is_found_as_forward_finds_it(relay, box):
    own = relay.create_token("laptop")
    file = box.file("own.token", own + "\n")
    assert box.adit("token", "narrow", "--token-file", file).stdout.startswith("adit1_")
    assert box.adit("login", "--token-file", file).returncode == 0
    assert box.adit("token", "narrow").stdout.startswith("adit1_")
    box.adit("logout")
    expect_error(box.adit("token", "narrow"), 1, "there is none", "ADIT_TOKEN")
    expect_error(box.adit("token", "narrow", own), 2, "takes only options")
    assert own not in box.adit("token", "narrow", own).stderr


@pytest.mark.parametrize("options,what", [
    (["--max-tunnels", "6"], "max_tunnels"), (["--max-streams", "8"], "max_streams"), (["--expires", "2h"], "expires"),
    (["--allow", "everybody"], "everybody"), (["--allow", "10.0.0.0/33"], "10.0.0.0/33"), (["--name", "a b"], "name"),
    (["--max-tunnels", "0"], "--max-tunnels")], ids=" ".join)
def test_what_is_wider_or_wrong_is_refused_with_a_word_why(relay, box, options, what):
    own = relay.create_token("laptop", "--max-tunnels", "5", "--max-streams", "7", "--expires", "1h")
    done = box.adit("token", "narrow", *options, env={"ADIT_TOKEN": own})
    expect_error(done, 2, what)
    assert done.stdout == ""


@pytest.mark.parametrize("who", ["root", "parent", "itself"])
def test_revoking_a_token_ends_those_narrowed_from_it_within_a_second(relay, box, agent, app, visitor, who):
    """Streams, tunnels, and the right to open more; and nobody else's."""
    root = relay.create_token("laptop")
    parent = json.loads(narrow(box, root, "--json"))
    child = json.loads(narrow(box, parent["token"], "--json"))
    a, b = app(), app(echo)
    running, other = agent(a, "--unencrypted", token=child["token"]), agent(b,
                                                                            token=narrow(box, root)
                                                                            if who != "root" else None)
    v, raw, alive = visitor(running), visitor.raw(running), visitor(other)
    first, second = a.accept(), a.accept()
    relay.revoke({"root": "laptop", "parent": parent["id"], "itself": child["id"]}[who])
    began = time.monotonic()
    assert how_it_ends(v) in BROKEN and how_it_ends(raw) == "reset"
    assert ends_by_reset(first) and ends_by_reset(second)
    closed = running.events.wait("closed")
    assert time.monotonic() - began < REVOKED_S
    assert "revoked" in closed["reason"] and running.process.wait() == 1
    expect_error(forward(box, child["token"]), 1, "revoked")
    alive.sendall(b"fine")
    assert read_exactly(alive, 4) == b"fine"


def test_a_narrowed_token_that_expires_ends_alone(relay, box, agent, app, visitor):
    root = relay.create_token("laptop")
    running = agent(app(echo), token=root)
    brief = agent(app(echo), token=narrow(box, root, "--expires", "3s"))
    v, alive = visitor(brief), visitor(running)
    assert "expired" in brief.events.wait("closed")["reason"]
    assert how_it_ends(v) in BROKEN
    alive.sendall(b"fine")
    assert read_exactly(alive, 4) == b"fine"


def test_a_narrowed_token_opens_no_raw_port_and_lets_in_only_its_visitors(relay, box, agent, app, visitor):
    root = relay.create_token("laptop")
    expect_error(forward(box, narrow(box, root, "--no-raw"), "--unencrypted"), 1, "the token allows no raw TCP ports")
    expect_error(forward(box, narrow(box, root, "--allow", "192.0.2.0/24"), "--allow", "127.0.0.0/8"), 1,
                 "these address blocks")
    elsewhere = agent(app(echo), "--unencrypted", token=narrow(box, root, "--allow", "192.0.2.0/24"))
    with pytest.raises(ConnectionResetError):    # already while we connect, or later
        visitor.raw(elsewhere).recv(1)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME|unrecognized"):
        visitor(elsewhere)
    here = agent(app(echo), "--unencrypted",
                 token=narrow(box, root, "--allow", "192.0.2.0/24", "--allow", "127.0.0.0/8"))
    for v in visitor(here), visitor.raw(here):
        v.sendall(b"hello")
        assert read_exactly(v, 5) == b"hello"


def test_visitors_count_for_a_narrowed_token_and_for_the_one_that_it_is_from(relay, box, agent, app, visitor):
    root = relay.create_token("laptop", "--max-streams", "3")
    tight, loose = agent(app(echo), token=narrow(box, root, "--max-streams", "1")), agent(app(echo),
                                                                                          token=narrow(box, root))
    kept = [visitor(tight)]
    with pytest.raises(ssl.SSLError):
        visitor(tight)
    kept += [visitor(loose), visitor(loose)]
    with pytest.raises(ssl.SSLError):
        visitor(loose)
    for v in kept:
        v.sendall(b"x")
        assert read_exactly(v, 1) == b"x"
    assert json.loads(relay.get("/status"))["metrics"]["visitors_refused_total"]["max_streams"] == 2


def test_a_kept_address_goes_with_the_root_from_one_narrowed_token_to_another(relay, box, agent, app):
    root, keep = relay.create_token("laptop"), box.file("ticket")
    first = agent(app(echo), "--keep", keep, token=narrow(box, root))
    host = first.host
    first.process.stop()
    second = agent(app(echo), "--keep", keep, token=narrow(box, root))
    assert second.host == host
