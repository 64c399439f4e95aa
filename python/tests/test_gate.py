"""A Pod and its foreman's gate: what is carried between them, and who gets in."""

import asyncio
import contextlib
import os
import socket
import tempfile
from types import SimpleNamespace

import pytest

from adit.exception import ConfigError
from adit.functions import carried, pod
from adit.functions.engine import Resources, gate as gates
from adit.functions.engine.gate import Gate
from adit.functions.foreman import unix
from adit.functions.foreman.ways import Way

NOBODY = "0" * 64


class Here:
    """A gate that is reached at its Unix socket, without a relay, and the folder of a Pod's sockets."""

    def __init__(self):
        self.folder = tempfile.mkdtemp()
        self.gate = Gate(None, [])
        self.path = os.path.join(self.folder, "gate.sock")

    async def __aenter__(self):
        self.server = await asyncio.start_unix_server(self.gate._meet, self.path, limit=gates.LINE_MAX)
        await asyncio.start_unix_server(self.echo, os.path.join(self.folder, "foreman.sock"))
        return self

    async def __aexit__(self, *_):
        await self.gate.close()
        self.server.close()

    @staticmethod
    async def echo(reader, writer):
        """Answers when it has heard all."""
        writer.write(b"heard " + await reader.read())
        writer.close()

    def admit(self):
        return self.gate.admit("a1", self.folder, Resources(2.0, 1 << 20), 15.0)

    async def come(self, line):
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(line)
        return reader, writer


def at_gate(test):
    def run():
        async def within():
            async with Here() as here:
                await asyncio.wait_for(test(here), 20)

        asyncio.run(within())

    run.__name__ = test.__name__
    return run


async def heard(reader):
    """Until the end; what was not read there when it closed is a reset here."""
    with contextlib.suppress(ConnectionResetError):
        return await reader.read()
    return b""


async def until(true):
    """What another task of this loop is about to do."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0)


def hello(guest, purpose, bearer=None):
    return f"{guest.id} {bearer or guest.bearer} {purpose}\n".encode()


@at_gate
async def test_a_pods_connection_comes_to_its_own_socket_and_each_direction_has_an_end(here):
    guest = here.admit()
    carrier = await here.come(hello(guest, pod.FOREMAN))
    carrier[1].write((3).to_bytes(4, "big") + b"all" + bytes(4))
    assert await carrier[0].readexactly(4 + 9 + 4) == (9).to_bytes(4, "big") + b"heard all" + bytes(4)
    assert await carrier[0].read() == b""


@at_gate
async def test_the_hosts_that_a_pod_may_reach_are_reached_by_its_foreman(here):
    await asyncio.start_unix_server(here.echo, os.path.join(here.folder, "outlet.sock"))
    guest = here.admit()
    carrier = await here.come(hello(guest, pod.OUTLET))
    carrier[1].write((3).to_bytes(4, "big") + b"get" + bytes(4))
    assert await carrier[0].readexactly(4 + 9 + 4) == (9).to_bytes(4, "big") + b"heard get" + bytes(4)


@pytest.mark.parametrize("which", ["bearer", "id", "words", "long", "noise", "purpose", "dismissed"])
def test_nobody_else_gets_in(which):
    @at_gate
    async def test(here):
        guest = here.admit()
        if which == "dismissed":
            here.gate.dismiss(guest)
        line = {
            "bearer": hello(guest, pod.FOREMAN, NOBODY),
            "id": b"b2 " + guest.bearer.encode() + b" foreman\n",
            "words": b"a1 " + guest.bearer.encode() + b"\n",
            "long": hello(guest, "foreman" + " " * gates.HELLO_MAX),
            "noise": os.urandom(2 * gates.LINE_MAX).replace(b"\n", b"") + b"\n",
            "purpose": hello(guest, "caller"),
            "dismissed": hello(guest, pod.FOREMAN),
        }[which]
        reader, writer = await here.come(line)
        with contextlib.suppress(OSError):
            writer.write((3).to_bytes(4, "big") + b"all" + bytes(4))
        assert await heard(reader) == b""

    test()


def test_strangers_are_heard_for_a_moment_and_those_who_say_nothing_make_room(monkeypatch):
    monkeypatch.setattr(gates, "STRANGERS", 3)

    @at_gate
    async def test(here):
        guest = here.admit()
        silent = [await here.come(b"") for _ in range(3)]
        await until(lambda: len(here.gate._strangers) == 3)
        reader, _ = await here.come(hello(guest, pod.HOLD))
        assert await reader.readline() == b"{}\n"
        assert await heard(silent[0][0]) == b""  # at once
        monkeypatch.setattr(gates, "HELLO_S", 0.3)
        last, _ = await here.come(b"")
        assert await heard(last) == b""  # when its moment is over

    test()


def test_when_files_run_short_a_pod_has_few_connections_and_its_hold(monkeypatch):
    monkeypatch.setattr(gates.descriptors, "are_short", lambda: True)

    @at_gate
    async def test(here):
        guest = here.admit()
        first, _ = await here.come(hello(guest, pod.HOLD))
        assert await first.readline() == b"{}\n"
        some = [await here.come(hello(guest, pod.FOREMAN)) for _ in range(gates.descriptors.FEW - 1)]
        await until(lambda: len(guest._connections) == gates.descriptors.FEW)
        more, _ = await here.come(hello(guest, pod.FOREMAN))
        assert await heard(more) == b""
        again, _ = await here.come(hello(guest, pod.HOLD))
        assert await again.readline() == b"{}\n"
        assert (await heard(first)).replace(b"{}\n", b"") == b"" and len(some) == len(guest._connections) - 1

    test()


def test_a_pod_that_does_not_answer_is_not_waited_for_each_time(monkeypatch):
    monkeypatch.setattr(gates, "ANSWER_S", 0.05)

    @at_gate
    async def test(here):
        guest = here.admit()
        await here.come(hello(guest, pod.HOLD))
        await guest.has_come.wait()
        assert not await guest.ask_used()
        monkeypatch.setattr(gates, "ANSWER_S", 1000.0)
        assert not await guest.ask_used()

    test()


@at_gate
async def test_what_a_pod_says_that_is_no_piece_cuts_its_connection_only(here):
    guest = here.admit()
    held, _ = await here.come(hello(guest, pod.HOLD))
    reader, writer = await here.come(hello(guest, pod.FOREMAN))
    writer.write((carried.PIECE + 1).to_bytes(4, "big"))
    assert await reader.read() == b""
    assert await held.readline() == b"{}\n"


@at_gate
async def test_its_meter_is_asked_and_never_goes_back(here):
    guest = here.admit()
    assert not await guest.ask_used()
    reader, writer = await here.come(hello(guest, pod.HOLD))
    await guest.has_come.wait()

    async def answer(cpu):
        while (line := await reader.readline()) == b"{}\n":
            pass
        number = line.partition(b":")[2].strip(b" }\n")
        writer.write(b'{"answer": %b, "used": [%d, 7]}\n' % (number, cpu))

    for cpu, known in ((50, 50), (20, 50), (60, 60)):
        _, answered = await asyncio.gather(answer(cpu), guest.ask_used())
        assert answered and (guest.used.cpu_ns, guest.used.memory_bytes, guest.used.how) == (known, 7, "reported")
    writer.write(b'{"end": 0, "used": [70, 7]}\n')
    writer.close()
    await until(lambda: guest.has_ended)
    assert await guest.ask_used() and guest.used.cpu_ns == 70


@pytest.mark.parametrize(
    ("said", "cpu", "memory"),
    [
        (b'{"used": [1%b, 5]}' % (b"0" * 400), 10**9, 5),
        (b'{"used": [5, 1%b]}' % (b"0" * 400), 5, 1 << 20),
        (b'{"used": [-5, -5]}', 0, 0),
        (b'{"used": [1e999, 5]}', None, None),
        (b'{"used": [NaN, 5]}', None, None),
        (b'{"used": ["5", 5]}', None, None),
        (b'{"used": [5]}', None, None),
        (b'{"used": 5, "answer": []}', None, None),
        (b'{"answer": {}}', None, None),
        (b"[" * 4000, None, None),
        (b"[]", None, None),
        (b"5", None, None),
        (b"\xff", None, None),
    ],
)
def test_what_a_pod_says_of_itself_is_believed_within_its_limits_and_nonsense_cuts_its_connection(said, cpu, memory):
    @at_gate
    async def test(here):
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: told.append(about))
        guest = here.admit()
        guest._began -= 0.5
        reader, writer = await here.come(hello(guest, pod.HOLD))
        writer.write(said + b"\n")
        if cpu is None:
            assert (await heard(reader)).replace(b"{}\n", b"") == b"" and guest.used is None
        else:
            await until(lambda: guest.used is not None)
            assert cpu <= guest.used.cpu_ns <= cpu * 3 and guest.used.memory_bytes == memory
        assert not told

    test()


@at_gate
async def test_visitors_come_to_the_connections_that_wait_for_them(here):
    """What is handed to containers of this machine is a socket that listens; a Pod has connections instead."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(here.folder, "visitors.sock"))
    listener.listen()

    async def hand_over(_, writer):
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as way:
            socket.send_fds(way, [b"."], [listener.fileno()])

    await asyncio.start_unix_server(hand_over, os.path.join(here.folder, "web.sock"))
    guest = here.admit()
    lost, kept = await here.come(hello(guest, pod.VISITOR)), await here.come(hello(guest, pod.VISITOR))
    await until(lambda: len(guest._waiting) == 2)
    lost[1].close()
    await until(next(iter(guest._waiting.values()))[0].at_eof)
    visitor = await asyncio.open_unix_connection(os.path.join(here.folder, "visitors.sock"))
    visitor[1].write(b"hello")
    assert await kept[0].readexactly(1 + 4 + 5) == pod.GO + (5).to_bytes(4, "big") + b"hello"
    kept[1].write((2).to_bytes(4, "big") + b"hi" + bytes(4))
    assert await visitor[0].read() == b"hi"


@at_gate
async def test_a_pod_that_is_here_before_its_sockets_waits_for_them(here):
    guest = here.admit()
    carrier = await here.come(hello(guest, pod.VISITOR))
    await until(lambda: guest._accepting is not None)
    listener = unix.bind(os.path.join(here.folder, "visitors.sock"))
    listener.listen()

    async def hand_over(_, writer):
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as way:
            socket.send_fds(way, [b"."], [listener.fileno()])

    await asyncio.start_unix_server(hand_over, os.path.join(here.folder, "web.sock"))
    await asyncio.open_unix_connection(os.path.join(here.folder, "visitors.sock"))
    assert await carrier[0].readexactly(1) == pod.GO


def test_a_foreman_that_comes_back_knows_its_pods_and_no_other_does(tmp_path):
    def bearer(keep, identity="a1"):
        async def ask():
            gate = Gate(None, [], keep)
            guest = gate.admit(identity, "/nowhere", Resources(1.0, 1), 30.0)
            await gate.close()
            return guest.bearer

        return asyncio.run(ask())

    own = bearer(str(tmp_path / "gate"))
    assert own == bearer(str(tmp_path / "gate")) and len(own) == 64
    assert os.stat(tmp_path / "gate.key").st_mode & 0o777 == 0o600
    others = [bearer(str(tmp_path / "gate"), "b2"), bearer(str(tmp_path / "other")), bearer(None), bearer(None)]
    assert len({own, *others}) == 5


@at_gate
async def test_when_a_pod_is_dismissed_its_connections_are_cut(here):
    guest = here.admit()
    reader, _ = await here.come(hello(guest, pod.HOLD))
    assert await reader.readline() == b"{}\n"
    here.gate.dismiss(guest)
    assert (await reader.read()).replace(b"{}\n", b"") == b""


class Forward:
    """A tunnel that comes to whatever relay is there."""

    def __init__(self, url):
        self.url, self.is_closed = url, False

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.is_closed = True


def test_pods_dial_the_relay_that_the_tunnel_is_at_and_another_when_it_has_gone_there(monkeypatch):
    async def authority(way, name):
        return f"that of {way.host} for {name}"

    monkeypatch.setattr(gates, "_authority", authority)
    at = [("r1.test", 443), ("r2.test", 8443)]

    async def test():
        forward = Forward("https://x-y.r2.test:8443/")
        gate = Gate(SimpleNamespace(forward=lambda *_, **__: forward), [Way(*one) for one in at])
        await gate.open()
        guest = gate.admit("a1", "/nowhere", Resources(1.0, 1), 15.0)
        for url, dial, host in ((forward.url, at[1], "r2"), ("https://x-z.r1.test/", at[0], "r1")):
            forward.url = url
            told = await gate.settings(guest)
            name = url.split("/")[2].split(":")[0]
            assert (told["dial"], told["name"]) == (dial, name)
            assert told["ca"] == f"that of {host}.test for {name}"
        await gate.close()
        assert forward.is_closed and not gate._server.is_serving()

    asyncio.run(test())


def test_a_gate_that_does_not_open_leaves_nothing(monkeypatch):
    async def authority(way, name):
        raise ConfigError("kubernetes: the relay's certificate: no")

    monkeypatch.setattr(gates, "_authority", authority)

    async def test():
        forward = Forward("https://x.r1.test/")
        gate = Gate(SimpleNamespace(forward=lambda *_, **__: forward), [Way("r1.test", 443)])
        with pytest.raises(ConfigError):
            await gate.open()
        assert forward.is_closed and not gate._server.is_serving()
        return gate._folder

    assert not os.path.exists(asyncio.run(test()))
