"""Records after the handoff that RFC 8446 forbids: the alert that it names, and a reset for the app, never a clean
end."""
import signal
import ssl
import threading

import pytest

from kit import data, hello
from kit.app import echo, ends_by_reset, read_exactly
from kit.process import DEADLINE_S, wait_until
from kit.records import ALERT, DATA, HANDSHAKE, KEY_UPDATE, KEY_UPDATE_REQUESTED, RecordVisitor

pytestmark = pytest.mark.both_pumps


@pytest.fixture
def stream(relay, agent, app, visitor, box):
    """A visitor's record layer in the test's hands, and the app's end of the stream; one message has passed each
    way."""
    a, keylog = app(), box.file("keys")
    v = RecordVisitor(visitor(agent(a), version=ssl.TLSVersion.TLSv1_3, keylog=keylog), keylog)
    connection = a.accept()
    v.send(DATA, b"good")
    assert read_exactly(connection, 4) == b"good"
    connection.sendall(b"fine")
    assert v.read_data(4) == (b"fine", 0)
    return v, connection


def corrupted(v):
    record = bytearray(v.writing.seal(DATA, b"bad"))
    record[-1] ^= 1
    v.send_raw(bytes(record))


def replayed(v):
    record = v.writing.seal(DATA, b"once")
    v.send_raw(record + record)


def reordered(v):
    first, second = v.writing.seal(DATA, b"one"), v.writing.seal(DATA, b"two")
    v.send_raw(second + first)


BAD = {
    "corrupted": (corrupted, hello.BAD_RECORD_MAC),
    "replayed": (replayed, hello.BAD_RECORD_MAC),
    "reordered": (reordered, hello.BAD_RECORD_MAC),
    "record-too-long": (lambda v: v.send_raw(b"\x17\x03\x03" + (16384 + 257).to_bytes(2, "big") + bytes(16384 + 257)),
                        hello.RECORD_OVERFLOW),
    "plaintext-too-long": (lambda v: v.send(DATA, bytes(16385)), hello.RECORD_OVERFLOW),
    "all-zero": (lambda v: v.send_raw(v.writing.seal_inner(bytes(100))), hello.UNEXPECTED_MESSAGE),
    "outer-change-cipher-spec": (lambda v: v.send_raw(b"\x14\x03\x03\x00\x01\x01"), hello.UNEXPECTED_MESSAGE),
    "outer-plaintext-alert": (lambda v: v.send_raw(b"\x15\x03\x03\x00\x02\x02\x28"), hello.UNEXPECTED_MESSAGE),
    "outer-handshake": (lambda v: v.send_raw(v.writing.seal(DATA, b"x", outer=22)), hello.UNEXPECTED_MESSAGE),
    "inner-unknown-type": (lambda v: v.send(99, b"x"), hello.UNEXPECTED_MESSAGE),
    "inner-change-cipher-spec": (lambda v: v.send(20, b"\x01"), hello.UNEXPECTED_MESSAGE),
    "empty-alert": (lambda v: v.send(ALERT, b""), hello.UNEXPECTED_MESSAGE),
    "empty-handshake": (lambda v: v.send(HANDSHAKE, b""), hello.UNEXPECTED_MESSAGE),
    "client-hello": (lambda v: v.send(HANDSHAKE, hello.client_hello("x")), hello.UNEXPECTED_MESSAGE),
    "key-update-with-more-behind": (lambda v: v.send(HANDSHAKE, KEY_UPDATE + KEY_UPDATE), hello.UNEXPECTED_MESSAGE),
    "key-update-in-fragments": (lambda v: (v.send(HANDSHAKE, KEY_UPDATE[:3]), v.send(DATA, b"x")),
                                hello.UNEXPECTED_MESSAGE),
    "key-update-of-a-third-kind": (lambda v: v.send(HANDSHAKE, b"\x18\x00\x00\x01\x02"), hello.ILLEGAL_PARAMETER),
    "key-update-of-a-wrong-length": (lambda v: v.send(HANDSHAKE, b"\x18\x00\x00\x02\x00\x00"), hello.DECODE_ERROR),
    "alert-of-three-bytes": (lambda v: v.send(ALERT, b"\x01\x00\x00"), hello.DECODE_ERROR),
}
ALSO = {"empty-alert": {hello.DECODE_ERROR}, "empty-handshake": {hello.DECODE_ERROR},
        "alert-of-three-bytes": {hello.UNEXPECTED_MESSAGE},
        "key-update-of-a-wrong-length": {hello.UNEXPECTED_MESSAGE}}      # where the RFC leaves a choice


@pytest.mark.parametrize("name", BAD)
def test_a_forbidden_record_is_answered_by_its_alert(stream, name):
    v, connection = stream
    send, alert = BAD[name]
    send(v)
    kind, content = v.receive()
    assert kind == ALERT and content[0] == 2 and content[1] in {alert} | ALSO.get(name, set()), (kind, content)
    assert ends_by_reset(connection), "the app must not take this for a clean end"


def test_the_alert_reaches_a_visitor_whose_relay_is_late(relay, agent, app, visitor, box):
    """The first flight is the violation. The agent has sent its alert and reset before the relay has read that the
    visitor was accepted, and the first thing that the relay does then is to write what else the visitor has sent."""
    a, keylog = app(), box.file("keys")
    running = agent(a)
    wait_until(lambda: relay.metric("data_connections_warm_now") > 0, "no data connection is warm")
    running.process.freeze()
    v = RecordVisitor(visitor(running, version=ssl.TLSVersion.TLSv1_3, keylog=keylog), keylog)
    corrupted(v)
    wait_until(lambda: relay.metric("bytes_from_visitors_total") > 0, "the first flight does not pass")
    relay.process.freeze()
    v.send(DATA, b"more")
    running.process.kill(signal.SIGCONT)
    assert ends_by_reset(a.accept())
    relay.process.kill(signal.SIGCONT)
    kind, content = v.receive()
    assert kind == ALERT and content == hello.fatal(hello.BAD_RECORD_MAC)


def test_a_fatal_alert_from_the_visitor_resets_the_app(stream):
    v, connection = stream
    v.send(ALERT, hello.fatal(40))
    assert ends_by_reset(connection)


def test_padding_is_accepted_and_removed(stream):
    v, connection = stream
    v.send(DATA, b"padded", padding=1000)
    v.send(DATA, b"", padding=16)
    v.send(DATA, b"", padding=0)
    v.send(DATA, b"!", padding=16383)
    assert read_exactly(connection, 7) == b"padded!"


def test_records_of_the_largest_size_and_of_one_byte_pass(stream):
    v, connection = stream
    body = data.body(16384)
    v.send(DATA, body)
    for i in range(300):
        v.send(DATA, body[i:i + 1])
    assert read_exactly(connection, 16384 + 300) == body + body[:300]


def test_a_record_in_one_byte_segments_passes(stream):
    v, connection = stream
    for byte in v.writing.seal(DATA, b"slowly"):
        v.send_raw(bytes([byte]))
    assert read_exactly(connection, 6) == b"slowly"


def test_a_flood_of_key_updates_is_bounded_and_no_deadlock(stream, relay):
    """Thousands of requests while nobody reads the answers: they are coalesced, and data behind them still arrives."""
    v, connection = stream
    v.sock.settimeout(DEADLINE_S)
    for _ in range(20):
        batch = b""
        for _ in range(100):
            batch += v.writing.seal(HANDSHAKE, b"\x18\x00\x00\x01\x01")
            v.writing.update()
        v.send_raw(batch)
    v.send(DATA, b"still here")
    assert read_exactly(connection, 10) == b"still here"
    connection.sendall(b"so am I")
    content, updates = v.read_data(7)
    assert content == b"so am I" and 1 <= updates <= 2000


def test_those_who_flood_with_key_updates_leave_others_their_turn(relay, agent, app, visitor, box):
    running, sent, stop = agent(app(echo)), [], threading.Event()

    def flood(v):
        while not stop.is_set():
            batch = b""
            for _ in range(50):
                batch += v.writing.seal(HANDSHAKE, KEY_UPDATE_REQUESTED)
                v.writing.update()
            try:
                v.send_raw(batch)
            except OSError:                      # too many in a second: it was ended
                return
            sent.append(50)

    floods = []
    for i in range(4):
        keylog = box.file(f"keys{i}")
        floods.append(RecordVisitor(visitor(running, version=ssl.TLSVersion.TLSv1_3, keylog=keylog), keylog))
    threads = [threading.Thread(target=flood, args=(v,)) for v in floods]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(sent) > 1000, "the flood does not begin")
    other = visitor(running)
    for i in range(100):
        other.sendall(b"%04d" % i)
        assert read_exactly(other, 4) == b"%04d" % i
    stop.set()
    for v in floods:
        v.sock.close()
    for thread in threads:
        thread.join(DEADLINE_S)


def test_a_key_update_is_read_while_our_writes_are_blocked(stream, app):
    """The visitor does not read; its own records, a KeyUpdate among them, must get through all the same."""
    v, connection = stream
    total = 32 << 20
    writer = threading.Thread(target=connection.sendall, args=(data.body(total),), daemon=True)
    writer.start()
    for i in range(50):
        v.send_key_update(requested=True)
        v.send(DATA, b"%04d" % i)
        assert read_exactly(connection, 4) == b"%04d" % i
    content, updates = v.read_data(total)
    assert content == data.body(total) and updates >= 1
    writer.join(DEADLINE_S)
