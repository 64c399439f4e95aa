"""`adit forward` with neither token nor relay: an embedded relay of its own, and lines that work as printed."""
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import stat
from pathlib import Path

import pytest

from kit import embedded, http
from kit.app import echo, read_exactly
from kit.process import ADIT, DEADLINE_S, Events, children, freeze, wait_readable, wait_until
from kit.rights import wants_them_refused
from kit.tls import TlsVisitor, context


@pytest.fixture
def first_use(box):
    """start(app, *options): the program as a newcomer runs it, in an empty home."""
    return lambda a, *options: box.start([ADIT, "forward", *options, a.port])


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


def wait_for_end(relay):
    """Of a process that is a child of nobody here."""
    try:
        ended = os.pidfd_open(relay)
    except ProcessLookupError:
        return
    assert wait_readable([ended], DEADLINE_S), "the relay goes on without its programs"
    os.close(ended)


@wants_them_refused
def test_json_tells_where_it_takes_other_agents_of_this_machine(first_use, app, box):
    """As those in containers, with a token that somebody narrows for them."""
    program = first_use(app(page), "--json")
    event = Events(program.out).wait("open")
    path = event["relay_socket"].removeprefix("unix:")
    assert path.startswith(box.home) and stat.S_ISSOCK(os.stat(path).st_mode)
    relay = embedded.process(box.home)
    assert program.stop() == 0
    wait_for_end(relay)
    assert not os.path.exists(path)


def test_one_that_is_killed_is_followed_by_one_with_the_same_addresses(first_use, app, box):
    """For all of its programs, and for raw ports."""
    programs = [first_use(app(page), "--json", "--unencrypted"), first_use(app(page), "--json")]
    events = [Events(p.out) for p in programs]
    opened = [e.wait("open") for e in events]
    relay = embedded.process(box.home)
    os.kill(relay, signal.SIGKILL)
    for e in events:
        e.wait("restored")
    assert relay not in embedded.processes(box.home)
    trust = context(find_authority(programs[0], opened[0]))
    for event in opened:
        see_page(TlsVisitor(("127.0.0.1", event["tls_socket"][1]), event["tls_socket"][0], trust))
    see_page(socket.create_connection(opened[0]["tcp_socket"], DEADLINE_S))
    assert [p.stop() for p in programs] == [0, 0]


def test_one_that_stops_sends_its_programs_to_another_at_once(first_use, app, box):
    """While what they have goes on at the one that stops."""
    program = first_use(app(echo), "--json")
    events = Events(program.out)
    event = events.wait("open")
    relay, trust = embedded.process(box.home), context(find_authority(program, event))
    name, port = event["tls_socket"]
    before = TlsVisitor(("127.0.0.1", port), name, trust)
    before.sendall(b"before")
    assert read_exactly(before, 6) == b"before"
    os.kill(relay, signal.SIGTERM)
    events.wait("restored")
    after = TlsVisitor(("127.0.0.1", port), name, trust)
    for v in before, after:
        v.sendall(b"still")
        assert read_exactly(v, 5) == b"still"
    with socket.socket(socket.AF_UNIX) as status:
        status.connect(os.path.join(embedded.folder(box.home), f"status-{port}.sock"))
    assert relay in embedded.processes(box.home)
    before.close()
    after.close()
    assert program.stop() == 0


def test_one_that_hangs_has_no_part_in_who_started_another(first_use, app, box):
    """Also when it goes on: whoever was not heard in time is seen to end by his own relay alone."""
    first = first_use(app(page), "--json")
    Events(first.out).wait("open")
    relay = embedded.process(box.home)
    freeze(relay)
    second = first_use(app(page), "--json")
    events = Events(second.out)
    events.wait("open")
    other, = set(embedded.processes(box.home)) - {relay}
    os.kill(relay, signal.SIGCONT)
    third = first_use(app(page), "--json")
    Events(third.out).wait("open")   # so what had waited was heard
    os.kill(other, signal.SIGKILL)
    events.wait("closed")
    assert second.wait() == 1 and [p.stop() for p in (first, third)] == [0, 0]


def test_one_that_listens_elsewhere_than_the_one_before_ends_the_tunnels(first_use, app, box):
    """Whoever has their addresses would find somebody else there."""
    program = first_use(app(page), "--json")
    events = Events(program.out)
    events.wait("open")
    embedded.kill_for_good(box.home)
    assert "it has ended (start again)" in events.wait("closed")["text"]
    assert program.wait() == 1


def see_page(v):
    v.sendall(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
    got = b""
    while not got.endswith(b"the page /x"):
        part = v.recv(4096)
        assert part, got
        got += part
    v.close()


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
def test_the_relay_ends_soon_after_its_last_program(first_use, app, box, number):
    """However that ends, and with no child of it left meanwhile."""
    programs = [first_use(app(page), "--json") for _ in range(2)]
    events = [Events(p.out).wait("open") for p in programs]
    relay = embedded.process(box.home)
    wait_until(lambda: not any(children(p.pid) for p in programs), "a child stays")
    programs[0].kill(number)
    programs[0].popen.wait(DEADLINE_S)
    host, port = events[1]["tls_socket"]
    see_page(TlsVisitor(("127.0.0.1", port), host, context(find_authority(programs[1], events[1]))))
    programs[1].kill(number)
    programs[1].popen.wait(DEADLINE_S)
    wait_for_end(relay)
    assert not embedded.files(box.home, ".sock", ".port")


def test_a_program_that_comes_soon_finds_it_still_there(first_use, app, box):
    first = first_use(app(page), "--json")
    Events(first.out).wait("open")
    relay = embedded.processes(box.home)
    assert first.stop() == 0
    second = first_use(app(page), "--json")
    Events(second.out).wait("open")
    wait_until(lambda: embedded.processes(box.home) == relay, "another relay was started")
    assert second.stop() == 0


def test_one_that_is_told_to_end_is_followed_by_another(first_use, app, box):
    """As one that a service's end takes along, which had started it."""
    program = first_use(app(page), "--json")
    events = Events(program.out)
    events.wait("open")
    relay = embedded.process(box.home)
    os.kill(relay, signal.SIGTERM)
    events.wait("restored")
    assert relay not in embedded.processes(box.home)
    assert program.stop() == 0


def test_nothing_of_whoever_started_it_is_held(first_use, app, box):
    """A pipe that somebody reads to its end, a folder that is to be unmounted, a terminal, a systemd's attention."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(box.file("notify"))
        notified.setblocking(False)
        settings = {"NOTIFY_SOCKET": box.file("notify")}
        program = box.start([ADIT, "forward", "--json", app(page).port], env=settings, cwd=box.path)
        Events(program.out).wait("open")
        relay = embedded.process(box.home)
        assert {os.readlink(f"/proc/{relay}/fd/{n}") for n in (0, 1, 2)} == {"/dev/null"}
        assert os.readlink(f"/proc/{relay}/cwd") == "/" and os.getsid(relay) == relay
        said = []
        with contextlib.suppress(BlockingIOError):
            while True:
                said.append(notified.recv(4096))
        assert not any(b"X_ADIT_PORT" in text for text in said)
    assert program.stop() == 0


@pytest.mark.parametrize("kind", ["--mount", "--net", "--pid"])
def test_a_program_in_another_namespace_is_not_given_it(first_use, app, box, kind):
    """Not by its name, and not when it knows that name."""
    program = first_use(app(page), "--json")
    event = Events(program.out).wait("open")
    known = shared_socket(box)
    enter = ["unshare", kind, *(["--fork", "--kill-child", "--mount-proc"] if kind == "--pid" else [])]
    up = ["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"] if kind == "--net" else []
    other = box.start([*enter, *up, ADIT, "forward", "--json", app(page).port])
    assert Events(other.out).wait("open")["tls_socket"][1] != event["tls_socket"][1] or kind == "--net"
    wait_until(lambda: len(embedded.processes(box.home)) == 2, "there are not two relays")
    told = box.run(*enter, "python3", "-c", ASK, known)
    assert told.stdout == "nothing\n", told.stderr
    told = box.run("python3", "-c", ASK, known)
    assert told.stdout == "a token\n", told.stderr


ASK = """
import array, socket, sys
ours, theirs = socket.socketpair()
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
    s.recv(1)
except ConnectionError:
    pass
theirs.close()
print("a token" if ours.recv(6) == b"TOKEN " else "nothing")
"""


def shared_socket(box):
    return next(path for path in embedded.files(box.home, ".sock") if "/shared-" in path)


def test_a_folder_that_others_can_enter_is_no_place_to_share(first_use, app, box):
    program = first_use(app(page), "--json")
    Events(program.out).wait("open")
    relay = embedded.process(box.home)
    program.stop()
    wait_for_end(relay)
    os.chmod(embedded.folder(box.home), 0o755)
    programs = [first_use(app(page), "--json") for _ in range(2)]
    for p in programs:
        Events(p.out).wait("open")
    assert sorted(embedded.processes(box.home)) == sorted(int(r) for p in programs for r in children(p.pid))
    relays = [os.pidfd_open(r) for r in embedded.processes(box.home)]
    for p in programs:
        assert p.stop() == 0
    for r in relays:
        assert wait_readable([r], DEADLINE_S)
        os.close(r)


def test_whoever_asks_and_says_nothing_holds_up_nobody(first_use, app, box):
    program = first_use(app(page), "--json")
    Events(program.out).wait("open")
    relay = embedded.process(box.home)
    silent = []
    for words in [b"", b"x", b"y" * 100] * 5:
        silent.append(socket.socket(socket.AF_UNIX))
        silent[-1].connect(shared_socket(box))
        silent[-1].sendall(words)
    other = first_use(app(page), "--json")
    Events(other.out).wait("open")
    wait_until(lambda: embedded.processes(box.home) == [relay], "another relay was started")
    for s in silent:
        s.settimeout(DEADLINE_S)
        with contextlib.suppress(ConnectionResetError):
            assert s.recv(1) == b""
        s.close()
    program.stop()
    other.stop()
    wait_for_end(relay)


def test_of_several_descriptors_at_once_it_keeps_one(first_use, app, box):
    program = first_use(app(page), "--json")
    Events(program.out).wait("open")
    mine, handed = socket.socketpair()
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(DEADLINE_S)
        asking.connect(shared_socket(box))
        socket.send_fds(asking, [b"+"], [handed.fileno(), writing])
        assert asking.recv(1) == b"+"
    handed.close()
    os.close(writing)
    assert wait_readable([reading], DEADLINE_S) and os.read(reading, 1) == b"", "it has the other one, too"
    os.close(reading)
    mine.close()
    assert program.stop() == 0


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
            assert name.endswith((".pem", ".pub", ".sock")) or mode & 0o077 == 0, (name, oct(mode))
        mode = os.stat(folder).st_mode & 0o777   # containers see "agents" without what it stands in
        assert folder == box.home or mode & (0o066 if folder.endswith("/embedded/agents") else 0o077) == 0, folder
    text = box.run("openssl", "x509", "-noout", "-ext", "nameConstraints", input=found[0]).stdout
    assert "critical" in text and "DNS:adit.localhost" in text


def test_those_that_start_at_once_share_one(first_use, app, box):
    programs = [first_use(app(page), "--json") for _ in range(6)]
    events = [Events(p.out).wait("open") for p in programs]
    assert len({e["tls_socket"][0] for e in events}) == 6 and len({e["tls_socket"][1] for e in events}) == 1
    assert {p.stop() for p in programs} == {0}


def test_each_program_has_the_whole_of_a_tokens_limits(box):
    """Which are 100 tunnels, and more than that are open here."""
    programs = [box.start([ADIT, "forward", "--json", *range(1, 61)]) for _ in range(2)]
    for p in programs:
        p.out.wait_until(lambda lines: sum('"open"' in line for line in lines) == 60, "not all are open")
    assert len({e["tls_socket"][1] for p in programs for e in Events(p.out).seen("open")}) == 1
    for p in programs:
        p.stop()


def test_a_kept_name_comes_back(first_use, app, box):
    """In another run; and while another program has a kept name, too."""
    file, other, found = box.file("ticket"), box.file("other"), []
    neighbour = first_use(app(page), "--json", "--keep", other)
    Events(neighbour.out).wait("open")
    for _ in range(3):
        program = first_use(app(page), "--json", "--keep", file)
        found.append(Events(program.out).wait("open")["tls_socket"][0])
        assert program.stop() == 0
    assert len(set(found)) == 1
    assert neighbour.stop() == 0


def test_the_token_is_in_no_argument_and_no_environment(first_use, app, box):
    program = first_use(app(page), "--json")
    Events(program.out).wait("open")
    for pid in [program.pid, *embedded.processes(box.home)]:
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


@pytest.mark.parametrize("enter", [["unshare", "--net"],
                                   ["setpriv", "--reuid=61184", "--regid=61184", "--clear-groups"]],
                         ids=["another_namespace", "another_user"])
def test_its_status_is_for_its_user_alone(first_use, app, box, enter):
    """Whatever the folder lets in. It is where a successor has it, too, and goes with the relay."""
    program = first_use(app(page), "--json")
    events = Events(program.out)
    path = os.path.join(embedded.folder(box.home), f"status-{events.wait('open')['tls_socket'][1]}.sock")
    assert stat.S_IMODE(os.stat(embedded.folder(box.home)).st_mode) == 0o700
    token, = json.loads(box.run("python3", "-c", ASK_STATUS, path).stdout)["tokens"]
    assert token["name"] == "embedded"
    for folder in list(Path(path).parents)[:-2]:
        folder.chmod(folder.stat().st_mode | 0o011)
    told = box.run(*enter, "python3", "-c", ASK_STATUS, path)
    assert told.stdout == "this socket answers only to programs of its user\n", told.stderr
    os.chmod(embedded.folder(box.home), 0o700)
    os.kill(embedded.process(box.home), signal.SIGKILL)
    events.wait("restored")
    assert '"embedded"' in box.run("python3", "-c", ASK_STATUS, path).stdout
    relay = embedded.process(box.home)
    assert program.stop() == 0
    wait_for_end(relay)
    assert not os.path.exists(path)


ASK_STATUS = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"GET /status HTTP/1.0\\r\\n\\r\\n")
print(b"".join(iter(lambda: s.recv(65536), b"")).split(b"\\r\\n\\r\\n")[1].decode(), end="")
"""
