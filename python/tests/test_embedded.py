"""With nothing configured: a relay of this machine alone, and one warning that says so."""

import logging
import os
import re
import signal
import subprocess

import pytest
from conftest import ended
from kit import embedded
from kit.http import answer, read_request
from kit.process import DEADLINE_S, wait_until
from kit.rights import wants_them_refused
from kit.tls import TlsVisitor, context
from test_package import PROGRAM

import adit
from adit import forward
from adit.exception import AuthError, ConfigError, EmbeddedRelayWarning, RemoteError

TWO_TUNNELS = """
import sys
from adit import forward
for port in (int(sys.argv[1]), int(sys.argv[1]), 1):
    with forward(port) as tunnel, forward(2):
        print(tunnel.url)
"""


def page(connection):
    while read_request(connection):
        answer(connection, "200 OK", b"the page")


def test_one_warning_whose_curl_works(app):
    with pytest.warns(EmbeddedRelayWarning) as told:
        with forward(app(page).port) as tunnel, forward(2):
            command = re.search(r"(curl --cacert \S+ \S+)\)", str(told[0].message)).group(1).split()
            got = subprocess.run([*command, "-sS"], capture_output=True, timeout=20)
            assert got.stdout == b"the page", got
            assert tunnel.host.endswith(".localhost")
        with forward(2):
            pass
    assert len(told) == 1 and "works on this machine only" in str(told[0].message)
    assert told[0].filename == __file__


def test_the_warning_comes_once_per_process_and_names_the_line(script, app):
    program = script(TWO_TUNNELS, str(app(page).port))
    assert len(set(ended(program).split())) == 3
    assert program.err.text().count("EmbeddedRelayWarning") == 1
    assert program.err.text().startswith("<string>:5: EmbeddedRelayWarning: ")


def test_the_warning_as_an_error_leaves_nothing_open(app, recwarn):
    import warnings

    warnings.simplefilter("error", EmbeddedRelayWarning)
    with pytest.raises(EmbeddedRelayWarning), forward(2):
        pass
    with forward(2):
        pass


def test_a_raw_port_of_it_is_at_loopback():
    with pytest.warns(EmbeddedRelayWarning), forward(2, unencrypted=True) as tunnel:
        assert tunnel.tcp_socket == ("127.0.0.1", tunnel.unencrypted_port)


def test_a_relay_that_died_is_followed_by_another_with_the_same_addresses(app, box, records, recwarn):
    """For all tunnels that it had, and for those of the next minute."""
    with forward(app(page).port) as tunnel, forward(3) as other:
        os.kill(embedded.process(box.home), signal.SIGKILL)
        records.wait(logging.WARNING, "the link to the relay is back")
        trust = context(os.path.join(embedded.folder(box.home), "authority.pem"))
        visitor = TlsVisitor(("127.0.0.1", tunnel.port), tunnel.host, trust)
        visitor.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert visitor.recv(12).startswith(b"HTTP/1.1 200")
        visitor.close()
        assert not tunnel.closed and not other.closed
        with forward(4) as later:
            assert later.port == tunnel.port


def test_a_relay_that_died_for_good_is_replaced(box, records, recwarn):
    """Also while others still hold tunnels that it had."""
    with forward(2) as dead:
        embedded.kill_for_good(box.home)
        records.wait(logging.ERROR, "embedded relay: it has ended")
        with forward(2) as alive:
            assert alive.host != dead.host
        with forward(3):
            pass


def test_a_client_of_a_relay_that_died_for_good_says_so(box, records, recwarn):
    with adit.Client() as client:
        with forward(2, client=client):
            embedded.kill_for_good(box.home)
            records.wait(logging.ERROR, "embedded relay: it has ended")
        with pytest.raises(RemoteError, match="embedded relay: it has ended"), forward(2, client=client):
            pass


@wants_them_refused
def test_what_a_client_gave_away_ends_with_it(box, recwarn):
    """While the relay lives on for others."""
    with adit.Client() as other, forward(2, client=other):
        with adit.Client() as client, forward(2, client=client):
            token, at = client.narrow(), client.relay_socket
            with adit.Client(token, relays=[at]) as friend, forward(3, client=friend) as tunnel:
                client.close()
                assert tunnel.wait(DEADLINE_S) == "token_revoked"
        with adit.Client(token, relays=[at]) as friend, pytest.raises(AuthError), forward(3, client=friend):
            pass
        with adit.Client(other.narrow(), relays=[at]) as friend, forward(3, client=friend):
            pass


def test_all_programs_share_it(script, box, recwarn):
    with forward(2):
        relay = embedded.process(box.home)
        assert ended(script(KEPT, box.file("ticket")))
        assert embedded.process(box.home) == relay


FORKED = """
import os, time
from adit import forward
with forward(2):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


def test_a_forked_child_does_not_keep_it(script, box):
    """It has copies of what its parent holds, and closes them."""
    program = script(FORKED)
    child = int(program.out.wait(str.isdigit))
    assert embedded.process(box.home)
    program.kill(signal.SIGKILL)
    wait_until(lambda: not embedded.processes(box.home), "the relay lives on")
    os.kill(child, signal.SIGKILL)


def test_no_home_for_its_state(monkeypatch):
    monkeypatch.delenv("HOME")
    with pytest.raises(ConfigError, match=r"^embedded relay: state folder: no home folder \(set HOME or XDG_"):
        forward(2).__enter__()


def test_a_home_that_cannot_be_written(box, monkeypatch):
    monkeypatch.setenv("HOME", box.file("in-the-way", ""))
    with pytest.raises(ConfigError, match=r"^embedded relay: .*in-the-way.*\(set XDG_STATE_HOME"):
        forward(2).__enter__()


KEPT = """
import sys
from adit import forward
with forward(2, keep=sys.argv[1]) as tunnel:
    print(tunnel.host)
"""


def test_a_kept_name_comes_back(script, box):
    assert len({ended(script(KEPT, box.file("ticket"))) for _ in range(2)}) == 1


def test_it_can_be_forbidden(monkeypatch):
    monkeypatch.setenv("ADIT_EMBEDDED", "0")
    with pytest.raises(ConfigError, match="ADIT_TOKEN"), forward(8000):
        pass
    with pytest.raises(ConfigError, match="ADIT_TOKEN"):
        adit.Client()
    monkeypatch.setenv("ADIT_EMBEDDED", "false")
    with pytest.raises(ConfigError, match=r"^ADIT_EMBEDDED: 'false' is neither 0 nor 1"):
        adit.Client()


def test_the_program_is_the_packages_own(box, monkeypatch, recwarn):
    trap = box.file("adit", "#!/bin/sh\ntouch $0.ran\n", mode=0o755)
    monkeypatch.setenv("PATH", box.path + ":" + os.environ["PATH"])
    with forward(2):
        with open(f"/proc/{embedded.process(box.home)}/cmdline") as line:
            assert line.read().split("\0")[0] == os.path.join(os.path.dirname(adit.__file__), "bin", "adit")
    assert not os.path.exists(trap + ".ran")


def test_the_relay_holds_none_of_the_descriptors_of_whoever_starts_it(box):
    """Also where glibc has no call that closes them all. (A library's thread has none of them in the first place.)"""
    ends = os.pipe()
    program = box.start([PROGRAM, "forward", "2"], pass_fds=ends)
    program.out.wait(lambda line: line.startswith("https://"))
    relay = embedded.process(box.home)
    assert os.readlink(f"/proc/self/fd/{ends[0]}") in descriptors(program.pid) - descriptors(relay)
    for end in ends:
        os.close(end)


def descriptors(pid):
    return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
