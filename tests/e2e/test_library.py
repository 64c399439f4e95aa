"""The C library inside host programs: the examples as they are documented, and a host that forks, opens several clients
and looks at what must stay its own."""
import os
import re
import ssl
import subprocess
import threading
import time

import pytest

from kit import embedded
from kit.app import echo, ends_by_reset, read_exactly, read_until_end
from kit.process import ADIT, BUILD, DEADLINE_S, SANITIZED, TSAN, links_of, threads, wait_until
from kit.tls import Truncated, TlsVisitor, context, how_it_ends

EAUTH, ECONFLICT = -5, -7            # of adit.h
EXAMPLES = ["example-forward", "example-poll", "example-poll-static"]


def example(name):
    return os.path.join(BUILD, "docs", "examples", name)


def visit(address, host, authority):
    v = TlsVisitor(address, host, context(authority))
    v.sendall(b"through a library")
    assert read_exactly(v, 17) == b"through a library"
    return v


def opened(program):
    url = program.out.wait(lambda line: line.startswith("open: ")).removeprefix("open: ")
    host, port = re.fullmatch(r"https://([^:]+):(\d+)", url).groups()
    return host, int(port)


def test_the_static_library_has_only_the_header_s_names():
    out = subprocess.run(["nm", "--extern-only", "--defined-only", os.path.join(BUILD, "libadit.a")],
                         capture_output=True, text=True, check=True)
    names = {line.split()[2] for line in out.stdout.splitlines() if len(line.split()) == 3}
    assert "adit_forward" in names
    assert SANITIZED or not [name for name in names if not name.startswith("adit_")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_serves_through_a_relay(relay, box, app, name):
    program = box.start([example(name), app(echo).port], env={"ADIT_TOKEN": relay.token()}, stdin=subprocess.PIPE)
    host, _ = opened(program)
    visit(relay.address, host, relay.authority).close()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_serves_through_a_relay_of_its_own(box, app, name):
    program = box.start([example(name), app(echo).port, ADIT], stdin=subprocess.PIPE)
    host, port = opened(program)
    assert host.endswith(".adit.localhost")
    authority = next(os.path.join(folder, "authority.pem") for folder, _, files in os.walk(box.home)
                     if "authority.pem" in files)
    visit(("127.0.0.1", port), host, authority).close()
    if name == "example-forward":
        assert f"curl --cacert {authority} https://{host}:{port}" in program.out.text()


def test_the_poll_example_ends_with_its_input(relay, box, app):
    program = box.start([example("example-poll"), app(echo).port], env={"ADIT_TOKEN": relay.token()},
                        stdin=subprocess.PIPE)
    host, _ = opened(program)
    visit(relay.address, host, relay.authority).close()
    program.popen.stdin.close()
    assert program.wait() == 0
    assert "visitors: 1" in program.out.text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_without_a_token_says_what_to_do(box, name):
    done = box.run(example(name), "8000")
    assert done.returncode == 1 and "ADIT_TOKEN" in done.stderr


def test_the_forward_example_ends_when_its_token_is_revoked(relay, box, app):
    token = relay.create_token("to-be-revoked")
    program = box.start([example("example-forward"), app(echo).port], env={"ADIT_TOKEN": token})
    opened(program)
    relay.revoke("to-be-revoked")
    assert program.wait() == 1
    assert "closed: " in program.out.text() and "revoked" in program.out.text()


class Host:
    """library-host with its tunnels open: one inner list of apps for each client."""

    def __init__(self, box, relay, *clients, allow=0, token=None, embedded=False, keep=None):
        ports = [",".join(str(getattr(a, "port", a)) for a in apps) for apps in clients]
        self.program = box.start([os.path.join(BUILD, "tests", "e2e", "library-host"), f"allow={allow}",
                                  *([f"embedded={ADIT}"] if embedded else []),
                                  *([f"keep={keep}"] if keep else []), *ports],
                                  env={} if embedded else {"ADIT_TOKEN": token or relay.token()}, stdin=subprocess.PIPE)
        self.surroundings = self.program.out.wait(lambda line: line.startswith("surroundings "))
        self.names = [line.split()[2] for line in self.program.out.lines if line.startswith("open ")]

    def tell(self, word, answer):
        said = len(self.program.out.lines)
        self.program.popen.stdin.write(word.encode() + b"\n")
        self.program.popen.stdin.flush()
        return self.program.out.wait(lambda line: line.startswith(answer), first=said)

    def end(self):
        self.program.popen.stdin.close()
        return self.program.wait()

    def threads(self):
        """Name and blocked signals of each thread but the first."""
        return [(thread["Name"], int(thread["SigBlk"], 16)) for thread in threads(self.program.pid)
                if thread["Pid"] != thread["Tgid"]]


@pytest.fixture
def library_host(box, relay):
    return lambda *clients, **options: Host(box, relay, *clients, **options)


def test_two_clients_and_two_tunnels_work_at_once(relay, library_host, app):
    a, b, c = (app(lambda s, word=word: s.sendall(word)) for word in (b"a", b"b", b"c"))
    host = library_host([a, b], [a, c])
    assert len(set(host.names)) == 4
    visitors = [TlsVisitor(relay.address, name, context(relay.authority)) for name in host.names]
    assert [read_exactly(v, 1) for v in visitors] == [b"a", b"b", b"a", b"c"]
    host.tell("close 0", "closed 0")
    with pytest.raises(OSError):
        TlsVisitor(relay.address, host.names[0], context(relay.authority))
    v = TlsVisitor(relay.address, host.names[3], context(relay.authority))
    assert read_exactly(v, 1) == b"c"
    assert host.end() == 0


def test_a_tunnel_that_is_superseded_tells_so_and_leaves_its_app_and_file_to_another(relay, agent, library_host, app,
                                                                                     box):
    a, keep = app(echo), box.file("keep")
    host = library_host([a], keep=keep)
    host.tell("wait 0", "waiting 0")
    newer = agent(a, "--keep", keep)
    assert re.match(rf"ended 0 superseded {ECONFLICT} another agent",
                    host.program.out.wait(lambda line: line.startswith("ended ")))
    assert host.tell("again 0", "again ") == f"again 0 {host.names[0]}"
    newer.events.wait("superseded")
    visit(relay.address, host.names[0], relay.authority).close()
    assert host.end() == 0


def test_a_tunnel_whose_token_is_revoked_tells_so(relay, library_host, app):
    host = library_host([app(echo)], token=relay.create_token("to-be-revoked"))
    host.tell("wait 0", "waiting 0")
    relay.revoke("to-be-revoked")
    assert re.match(rf"ended 0 token_revoked {EAUTH} .*revoked",
                    host.program.out.wait(lambda line: line.startswith("ended ")))
    assert re.match(rf"again {EAUTH} .*revoked", host.tell("again 0", "again "))
    assert host.tell("wait 0", "ended ").startswith("ended 0 token_revoked ")
    assert host.end() == 0


def test_a_tunnel_that_finishes_lets_nobody_in_and_waits_for_its_visitors(relay, library_host, app):
    host = library_host([app(echo)])
    v = visit(relay.address, host.names[0], relay.authority)
    host.tell("finish 0", "waiting 0")
    refused = False
    deadline = time.monotonic() + DEADLINE_S
    while not refused and time.monotonic() < deadline:       # the relay hears of it a moment later
        try:
            TlsVisitor(relay.address, host.names[0], context(relay.authority)).close()
        except ssl.SSLError:
            refused = True
    assert refused
    v.sendall(b"not yet")
    assert read_exactly(v, 7) == b"not yet"
    assert "finished" not in host.program.out.text()
    v.close()
    host.program.out.wait(lambda line: line == "finished 0")
    assert host.end() == 0


def test_the_hosts_signals_environment_and_folder_stay_its_own(library_host, app):
    host = library_host([app(echo)], [app(echo)])
    assert host.surroundings == "surroundings same"
    assert host.end() == 0
    assert "at the end same" in host.program.out.text()
    assert host.program.err.text() == ""


@pytest.mark.unsanitized      # sanitizers want to be loaded first and have threads of their own
def test_a_client_is_one_thread_that_takes_no_signal(library_host, app):
    host = library_host([app(echo), app(echo)], [app(echo)])
    threads = host.threads()
    assert [name for name, _ in threads] == ["adit", "adit"]
    catchable = sum(1 << (n - 1) for n in range(1, 32) if n not in (9, 19))
    assert all(blocked & catchable == catchable for _, blocked in threads)
    host.tell("close 1", "closed 1")
    assert len(host.threads()) == 1


def test_a_fork_with_a_live_stream_disturbs_nothing(relay, library_host, app):
    """The child is refused each call, frees and exits; the parent's streams, links and address go on."""
    host = library_host([app(echo)], [app(echo)])
    v = visit(relay.address, host.names[0], relay.authority)
    assert host.tell("fork", "child ") == "child exited 0"
    v.sendall(b"still here")
    assert read_exactly(v, 10) == b"still here"
    for name in host.names:
        visit(relay.address, name, relay.authority).close()
    assert host.end() == 0


def test_a_child_that_never_calls_the_library_hides_no_end(relay, library_host, app):
    """It closed its copies as it was made, so what ends in the parent ends for the visitor and for the app."""
    a = app()
    host = library_host([a])
    v = TlsVisitor(relay.address, host.names[0], context(relay.authority))
    connection = a.accept()
    v.sendall(b"x")
    assert read_exactly(connection, 1) == b"x"
    pid = int(host.tell("silent", "silent ").split()[1])
    assert not links_of(pid, "socket")
    host.program.kill()                 # a reset, if no copy is left
    host.program.popen.wait(DEADLINE_S)
    assert how_it_ends(v) == "reset"
    assert ends_by_reset(connection)


def test_a_child_holds_no_socket_that_has_ended_and_only_lingers(relay, library_host, app):
    """The visitor has said its last word, and keeps its connection: the agent's socket still waits for the end of
    that."""
    a = app()
    host = library_host([a])
    v = TlsVisitor(relay.address, host.names[0], context(relay.authority))
    connection = a.accept()
    v.half_close(flush=False)
    v.flush()
    assert read_until_end(connection) == b""
    connection.close()
    assert v.recv(1) == b""
    assert not links_of(int(host.tell("silent", "silent ").split()[1]), "socket")
    host.tell("gone", "gone")
    v.close()
    assert host.end() == 0


class TestDescriptorsThatTheHostCloses:
    """As daemons do with all that they do not know; under their numbers it has others at once."""
    pytestmark = pytest.mark.skipif(TSAN, reason="ThreadSanitizer wants one table of descriptors")

    def check(self, host):
        assert host.tell("untouched", "touched ") == "touched 0"
        host.tell("ask 0", "asked 0")
        said = {line.split()[0]: line.split(None, 2)[1:] for line in host.program.out.lines
                if line.startswith(("event ", "wait ", "descriptor ", "forward "))}
        assert said.keys() == {"event", "wait", "descriptor", "forward"}
        for error, text in said.values():
            assert int(error) == -11 and "closed" in text and "descriptors" in text and "(" in text, said
        host.tell("close 0", "closed 0")
        assert host.tell("untouched", "touched ") == "touched 0"
        assert host.end() == 0

    def test_are_not_taken_for_its_own_by_a_client_that_waits(self, library_host, app):
        host = library_host([app(echo), app(echo)])
        host.tell("takeover", "taken")
        self.check(host)

    def test_are_not_taken_for_its_own_amid_streams(self, relay, library_host, app):
        host = library_host([app(echo)])
        visitors = [visit(relay.address, host.names[0], relay.authority) for _ in range(8)]
        threads = [threading.Thread(target=stream_until_broken, args=(v,)) for v in visitors]
        for thread in threads:
            thread.start()
        host.tell("takeover", "taken")
        for thread in threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "the stream does not end"
        self.check(host)

    def test_end_a_client_with_a_relay_of_its_own_and_that(self, box, app):
        host = Host(box, None, [app(echo)], embedded=True)
        relay = embedded.process(box.home)
        host.tell("takeover", "taken")
        self.check(host)
        wait_until(lambda: not os.path.exists(f"/proc/{relay}"), "the relay goes on, or is a zombie")


def stream_until_broken(v):
    try:
        while True:
            v.sendall(bytes(1 << 16))
            read_exactly(v, 1 << 16)
    except (OSError, AssertionError, Truncated):
        pass


def test_hundreds_of_tunnels_with_long_allow_lists_open(relay, library_host):
    """Their requests do not fit into the link's queue at once; they go in portions, and the link stands."""
    host = library_host(range(1, 401), allow=64, token=relay.create_token("many", "--max-tunnels", "400"))
    assert len(set(host.names)) == 400
    assert relay.process.err.text().count(" link_up ") == 1
    assert host.end() == 0


def test_a_host_that_exits_without_closing_ends_as_it_meant_to(relay, library_host, app):
    """Its clients' threads are busy while exit() takes the process apart around them."""
    host = library_host([app(stream_for_ever)], [app(stream_for_ever)])
    streams = [TlsVisitor(relay.address, name, context(relay.authority)) for name in host.names for _ in range(3)]
    for v in streams:
        read_exactly(v, 100000)
        threading.Thread(target=how_it_ends, args=(v,), daemon=True).start()
    host.program.popen.stdin.write(b"exit\n")
    host.program.popen.stdin.flush()
    assert host.program.wait() == 3


def stream_for_ever(connection):
    while True:
        connection.sendall(bytes(1 << 16))
