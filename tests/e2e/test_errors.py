"""Every failure that a user can run into: its own text in the form `adit: what: why (what to do)`, and its exit
status."""
import os
import socket

import pytest

from kit.app import echo, read_until_end, reset
from kit.certificate import OwnCertificate
from kit.errors import expect_error
from kit.process import ADIT, DEADLINE_S


@pytest.mark.parametrize("port",
                         ["0", "65536", "-1", "80a", "", "host:", ":80x", "[::1:80", "99999999999999999999",
                          "host:port"])
def test_a_bad_port_is_wrong_usage(box, port):
    expect_error(box.adit("forward", port), 2)


@pytest.mark.parametrize("args", [
    [], ["forward"], ["frobnicate"], ["forward", "--frobnicate", "80"], ["forward", "80", "--token"],
    ["forward", "80", "--allow", "10.0.0.0/33"],
    ["forward", "80", "--link", "half"], ["forward", "80", "--relay", "x:0"], ["relay", "--listen", "nonsense"],
    ["relay", "--pump", "hand"],
    ["relay", "--tcp-ports", "30000-20000"], ["relay", "--tcp-ports", "80-90"], ["relay", "--drain", "soon"],
    ["relay", "--workers", "many"],
    ["token"], ["token", "create"], ["token", "frob"], ["token", "revoke"], ["login"], ["relay", "--cert", "x"]],
    ids=" ".join)
def test_wrong_usage_is_status_2(box, args):
    done = box.adit(*args)
    assert done.returncode == 2 and done.stderr.startswith("adit") and not done.stdout, (done.returncode, done.stderr)


def test_version_and_help_are_on_stdout(box):
    version = box.adit("--version")
    assert version.returncode == 0 and version.stdout.startswith("adit ")
    for command in ([], ["forward"], ["relay"], ["token"], ["login"], ["status"]):
        done = box.adit(*command, "--help")
        assert done.returncode == 0 and "adit" in done.stdout and not done.stderr, command


def test_help_names_every_option(box):
    forward, relay = box.adit("forward", "--help").stdout, box.adit("relay", "--help").stdout
    for (
        flag
    ) in "unencrypted alpn h2 relay token token-file ca proxy-protocol allow deny app-wait name keep link json".split():
        assert "--" + flag in forward, flag
    for flag in ("config domain listen redirect-http public cert key state operator tcp-ports tcp-listen admin "
                 "accept-proxy workers pump link drain h2-shared-name").split():
        assert "--" + flag in relay, flag


def test_an_unreachable_relay(relay, box):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        dial = "127.0.0.1:%d" % nobody.getsockname()[1]
    expect_error(box.adit("forward", "8000", "--relay", dial, env={"ADIT_TOKEN": relay.token()}), 1, dial)


def test_a_relay_whose_certificate_does_not_match(start_relay, box):
    """Another relay of the same name, with an authority of its own."""
    real, impostor = start_relay(), start_relay()
    line = expect_error(box.adit("forward", "8000", "--relay", impostor.dial, env={"ADIT_TOKEN": real.token()}), 1,
                        "certificate")
    assert "refused" not in line.split(": ", 2)[0] and line.count("relay 127") == 1 and "relay r1.test" not in line


def test_a_relay_that_is_no_relay(relay, box, app):
    banner = app(lambda c: c.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n"))
    expect_error(box.adit("forward", "8000", "--relay", f"127.0.0.1:{banner.port}", env={"ADIT_TOKEN": relay.token()}),
                 1)


def test_a_relay_that_speaks_no_tls(relay, box, app):
    def speak(connection):
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        read_until_end(connection)
    web = app(speak)
    expect_error(box.adit("forward", "8000", "--relay", f"127.0.0.1:{web.port}", env={"ADIT_TOKEN": relay.token()}), 1,
                 f"127.0.0.1:{web.port}", "check the address and port", "not to speak TLS")


def test_a_relay_whose_name_leads_nowhere(relay, box):
    line = expect_error(box.adit("forward", "8000", "--relay", "nowhere.invalid:443",
                                 env={"ADIT_TOKEN": relay.token()}), 1, "check the name")
    assert line.count("nowhere.invalid") == 1


EMPTY = "it is set but empty"


@pytest.mark.parametrize("name", ["ADIT_TOKEN", "ADIT_RELAY", "ADIT_EMBEDDED", "HOME"])
def test_a_variable_that_is_set_but_empty_is_missing(box, name):
    """And is not taken for one that nobody wanted to set: that would give an address that works on this machine
    only."""
    expect_error(box.adit("forward", "8000", env={name: ""}), 1, f"adit: {name}: {EMPTY}", "unset it")


def test_login_takes_no_empty_relay_for_none(box, relay):
    expect_error(box.adit("login", "-", env={"ADIT_RELAY": ""}, input=relay.token()), (1, 2),
                 f"adit: ADIT_RELAY: {EMPTY}")
    assert not os.path.exists(os.path.join(box.home, ".config"))


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_authorities_that_are_set_but_empty(start_relay, box, name):
    own = OwnCertificate(box)
    own.issue(chain="leaf")                # which no token can pin
    relay = start_relay(options=["--cert", own.cert, "--key", own.key])
    expect_error(box.adit("forward", "8000", env={"ADIT_TOKEN": relay.token(), name: ""}), 1, f"{name}: {EMPTY}")


def test_what_is_given_needs_no_variable(agent, app, relay):
    """Nor does an empty one matter then, nor what custom has mean nothing when it is empty."""
    empty = {"ADIT_TOKEN": "", "ADIT_RELAY": "", "XDG_CONFIG_HOME": "", "XDG_STATE_HOME": "", "HTTPS_PROXY": ""}
    agent(app(echo), "--relay", relay.dial, env=empty)


@pytest.mark.parametrize("value", ["no", "false", "2"])
def test_a_relay_that_is_forbidden_in_other_words_is_not_started(box, value):
    expect_error(box.adit("forward", "8000", env={"ADIT_EMBEDDED": value}), 1, f'ADIT_EMBEDDED: "{value}"',
                 "neither 0 nor 1")


@pytest.mark.parametrize("option", ["--token-file", "--ca"])
def test_a_file_that_is_empty(box, relay, option):
    file = box.file("nothing", "")
    expect_error(box.adit("forward", "8000", option, file, env={"ADIT_TOKEN": relay.token()}), (1, 2), file)


def test_a_token_file_that_is_not_there(box):
    expect_error(box.adit("forward", "8000", "--token-file", "/nonexistent/token"), (1, 2), "/nonexistent/token")


def test_an_authority_file_that_is_not_there(relay, box):
    expect_error(box.adit("forward", "8000", "--ca", "/nonexistent/ca", env={"ADIT_TOKEN": relay.token()}), (1, 2),
                 "/nonexistent/ca")
    junk = box.file("junk.pem", "not a certificate\n")
    expect_error(box.adit("forward", "8000", "--ca", junk, env={"ADIT_TOKEN": relay.token()}), (1, 2), junk)


def test_a_port_that_is_forwarded_already(relay, box):
    expect_error(box.adit("forward", "8000", "8000", env={"ADIT_TOKEN": relay.token()}), (1, 2), "8000", "already")


def free_port():
    for port in range(12000, 20000):
        try:
            socket.create_server(("127.0.0.1", port)).close()
            return port
        except OSError:
            pass
    pytest.skip("no port is free")


def test_a_full_port_range(start_relay, agent, app, box):
    port = free_port()
    relay = start_relay(options=["--tcp-ports", f"{port}-{port}"])
    first = agent(app(echo), "--unencrypted", relay=relay)
    assert first.tcp_port == port
    expect_error(box.adit("forward", "8000", "--unencrypted", env={"ADIT_TOKEN": relay.token()}), 1, "port")
    agent(app(echo), relay=relay)         # without a raw port there is room


def test_a_freed_port_is_in_quarantine(start_relay, agent, app, box):
    port = free_port()
    relay = start_relay(options=["--tcp-ports", f"{port}-{port}"])
    assert agent(app(echo), "--unencrypted", relay=relay).process.stop() == 0
    expect_error(box.adit("forward", "8000", "--unencrypted", env={"ADIT_TOKEN": relay.create_token("other")}), 1,
                 "port")


def relay_fails(box, *options, status=1):
    done = box.run(ADIT, "relay", "--domain", "r1.test", "--state", box.file("failing"), *options)
    return expect_error(done, status)


def test_a_busy_listen_address(relay, box):
    assert relay.dial in relay_fails(box, "--listen", relay.dial)


def test_a_busy_admin_address(relay, box):
    assert str(relay.admin) in relay_fails(box, "--listen", "127.0.0.1:0", "--admin", f"127.0.0.1:{relay.admin}")


def test_an_address_that_is_not_ours(box):
    assert "192.0.2.1" in relay_fails(box, "--listen", "192.0.2.1:0")


def test_a_state_folder_that_cannot_be_made(box):
    file = box.file("file", "")
    done = box.adit("relay", "--domain", "r1.test", "--listen", "127.0.0.1:0", "--state", file + "/state")
    expect_error(done, 1, file)


def test_a_relay_without_a_domain(box):
    expect_error(box.adit("relay", "--listen", "127.0.0.1:0", "--state", box.file("s")), 2, "domain")


def test_a_bad_certificate_file(box):
    file = box.file("bad.pem", "garbage")
    assert file in relay_fails(box, "--listen", "127.0.0.1:0", "--cert", file, "--key", file)


def test_a_key_that_is_none_is_named(box):
    cert, key = box.file("cert.pem"), box.file("key.pem", "garbage")
    box.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            box.file("real.pem"), "-out", cert,
            "-subj", "/CN=x", "-addext", "subjectAltName=DNS:r1.test,DNS:*.r1.test")
    assert key in relay_fails(box, "--listen", "127.0.0.1:0", "--cert", cert, "--key", key)


def test_an_address_for_raw_ports_that_the_host_does_not_have(box):
    line = relay_fails(box, "--listen", "127.0.0.1:0", "--tcp-listen", "192.0.2.1")
    assert "raw ports" in line and "192.0.2.1" in line


def test_wrong_usage_beside_an_embedded_relay_is_told_in_one_line(box):
    """What the relay's own child would have to say is of no interest then."""
    done = box.adit("forward", "nonsense")
    expect_error(done, 2, "nonsense")
    assert done.stderr.count("\n") == 1, done.stderr


def test_authorities_that_cannot_be_read(relay, box):
    file = box.file("missing.pem")
    expect_error(box.adit("login", relay.token(), "--ca", file), 1, file, "No such file")
    os.makedirs(os.path.join(box.home, ".config", "adit"))
    box.file("home/.config/adit/config", f"ca = {file}\n")
    expect_error(box.adit("forward", "8000"), 1, file, "No such file")


@pytest.mark.parametrize("content", ["token = nonsense", "relay = r1.test:443", "frob = 1", "token"],
                         ids=["token", "relay", "setting", "syntax"])
def test_a_mistake_in_the_users_configuration_names_the_file(box, content):
    os.makedirs(os.path.join(box.home, ".config", "adit"))
    file = box.file("home/.config/adit/config", content + "\n")
    expect_error(box.adit("forward", "8000"), 1, file)


def test_data_connections_that_cannot_get_through(relay, agent, app, visitor, wire):
    """The control link works, so the tunnel opens; the user is told why no visitor will get in."""
    cable = wire(relay, pass_data=False)
    running = agent(app(echo), "--data", "plain", dial=cable.dial)
    warning = running.events.wait("warning", DEADLINE_S * 2)
    assert warning["reason"] == "data_connections"
    assert (
        "data connections to" in warning["text"]
        and "lets only TLS out" in warning["text"]
        and "allow plain TCP" in warning["text"]
    )


def test_data_connections_that_are_swallowed(relay, agent, app, wire):
    """Something on the way accepts them and keeps what they say to itself."""
    running = agent(app(echo), "--data", "plain", dial=wire(relay, pass_data="swallow").dial)
    warning = running.events.wait("warning", DEADLINE_S * 2)
    assert warning["reason"] == "data_connections" and "the relay does not see them" in warning["text"]


def test_a_state_folder_serves_one_relay(relay, box):
    assert relay.state in relay_fails(box, "--listen", "127.0.0.1:0", "--state", relay.state)


def user_configuration(box, text):
    os.makedirs(box.file("adit"), exist_ok=True)
    box.file("adit/config", text)
    return box.path


def test_a_stored_token_that_others_may_read_is_warned_of(box, relay):
    folder = user_configuration(box, f"token = {relay.token()}\n")
    for mode, warned in ((0o644, True), (0o600, False)):
        os.chmod(os.path.join(folder, "adit/config"), mode)
        done = box.adit("forward", "8000", "--keep", "/nowhere/keep", env={"XDG_CONFIG_HOME": folder})
        assert ("chmod 600" in done.stderr) == warned and "/nowhere/keep" in done.stderr


def test_a_relay_in_the_users_file_needs_a_token(box):
    done = box.adit("forward", "8000", env={"XDG_CONFIG_HOME": user_configuration(box, "relay = 127.0.0.1:1\n")})
    expect_error(done, 1, "adit login")


def test_a_setting_that_would_do_nothing_is_refused(box):
    done = box.adit("forward", "8000", env={"XDG_CONFIG_HOME": user_configuration(box, "allow = 10.0.0.0/8\n")})
    expect_error(done, 1, "line 1")


@pytest.mark.parametrize("line,word",
                         [("frobnicate = 1", "frobnicate"), ("listen", "line 4"), ("workers = many", "workers"),
                          ("domain =", "domain")])
def test_a_wrong_line_in_a_configuration_file_is_named(box, line, word):
    file = box.file("relay.conf", f"# a comment\n\nstate = {box.file('s')}\n{line}\n")
    text = expect_error(box.adit("relay", "--config", file), 2, word)
    assert file in text and "4" in text


def test_a_configuration_file_has_the_flags_names(start_relay, box, app, agent):
    file = box.file("relay.conf", "# raw ports\ntcp-ports = 12000-12999\ndrain = 1s\nworkers = 1\n")
    relay = start_relay(options=["--config", file])
    assert 12000 <= agent(app(echo), "--unencrypted", relay=relay).tcp_port <= 12999


def test_a_configuration_file_that_is_not_there(box):
    expect_error(box.adit("relay", "--config", "/nonexistent/relay.conf"), (1, 2), "/nonexistent/relay.conf")


def test_status_without_a_relay(box):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        admin = "127.0.0.1:%d" % nobody.getsockname()[1]
    expect_error(box.adit("status", "--admin", admin), 1, admin)


def test_status_of_something_that_hangs_up(box, app):
    port = app(reset).port
    expect_error(box.adit("status", "--admin", port), 1, f"status: 127.0.0.1:{port}: Connection reset by peer",
                 "admin port")


def test_a_domain_in_capital_letters(box):
    expect_error(box.adit("relay", "--domain", "R1.Test", "--listen", "127.0.0.1:0", "--state", box.file("state")), 2,
                 "R1.Test", "lower case")


@pytest.mark.parametrize("options", [("--domain", "R1.Test"), ("--relay", "R1.Test=127.0.0.1:443")],
                         ids=["domain", "name"])
def test_a_token_for_a_domain_in_capital_letters(box, options):
    expect_error(box.adit("token", "create", "laptop", "--state", box.file("state"), *options), 2, "R1.Test",
                 "lower case")
