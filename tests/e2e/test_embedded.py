"""`adit forward` with neither token nor relay: an embedded relay of its own, and lines that work as printed."""
import json
import os
import re
import shlex
import signal
import stat

import pytest

from kit import http
from kit.app import echo, read_exactly
from kit.process import ADIT, DEADLINE_S, Events, wait_readable
from kit.rights import wants_them_refused
from kit.tls import TlsVisitor, context


@pytest.fixture
def first_use(box):
    """start(app, *options): the program as a newcomer runs it, in an empty home."""
    return lambda a, *options: box.start([ADIT, "forward", *options, a.port])


def children(pid):
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children") as f:
            found += [int(p) for p in f.read().split()]
    return found


def page(connection):
    while request := http.read_request(connection):
        http.answer(connection, "200 OK", f"the page {request.path}".encode())


def test_the_curl_line_works_as_printed(first_use, app, box):
    program = first_use(app(page))
    line = program.out.wait(lambda text: "curl --cacert" in text)
    command = shlex.split(re.search(r"curl --cacert .*", line).group().strip())
    done = box.run(*command)
    assert done.returncode == 0 and done.stdout.startswith("the page /"), done.stderr
    assert re.search(r"https://[a-z0-9]+\.adit\.localhost:\d+", program.out.text())
    assert "localhost" in program.out.text() + program.err.text()
    assert program.stop() == 0


def test_it_says_that_the_relay_is_embedded_in_one_line(first_use, app):
    program = first_use(app(page))
    program.out.wait(lambda text: "https://" in text)
    said = [line for line in (program.out.text() + "\n" + program.err.text()).splitlines()
            if "embedded relay" in line.lower()]
    assert len(said) == 1


def test_json_tells_where_it_is(first_use, app):
    a = app(echo)
    program = first_use(a, "--json", "--unencrypted")
    event = Events(program.out).wait("open")
    assert event["tls_socket"][0].endswith(".adit.localhost") and event["tcp_socket"][0] == "127.0.0.1"
    assert event["embedded"] is True
    authority = find_authority(program, event)
    v = TlsVisitor(("127.0.0.1", event["tls_socket"][1]), event["tls_socket"][0], context(authority))
    v.sendall(b"hello")
    assert read_exactly(v, 5) == b"hello"
    v.close()


def test_json_tells_that_a_relay_is_not_embedded(agent, app):
    assert agent(app(echo)).tunnel.event["embedded"] is False


@wants_them_refused
def test_json_tells_where_it_takes_other_agents_of_this_machine(first_use, app, box):
    """As those in containers, with a token that somebody narrows for them."""
    program = first_use(app(page), "--json")
    event = Events(program.out).wait("open")
    path = event["relay_socket"].removeprefix("unix:")
    assert path.startswith(box.home) and stat.S_ISSOCK(os.stat(path).st_mode)
    assert program.stop() == 0
    assert not os.path.exists(path)


@wants_them_refused
def test_what_a_killed_one_left_is_swept(first_use, app):
    program = first_use(app(page), "--json")
    path = Events(program.out).wait("open")["relay_socket"].removeprefix("unix:")
    child, = children(program.pid)
    os.kill(child, signal.SIGKILL)
    program.wait()
    assert os.path.exists(path)
    program = first_use(app(page), "--json")
    assert Events(program.out).wait("open")["relay_socket"] != f"unix:{path}"
    assert not os.path.exists(path)
    program.stop()


def test_a_home_too_deep_for_sockets_has_a_relay_all_the_same(box, app):
    home = os.path.join(box.home, "x" * 100)
    program = box.start([ADIT, "forward", "--json", app(page).port], env={"HOME": home})
    event = Events(program.out).wait("open")
    assert event["embedded"] and event["relay_socket"] is None


def find_authority(program, event):
    """The one certificate in the home folder."""
    with open(f"/proc/{program.pid}/environ") as f:
        home = dict(v.split("=", 1) for v in f.read().split("\0") if "=" in v)["HOME"]
    found = [os.path.join(d, n) for d, _, names in os.walk(home) for n in names if n.endswith(".pem")]
    assert len(found) == 1, (found, json.dumps(event))
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_the_relay_dies_with_its_parent(first_use, app, number):
    program = first_use(app(page), "--json")
    Events(program.out).wait("open")
    child, = children(program.pid)
    ended = os.pidfd_open(child)
    program.kill(number)
    program.popen.wait(DEADLINE_S)
    assert wait_readable([ended], DEADLINE_S), "the relay goes on without its parent"
    os.close(ended)


def test_the_authority_is_kept_private_and_constrained(first_use, app, box):
    """Trusting it once lasts, and endangers no other name."""
    found = []
    for _ in range(2):
        program = first_use(app(page), "--json")
        event = Events(program.out).wait("open")
        found.append(open(find_authority(program, event)).read())
        program.stop()
    assert found[0] == found[1]
    for folder, _, names in os.walk(box.home):
        for name in names:
            mode = os.stat(os.path.join(folder, name)).st_mode & 0o777
            assert name.endswith((".pem", ".pub")) or mode & 0o077 == 0, (name, oct(mode))
    text = box.run("openssl", "x509", "-noout", "-ext", "nameConstraints", input=found[0]).stdout
    assert "critical" in text and "DNS:adit.localhost" in text


def test_two_at_once_do_not_disturb_each_other(first_use, app):
    programs = [first_use(app(page), "--json") for _ in range(2)]
    events = [Events(p.out).wait("open") for p in programs]
    assert len({e["tls_socket"][0] for e in events}) == 2 and len({e["tls_socket"][1] for e in events}) == 2
    assert [p.stop() for p in programs] == [0, 0]


def test_a_kept_name_comes_back(first_use, app, box):
    """In another run, whose relay listens on a port of its own; and while another program has a kept name, too."""
    file, other, found = box.file("ticket"), box.file("other"), []
    neighbour = first_use(app(page), "--json", "--keep", other)
    Events(neighbour.out).wait("open")
    for _ in range(3):
        program = first_use(app(page), "--json", "--keep", file)
        found.append(Events(program.out).wait("open")["tls_socket"][0])
        assert program.stop() == 0
    assert len(set(found)) == 1
    assert neighbour.stop() == 0


def test_the_token_is_in_no_argument_and_no_environment(first_use, app):
    program = first_use(app(page), "--json")
    Events(program.out).wait("open")
    for pid in [program.pid, *children(program.pid)]:
        for file in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{file}", "rb") as f:
                assert b"adit1_" not in f.read()


def test_a_command_runs_behind_an_embedded_relay(app, box):
    done = box.adit("forward", app(page).port, "--", "sh", "-c", "echo $ADIT_URL")
    assert done.returncode == 0 and re.fullmatch(r"https://[a-z0-9]+\.adit\.localhost:\d+\n", done.stdout), done.stderr


def test_a_state_folder_that_cannot_be_made_is_told_in_one_line(app, box):
    file = box.file("in-the-way", "")
    done = box.adit("forward", app(page).port, env={"XDG_STATE_HOME": file})
    assert done.returncode == 1
    assert re.fullmatch(
        r"adit: embedded relay: [^\n]*in-the-way[^\n]*: Not a directory \([^\n]*XDG_STATE_HOME[^\n]*\)\n", done.stderr
    ), done.stderr
