"""Threads, children and what else lives in the process: the parent's tunnels are its own, nobody waits for others."""

import os
import shutil
import ssl
import subprocess
import sys
import threading

import pytest
from conftest import ended
from kit.app import echo, read_exactly

import adit
from adit import forward

FORKED = """
import os, sys
from adit import forward, Client
from adit.exception import ClosedError
def print(*words):  # parent and child at once: a line is one write
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
f = forward(int(sys.argv[1]))
tunnel = f.__enter__()
shared = Client()
pid = os.fork()
if pid == 0:
    try:
        forward(9, client=shared).__enter__()
    except ClosedError as e:
        print("closed:", e)
    with forward(int(sys.argv[1])) as own:
        print("child", own.host, own.port)
        sys.stdin.readline()
    f.__exit__(None, None, None)
    sys.exit(0)
print("parent", tunnel.host, tunnel.port)
_, status = os.waitpid(pid, 0)
print("status", status)
sys.stdin.readline()
with forward(10):
    print("another")
f.__exit__(None, None, None)
"""


FORK_WARNING = """
import os, sys, threading, warnings
from adit import Client, forward
def fork():
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")  # comes before all others until then
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        if sys.version_info < (3, 12):  # which do not warn as later ones do
            warnings.warn(f"This process (pid={os.getpid()}) is multi-threaded, "
                          "use of fork() may lead to deadlocks in the child.", DeprecationWarning)
        warnings.warn("something else is multi-threaded", DeprecationWarning)
    *of_fork, other = warned
    assert "something else" in str(other.message)
    return "warned" if of_fork else "silent"
print("none:", fork())
in_callback, leave = threading.Event(), threading.Event()
def on_event(event):
    in_callback.set()
    leave.wait()
client = Client()
with client.forward(8000), client.forward(8001):
    print("ours alone:", fork(), fork())
    ends = threading.Event()
    users = threading.Thread(target=ends.wait)
    users.start()
    print("with a thread of the program's:", fork())
    ends.set()
    users.join()
    print("ours alone:", fork())
    with client.forward(8002, on_event=on_event):
        in_callback.wait()
        print("with one that is in the program's function:", fork())
        leave.set()
client.close()
print(not [t for t in threading.enumerate() if t is not threading.main_thread()])
"""


def test_a_fork_is_warned_of_for_the_programs_threads_alone(script, token):
    assert ended(script(FORK_WARNING, token=token)).splitlines() == [
        "none: warned" if sys.version_info < (3, 12) else "none: silent",
        "ours alone: silent silent",
        "with a thread of the program's: warned",
        "ours alone: silent",
        "with one that is in the program's function: warned",
        "True",
    ]


def tunnel_of(program, who):
    _, host, port = program.out.wait(lambda line: line.startswith(who)).split()
    return adit.Tunnel(host, int(port))


def serves(visitor, tunnel):
    v = visitor(tunnel)
    v.sendall(b"hello")
    assert read_exactly(v, 5) == b"hello"
    v.close()


def test_fork(script, token, app, visitor):
    program = script(FORKED, str(app(echo).port), token=token, stdin=-1)
    parent, child = tunnel_of(program, "parent"), tunnel_of(program, "child")
    program.out.wait(lambda line: line.startswith("closed:") and "after fork" in line)
    assert parent.host != child.host
    serves(visitor, parent)
    serves(visitor, child)
    program.popen.stdin.write(b"\n")
    program.popen.stdin.flush()
    program.out.wait(lambda line: line == "status 0")
    serves(visitor, parent)
    program.popen.stdin.close()
    assert "another" in ended(program)


def test_a_child_that_dies_of_a_signal_takes_nothing_along(script, token, app, visitor):
    text = FORKED.replace("    try:\n        forward(9", "    os.kill(os.getpid(), 9)\n    try:\n        forward(9")
    program = script(text, str(app(echo).port), token=token, stdin=-1)
    parent = tunnel_of(program, "parent")
    program.out.wait(lambda line: line == "status 9")
    serves(visitor, parent)
    program.popen.stdin.close()
    ended(program)


BOTH_NUMBER_ONE = """
import ctypes, os, sys
from adit import forward, Client
from adit.exception import ClosedError
CLONE_NEWPID = 0x20000000
client = Client()
with forward(2, client=client):
    assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWPID) == 0, os.strerror(ctypes.get_errno())
    parent = os.getpid()
    if (pid := os.fork()) == 0:
        assert os.getpid() == parent == 1
        try:
            forward(3, client=client).__enter__()
        except ClosedError as e:
            print("closed:", e)
        client.close()
        with forward(4):
            os._exit(0)
    print("status", os.waitpid(pid, 0)[1])
"""


def test_a_child_of_the_same_number_in_a_pid_namespace(box, token):
    unshare = ["unshare", "-pf"] if os.geteuid() == 0 else ["unshare", "-rpf"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("no PID namespace may be made here")
    program = box.start([*unshare, sys.executable, "-u", "-c", BOTH_NUMBER_ONE], env={"ADIT_TOKEN": token})
    out = ended(program)
    assert "after fork" in out and out.endswith("status 0")


NUMBERS_AGAIN = """
import os
from adit import forward, Client
client = Client()
with forward(2, client=client):
    if (pid := os.fork()) == 0:
        os.closerange(3, 100)
        mine = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
        client.close()
        for fd in mine:
            os.fstat(fd)
        os._exit(0)
    print("status", os.waitpid(pid, 0)[1])
"""


def test_a_child_that_closes_what_is_its_parents_keeps_its_own_descriptors(script, token):
    """Such as a daemon, which closes all descriptors that it finds and opens others."""
    assert ended(script(NUMBERS_AGAIN, token=token)) == "status 0"


AT_ONCE = """
import os, sys
from adit import Client, forward
for _ in range(100):
    client = Client()
    pid = os.fork()
    if pid == 0:
        with forward(int(sys.argv[1])):
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    client.close()
"""


def test_fork_while_a_client_connects(script, token, app):
    """The child's OpenSSL would find locks taken by a thread that it does not have."""
    ended(script(AT_ONCE, str(app(echo).port), token=token))


THREADS_THAT_END = """
import os, sys, threading, time
from adit import Client, forward
FORKS, SECONDS = 400, 8
going = True
def once(port):
    with Client() as client, forward(port, client=client):
        pass
def work(port):
    while going:
        thread = threading.Thread(target=once, args=(port,))
        thread.start()
        thread.join()
workers = [threading.Thread(target=work, args=(8000 + n,)) for n in range(3)]
for worker in workers:
    worker.start()
end = time.monotonic() + SECONDS
for _ in range(FORKS):
    if time.monotonic() > end:
        break
    if (pid := os.fork()) == 0:
        with Client() as client, forward(9000, client=client):
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
going = False
"""


def test_fork_while_threads_end_that_had_a_client(script, token):
    """OpenSSL frees what it has for a thread as that ends, under a lock that the child would find taken. A matter of
    luck for a single fork."""
    ended(script(THREADS_THAT_END, token=token))


WORKERS = """
import multiprocessing, sys
from adit import forward, Client
from adit.exception import ClosedError
def work(port):
    with forward(port) as tunnel:
        return tunnel.host
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    with forward(int(sys.argv[1])) as tunnel:
        with multiprocessing.Pool(2) as pool:
            hosts = pool.map(work, [11, 12, 13, 14])
        child = multiprocessing.Process(target=work, args=(15,))
        child.start()
        child.join()
        print("workers", len({*hosts, tunnel.host}), child.exitcode)
        print("parent", tunnel.host, tunnel.port)
        sys.stdin.readline()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(box, token, app, visitor, method):
    file = box.file("workers.py", WORKERS)
    program = box.start([sys.executable, "-u", file, str(app(echo).port), method], env={"ADIT_TOKEN": token}, stdin=-1)
    serves(visitor, tunnel_of(program, "parent"))
    assert program.out.lines[0] == "workers 5 0"
    program.popen.stdin.close()
    ended(program)


def test_threads_that_open_and_close(client, app, visitor):
    """Each its own tunnel, of one client, again and again; each one serves."""
    port, failures = app(echo).port, []

    def work(number):
        try:
            for _ in range(5):
                with forward(20_000 + number, client=client):
                    pass
        except BaseException as e:
            failures.append(e)

    with forward(port, client=client) as tunnel:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
        for t in threads:
            t.start()
        serves(visitor, tunnel)
        for t in threads:
            t.join(60)
        serves(visitor, tunnel)
    assert not failures and not any(t.is_alive() for t in threads)


def test_one_object_and_many_threads(client):
    """One of them opens it, the rest are told."""
    f, results, together = forward(8000, client=client), [], threading.Barrier(10)

    def work():
        together.wait()
        try:
            results.append(f.__enter__())
        except adit.exception.InvalidError as e:
            results.append(e)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert sum(isinstance(r, adit.Tunnel) for r in results) == 1 and len(results) == 10
    f.__exit__(None, None, None)


def test_others_run_while_one_waits(token, silent):
    """Another thread counts a million while this one waits for a relay that does not answer; then it ends the wait."""
    counted = []

    def count():
        silent.accept()
        n = 0
        while n < 1_000_000:
            n += 1
        counted.append(n)
        client.close()

    client = adit.Client(token, relays=[f"127.0.0.1:{silent.port}"])
    counting = threading.Thread(target=count)
    counting.start()
    with pytest.raises(adit.exception.ClosedError), forward(8000, client=client, timeout=100):
        pass
    counting.join()
    assert counted == [1_000_000]


CLOSED = """
import os, sys
from adit import Client, forward
with Client() as client, forward(1, client=client):
    os.closerange(3, 4096)
    others = [os.memfd_create("mine") for _ in range(64)]
print([os.fstat(fd).st_size for fd in others] == [0] * 64)
with Client() as client, forward(2, client=client) as tunnel:
    print(tunnel.url)
"""


def test_a_program_may_close_all_descriptors(script, token):
    """What it has under their numbers since is its own, and it may forward anew."""
    program = script(CLOSED, token=token)
    program.out.wait(lambda line: line == "True")
    program.out.wait(lambda line: line.startswith("https://"))
    assert program.wait() == 0


CLEAN = """
import os, sys, threading
from adit import forward, Client
def state():
    # Without the descriptor that lists them.
    descriptors = sorted(os.listdir("/proc/self/fd"), key=int)[:-1]
    with open("/proc/self/task/%d/children" % os.getpid()) as f:
        return descriptors, os.listdir("/proc/self/task"), threading.enumerate(), f.read()
before = state()
for _ in range(3):
    with Client() as client:
        with forward(1, client=client), forward(2, client=client, unencrypted=True):
            pass
while len(os.listdir("/proc/self/task")) > len(before[1]):
    os.sched_yield()  # before Python 3.13 a thread that was joined may still be on its way out
after = state()
print(before == after, before, after)
"""


@pytest.mark.parametrize("embedded", [False, True], ids=["relay", "embedded"])
def test_nothing_is_left_after_close(script, token, embedded):
    assert ended(script(CLEAN, token=None if embedded else token)).startswith("True")


TWO_LIBRARIES = """
import sys
if sys.argv[1] == "before":
    import ssl
    version = ssl.OPENSSL_VERSION
import adit
from adit import forward
import ssl, socket
if sys.argv[1] == "before":
    assert version == ssl.OPENSSL_VERSION
trust = ssl.create_default_context(cafile=sys.argv[3])
trust.set_alpn_protocols(["http/1.1"])
for _ in range(3):
    with forward(int(sys.argv[2])) as tunnel:
        with trust.wrap_socket(socket.create_connection(("127.0.0.1", tunnel.port)), server_hostname=tunnel.host) as s:
            s.sendall(b"hello")
            assert s.recv(5) == b"hello", "in the middle"
            print(ssl.OPENSSL_VERSION, s.version())
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_pythons_own_openssl_lives_beside_ours(script, token, relay, app, when):
    out = ended(script(TWO_LIBRARIES, when, str(app(echo).port), relay.authority, token=token))
    assert out == "\n".join([f"{ssl.OPENSSL_VERSION} TLSv1.3"] * 3)


def test_no_configuration_of_another_openssl_is_read(script, token, app, relay, box):
    """One that would fail to load, or change what is negotiated."""
    conf = box.file(
        "openssl.cnf",
        "openssl_conf = x\n[x]\nproviders = p\nssl_conf = s\n[p]\nnone = n\n[n]\nmodule = /nowhere.so\nactivate = 1\n"
        "[s]\nsystem_default = d\n[d]\nMaxProtocol = TLSv1.1\n",
    )
    program = script(
        "from adit import forward\nwith forward(2) as t:\n print(t.host)",
        token=token,
        env={"OPENSSL_CONF": conf},
    )
    assert ended(program).endswith(relay.domain)


def test_no_descriptor_is_inherited_by_programs_that_are_started(client, app):
    before = inheritable()
    with forward(app(echo).port, client=client):
        assert inheritable() == before


def inheritable():
    return {fd for fd in os.listdir("/proc/self/fd") if _is_inheritable(int(fd))}


def _is_inheritable(fd):
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False
