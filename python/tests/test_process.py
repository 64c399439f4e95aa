"""The ends of processes: signals, exit, fork, multiprocessing. Each in a program of its own."""
import os
import select
import signal
import socket
import ssl
import subprocess
import sys

import pytest
from kit.app import read_exactly
from kit.process import DEADLINE_S
from kit.tls import how_it_ends

WAITING = "import sys, adit\nwith adit.forward(int(sys.argv[1]){more}) as t:\n    print(t.host, flush=True)\n    sys.stdin.read()\n"


def test_ctrl_c_in_the_block(script, app, visit):
    program = script(WAITING.format(more=""), app().port)
    visitor = visit(program.out.wait(lambda line: line))
    program.kill(signal.SIGINT)
    assert program.wait() == -signal.SIGINT
    assert "KeyboardInterrupt" in program.err.text() and "Fatal" not in program.err.text()
    assert how_it_ends(visitor) != "clean"


def test_ctrl_c_while_opening(script, relay, app):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        token = relay.create_token("silent", dial=f"127.0.0.1:{silent.getsockname()[1]}")
        program = script(WAITING.format(more=", timeout=600"), app().port, env={"ADIT_TOKEN": token})
        with silent.accept()[0]:
            program.kill(signal.SIGINT)
            assert program.wait() == -signal.SIGINT
    assert program.out.text() == ""


def test_ctrl_c_while_draining(script, app, visit):
    program = script("""
import sys, adit
with adit.forward(int(sys.argv[1]), drain=600) as t:
    print(t.host, flush=True)
    sys.stdin.read()
    print("leaving", flush=True)
    """, app().port)
    visitor = visit(program.out.wait(lambda line: line))
    program.popen.stdin.close()
    program.out.wait(lambda line: line == "leaving")
    visitor.sendall(b"still here")
    assert read_exactly(visitor, 10) == b"still here"
    program.kill(signal.SIGINT)
    assert program.wait() == -signal.SIGINT


@pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "threading.Thread(target=time.sleep, args=(0.2,)).start()"])
def test_exit_with_an_open_tunnel(script, app, end):
    program = script(f"import sys, threading, time, adit\nm = adit.forward(int(sys.argv[1]))\nprint(m.__enter__().host)\n{end}", app().port)
    assert program.wait() == 0, program.report()
    assert program.err.text() == "" and program.out.text() != ""


def test_exit_while_a_daemon_thread_waits_for_its_tunnel(script, relay, app):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        token = relay.create_token("silent", dial=f"127.0.0.1:{silent.getsockname()[1]}")
        program = script("""
import sys, threading, adit
def wait():
    try:
        adit.forward(int(sys.argv[1]), timeout=600).__enter__()
    except adit.exception.Error:
        pass
threading.Thread(target=wait, daemon=True).start()
sys.stdin.read()
        """, app().port, env={"ADIT_TOKEN": token})
        with silent.accept()[0]:
            program.popen.stdin.close()
            assert program.wait() == 0, program.report()
    assert program.err.text() == ""


def test_a_forked_child_has_nothing_of_its_parents_and_makes_its_own(script, app, visit):
    program = script("""
import os, sys, adit
with adit.forward(int(sys.argv[1])) as tunnel:
    print(tunnel.host, flush=True)
    pid = os.fork()
    if pid == 0:
        from adit import _adit
        client = adit.Client()
        with client.forward(int(sys.argv[1])) as own:
            print("child", own.host, flush=True)
        with adit.forward(int(sys.argv[2])) as own:
            print("default", own.host, flush=True)
        sys.exit(0)          # leaves the parent's block, too
    print("status", os.waitpid(pid, 0)[1], flush=True)
    sys.stdin.read()
    """, app().port, app().port)
    host = program.out.wait(lambda line: line)
    visitor = visit(host)
    assert program.out.wait(lambda line: line.startswith("status")) == "status 0", program.report()
    visitor.sendall(b"still here")
    assert read_exactly(visitor, 10) == b"still here"
    visit(host)
    hosts = {line.split()[-1] for line in program.out.text().splitlines() if not line.startswith("status")}
    assert len(hosts) == 3, "the child's tunnels are others"
    program.popen.stdin.close()
    assert program.wait() == 0, program.report()


def test_the_parents_tunnel_is_refused_in_a_child(script, app):
    program = script("""
import os, sys, adit
client = adit.Client()
manager = client.forward(int(sys.argv[1]))
manager.__enter__()
pid = os.fork()
if pid == 0:
    try:
        client.forward(int(sys.argv[2])).__enter__()
    except adit.exception.ClosedError as e:
        print(e, flush=True)
        os._exit(0)
    os._exit(1)
assert os.waitpid(pid, 0)[1] == 0
manager.__exit__(None, None, None)
client.close()
    """, app().port, app().port)
    assert program.wait() == 0, program.report()
    assert "anew after fork" in program.out.text()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(box, relay, app, visit, method):
    file = box.file("work.py", """
import multiprocessing, sys
from adit import forward

def serve(port, hosts, leave):
    with forward(port) as tunnel:
        hosts.put(tunnel.host)
        leave.wait()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    hosts, leave = context.Queue(), context.Event()
    with forward(int(sys.argv[2])) as tunnel:
        workers = [context.Process(target=serve, args=(int(port), hosts, leave)) for port in sys.argv[3:]]
        for worker in workers:
            worker.start()
        for _ in workers:
            print(hosts.get(), flush=True)
        sys.stdin.readline()
        leave.set()
        for worker in workers:
            worker.join()
        print("codes", *(worker.exitcode for worker in workers), flush=True)
        print("parent", tunnel.host, flush=True)
        sys.stdin.read()
""")
    program = box.start([sys.executable, file, method, *(str(app().port) for _ in range(3))],
                        stdin=subprocess.PIPE, env={"ADIT_TOKEN": relay.token()})
    program.out.wait_until(lambda lines: len(lines) >= 2, "both workers open their tunnels")
    hosts = program.out.text().splitlines()[:2]
    for host in hosts:
        visit(host)
    program.popen.stdin.write(b"\n")
    program.popen.stdin.flush()
    assert program.out.wait(lambda line: line.startswith("codes")) == "codes 0 0", program.report()
    parent = program.out.wait(lambda line: line.startswith("parent")).split()[1]
    visit(parent)
    for host in hosts:
        with pytest.raises(ssl.SSLError):
            visit(host)
    program.popen.stdin.close()
    assert program.wait(DEADLINE_S) == 0, program.report()


def test_an_embedded_relay_ends_with_its_process(script, app):
    program = script("""
import os, sys, adit
adit.forward(int(sys.argv[1])).__enter__()
for task in os.listdir("/proc/self/task"):
    with open(f"/proc/self/task/{task}/children") as f:
        print(f.read(), end=" ")
print(flush=True)
sys.stdin.read()
    """, app().port, env={"ADIT_TOKEN": None})
    watch = os.pidfd_open(int(program.out.wait(lambda line: line.strip())))
    try:
        program.kill(signal.SIGKILL)
        program.wait()
        assert select.select([watch], [], [], DEADLINE_S)[0], "the embedded relay goes on"
    finally:
        os.close(watch)
