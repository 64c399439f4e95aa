"""Other people's programs through a tunnel: WebSocket, ssh, scp, nc."""
import asyncio
import os
import subprocess
import threading

import pytest
import websockets

from kit import data
from kit.app import echo, read_until_end
from kit.process import DEADLINE_S, die_with_parent, scaled
from kit.sshd import sshd_command

pytestmark = pytest.mark.both_pumps


def test_a_websocket_echoes(relay, agent, app, visitor):
    a, loop, stop = app(), asyncio.new_event_loop(), None

    async def echo_messages(socket, *_):
        async for message in socket:
            await socket.send(message)

    async def serve():
        nonlocal stop
        stop = asyncio.Event()
        async with websockets.serve(echo_messages, sock=a.sock, max_size=None):
            await stop.wait()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    tunnel = agent(a)

    async def talk():
        uri = f"wss://{tunnel.host}:{tunnel.tls_port}/"
        async with websockets.connect(uri, ssl=visitor.context(tunnel), host=relay.host, port=relay.port,
                                      server_hostname=tunnel.host,
                                      max_size=None, open_timeout=DEADLINE_S) as socket:
            for message in ["hello", b"\x00\xff" * 5, "ü" * 70000, data.body(3 << 20)]:
                await socket.send(message)
                assert await asyncio.wait_for(socket.recv(), DEADLINE_S * 3) == message
            await asyncio.wait_for(await socket.ping(), DEADLINE_S)
    try:
        asyncio.run(talk())
    finally:
        loop.call_soon_threadsafe(lambda: stop.set())
        thread.join(DEADLINE_S)


@pytest.fixture
def sshd(box, app):
    """An ssh server of our own, one process for each connection, with its own keys."""
    if os.getuid() != 0:
        pytest.skip("sshd wants root to log a user in")
    made = not os.path.isdir("/run/sshd")
    if made:
        os.mkdir("/run/sshd", 0o755)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", box.file(name)], check=True)
    os.rename(box.file("user.pub"), box.file("authorized_keys"))
    config = box.file(
        "sshd_config",
        f"HostKey {box.file('host')}\nAuthorizedKeysFile {box.file('authorized_keys')}\nUsePAM no\nStrictModes no\n"
        "PasswordAuthentication no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\nPidFile none\n",
    )

    command = sshd_command(box)

    def serve(connection):
        connection.settimeout(None)
        subprocess.run([*command, "-i", "-e", "-f", config], stdin=connection, stdout=connection,
                       stderr=subprocess.DEVNULL,
                       preexec_fn=die_with_parent)
    os.chmod(box.path, 0o755)
    yield app(serve)
    if made:
        os.rmdir("/run/sshd")


def ssh_options(box, tunnel):
    return ["-F", "none", "-i", box.file("user"), "-o", "StrictHostKeyChecking=no", "-o",
            "UserKnownHostsFile=" + box.file("known"),
            "-o", "BatchMode=yes", "-o", f"ConnectTimeout={DEADLINE_S}", "-o", f"HostName={tunnel.relay.host}", "-o",
            f"Port={tunnel.tcp_port}"]


def test_ssh_runs_a_command_over_the_raw_port(relay, agent, sshd, visitor, box):
    tunnel = agent(sshd, "--unencrypted")
    done = box.run("ssh", *ssh_options(box, tunnel), "root@tunnel", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n") and "err" in done.stderr, done.stderr


def test_scp_copies_both_ways_over_the_raw_port(relay, agent, sshd, visitor, box):
    tunnel, total = agent(sshd, "--unencrypted"), scaled(64 << 20, 1 << 20)
    there, back = box.file("there"), box.file("back")
    here = box.file("here", data.body(total))
    for source, target in ((here, "root@tunnel:" + there), ("root@tunnel:" + there, back)):
        done = box.run("scp", "-q", *ssh_options(box, tunnel), source, target, seconds=DEADLINE_S * 10)
        assert done.returncode == 0, done.stderr
    with open(back, "rb") as f:
        assert data.digest_stream(f.read) == (total, data.digest(total))


def test_nc_talks_over_the_raw_port(relay, agent, app, visitor, box):
    tunnel = agent(app(echo), "--unencrypted")
    done = box.run("nc", "-N", relay.host, tunnel.tcp_port, input="one line\nand another\n")
    assert (done.returncode, done.stdout) == (0, "one line\nand another\n"), done.stderr


def test_bytes_on_the_raw_port_arrive_unchanged_both_ways(relay, agent, app, visitor):
    a = app()
    tunnel, total = agent(a, "--unencrypted"), scaled(256 << 20, 1 << 20)
    v = visitor.raw(tunnel)
    connection, results = a.accept(), {}

    def read(name, sock):
        results[name] = data.digest_stream(sock.recv)
    readers = [threading.Thread(target=read, args=pair) for pair in (("app", connection), ("visitor", v))]
    writers = [threading.Thread(target=send_all, args=(sock, total)) for sock in (v, connection)]
    for t in readers + writers:
        t.start()
    for t in readers + writers:
        t.join(DEADLINE_S * 20)
    assert results == {"app": (total, data.digest(total)), "visitor": (total, data.digest(total))}


def send_all(sock, total):
    for block in data.blocks(total):
        sock.sendall(block)
    sock.shutdown(1)


@pytest.mark.relay_options("--link", "plain")
def test_a_plain_raw_port_passes_bytes_unsealed(pump, relay, agent, app, visitor, wire):
    """`plain` on both sides: what the visitor sends is on the data connection as it is, or inside that connection's
    TLS."""
    cable = wire(relay)
    a = app()
    tunnel = agent(a, "--unencrypted", "--link", "plain", dial=cable.dial)
    v = visitor.raw(tunnel)
    v.sendall(b"unsealed bytes")
    v.shutdown(1)
    connection = a.accept()
    assert read_until_end(connection) == b"unsealed bytes"
    connection.sendall(b"answer")
    connection.close()
    assert read_until_end(v) == b"answer"
    assert (b"unsealed bytes" in cable.seen()) == (pump != "tls"), "the bytes crossed the data connection unsealed"


def test_a_raw_port_is_sealed_between_relay_and_agent_by_default(relay, agent, app, visitor, wire):
    cable = wire(relay)
    a = app()
    tunnel = agent(a, "--unencrypted", dial=cable.dial)
    v = visitor.raw(tunnel)
    v.sendall(b"a secret that is long enough to find")
    v.shutdown(1)
    assert read_until_end(a.accept()) == b"a secret that is long enough to find"
    assert b"secret that is long" not in cable.seen()
