"""TLS towards the visitor: versions, ciphers, KeyUpdate, odd but legal handshakes, and what follows the Finished at
once."""
import os
import socket
import ssl
import subprocess
import threading

import pytest

from kit import data, hello, http, records
from kit.app import echo, read_exactly, read_until_end
from kit.process import DEADLINE_S, scaled
from kit.tls import how_it_ends

TLS13_SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
TLS12_SUITES = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]


def s_client(box, tunnel, *options):
    """openssl s_client, talking through pipes."""
    return box.start(["openssl", "s_client", "-connect", tunnel.relay.dial, "-servername", tunnel.host,
                      "-verify_hostname", tunnel.host,
                      "-CAfile", tunnel.relay.authority, "-verify_return_error", *options], stdin=subprocess.PIPE)


def say(program, text):
    program.popen.stdin.write(text)
    program.popen.stdin.flush()


@pytest.mark.both_pumps
@pytest.mark.parametrize("suite", TLS13_SUITES + TLS12_SUITES)
def test_openssl_talks_with_each_cipher(relay, agent, app, box, suite):
    tunnel = agent(app(echo))
    if suite in TLS13_SUITES:
        client = s_client(box, tunnel, "-tls1_3", "-ciphersuites", suite)
    else:
        client = s_client(box, tunnel, "-tls1_2", "-cipher", suite)
    client.out.wait(lambda line: f"Cipher is {suite}" in line)
    say(client, b"a line through the tunnel\n")
    client.out.wait(lambda line: line == "a line through the tunnel")
    say(client, b"Q\n")
    assert client.wait() == 0
    assert "Verification: OK" in client.out.text()


@pytest.mark.both_pumps
@pytest.mark.parametrize("suite", ["AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"])
def test_gnutls_talks_tls_1_2_with_each_cipher(relay, agent, app, box, suite):
    tunnel = agent(app(echo))
    host, port = relay.dial.rsplit(":", 1)
    client = box.start(["gnutls-cli", "--port", port, "--sni-hostname", tunnel.host, "--verify-hostname", tunnel.host,
                        "--x509cafile", relay.authority,
                        "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+{suite}", host],
                        stdin=subprocess.PIPE)
    client.out.wait(lambda line: "Handshake was completed" in line)
    say(client, b"a line through the tunnel\n")
    client.out.wait(lambda line: line == "a line through the tunnel")
    client.popen.stdin.close()
    assert client.wait() == 0
    assert suite in client.out.text() and "(TLS1.2-" in client.out.text()


def test_openssl_that_wants_to_renegotiate_is_told_that_nobody_does(relay, agent, app, box):
    client = s_client(box, agent(app(echo)), "-tls1_2", "-msg")
    client.out.wait(lambda line: "Cipher is" in line)
    say(client, b"R\n")
    client.out.wait(lambda line: "no_renegotiation" in line)
    client.err.wait(lambda line: "no renegotiation" in line)


@pytest.mark.both_pumps
@pytest.mark.parametrize("version,suite",
                         [(ssl.TLSVersion.TLSv1_3, None)] + [(ssl.TLSVersion.TLSv1_2, s) for s in TLS12_SUITES],
                         ids=["1.3"] + ["1.2-" + s for s in TLS12_SUITES])
def test_bulk_passes_unchanged_both_ways(relay, agent, app, visitor, version, suite):
    a, total = app(), scaled(64 << 20, 1 << 20)
    tunnel = agent(a)
    v = visitor(tunnel, version=version, ciphers=suite)
    connection, got = a.accept(), {}

    def play_app():
        got["up"] = read_digest(connection, total)
        for block in data.blocks(total):
            connection.sendall(block)
    thread = threading.Thread(target=play_app)
    thread.start()
    for block in data.blocks(total):
        v.sendall(block)
    assert read_digest(v, total) == data.digest(total)
    thread.join(DEADLINE_S)
    assert got["up"] == data.digest(total)


def read_digest(stream, total):
    left = total

    def read(n):
        nonlocal left
        piece = stream.recv(min(n, left)) if left else b""
        left -= len(piece)
        return piece
    return data.digest_stream(read)[1]


@pytest.mark.both_pumps
@pytest.mark.parametrize("suite", TLS13_SUITES)
def test_openssl_downloads_with_each_cipher(relay, agent, app, visitor, suite):
    total, tunnel = scaled(64 << 20, 1 << 20), agent(app(http.serve_bodies))
    curl = visitor.curl(tunnel)
    curl.prefix += ["--tlsv1.3", "--tls13-ciphers", suite]
    assert curl.download(f"/{total}") == (total, data.digest(total))


@pytest.mark.both_pumps
@pytest.mark.parametrize("command", ["k", "K"], ids=["update", "update-and-request"])
def test_openssl_updates_its_keys_in_mid_transfer(relay, agent, app, box, command):
    """k renews the visitor's keys, K asks for ours, too: both directions go on."""
    a, piece = app(), scaled(8 << 20, 1 << 18)
    tunnel = agent(a)
    log = box.file("messages")
    client = s_client(box, tunnel, "-tls1_3", "-msg", "-msgfile", log)
    connection = a.accept()
    for turn in range(3):
        connection.sendall(b"x" * piece + b"\n")
        say(client, f"{command}\n".encode())
        client.err.wait_count("KEYUPDATE", turn + 1)        # else the next line would be read together with the command
        say(client, f"after update {turn}\n".encode())
        expected = f"after update {turn}\n".encode()
        assert read_exactly(connection, len(expected)) == expected
        connection.sendall(f"answer {turn}\n".encode())
        client.out.wait(lambda line: line.endswith(f"answer {turn}"), DEADLINE_S * 3)
    connection.close()
    assert client.wait() == 0
    with open(log) as f:
        messages = f.read()
    assert messages.count(">>> TLS 1.3, Handshake [length 0005], KeyUpdate") == 3
    assert messages.count("<<< TLS 1.3, Handshake [length 0005], KeyUpdate") == (3 if command == "K" else 0)


@pytest.mark.both_pumps
def test_a_key_update_is_answered_before_the_next_data(relay, agent, app, visitor, box):
    a, keylog = app(), box.file("keys")
    tunnel = agent(a)
    v = records.RecordVisitor(visitor(tunnel, version=ssl.TLSVersion.TLSv1_3, keylog=keylog), keylog)
    connection = a.accept()
    for turn in range(5):
        v.send(records.DATA, b"before")
        v.send_key_update(requested=True)
        v.send(records.DATA, b"after!")
        assert read_exactly(connection, 12) == b"beforeafter!"
        connection.sendall(b"answer")
        assert v.read_data(6) == (b"answer", 1), "one KeyUpdate, and then the data under the new keys"


@pytest.mark.both_pumps
def test_our_own_key_update_happens_in_mid_transfer(relay, agent, app, visitor, box):
    """The limit is 2^24 records; a build with small limits reaches it."""
    if not os.environ.get("ADIT_SMALL"):
        pytest.skip("only a build with small_limits=true (ADIT_SMALL=1) sends that few records under a key")
    a, keylog, total = app(), box.file("keys"), 4 << 20
    tunnel = agent(a)
    v = records.RecordVisitor(visitor(tunnel, version=ssl.TLSVersion.TLSv1_3, keylog=keylog), keylog)
    connection = a.accept()
    writer = threading.Thread(target=connection.sendall, args=(data.body(total),))
    writer.start()
    got, updates = v.read_data(total)
    writer.join(DEADLINE_S)
    assert got == data.body(total) and updates >= 3


@pytest.mark.both_pumps
@pytest.mark.parametrize("close", [False, True], ids=["data", "data-and-close"])
def test_what_comes_in_the_segment_of_the_finished_is_delivered_once(relay, agent, app, visitor, close):
    a = app()
    v = visitor(agent(a), version=ssl.TLSVersion.TLSv1_3, hold_finished=True)
    v.write_held(b"early bird")
    if close:
        v.half_close(flush=False)
    v.flush()
    connection = a.accept()
    assert read_exactly(connection, 10) == b"early bird"
    if not close:
        v.sendall(b", then more")
        v.half_close()
    assert read_until_end(connection) == (b"" if close else b", then more")
    connection.sendall(b"answer")
    connection.close()
    assert read_exactly(v, 6) == b"answer" and how_it_ends(v) == "clean"


@pytest.mark.both_pumps
def test_close_notify_alone_with_the_finished_is_a_clean_end(relay, agent, app, visitor):
    a = app()
    v = visitor(agent(a), version=ssl.TLSVersion.TLSv1_3, hold_finished=True)
    v.half_close(flush=False)
    v.flush()
    connection = a.accept()
    assert read_until_end(connection) == b""
    connection.close()
    assert how_it_ends(v) == "clean"


def test_no_session_can_be_resumed(relay, agent, app, box):
    """A resumed session would have other secrets; a ticket would shift the sequence number that was handed over."""
    tunnel = agent(app(echo))
    for version in ("-tls1_3", "-tls1_2"):
        log, session = box.file(f"messages{version}"), box.file(f"session{version}")
        client = s_client(box, tunnel, version, "-msg", "-msgfile", log, "-sess_out", session)
        client.out.wait(lambda line: "Verification: OK" in line)
        say(client, b"one line\n")
        client.out.wait(lambda line: line == "one line")
        say(client, b"Q\n")
        client.wait()
        with open(log) as f:
            assert "NewSessionTicket" not in f.read()
        if os.path.exists(session):
            again = s_client(box, tunnel, version, "-sess_in", session)
            again.out.wait(lambda line: line.startswith("New, TLSv1"))
            say(again, b"Q\n")
            again.wait()
            assert "Reused, " not in again.out.text()


def test_tls_1_1_and_static_rsa_and_cbc_are_refused(relay, agent, app, box):
    tunnel = agent(app(echo))
    for options in (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
                    ["-tls1_2", "-cipher", "ECDHE+AES+SHA"]):
        client = s_client(box, tunnel, *options)
        assert client.wait() != 0
        assert "alert" in client.err.text(), client.err.text()


@pytest.mark.parametrize("piece", [1, 100], ids=["1-byte", "100-byte"])
def test_a_client_hello_in_small_segments_works(relay, agent, app, visitor, piece):
    """The relay sees the name only after many reads. TCP_NODELAY: each send is a segment."""
    a = app(echo)
    tunnel = agent(a)
    with socket.create_server(("127.0.0.1", 0)) as splitter:
        splitter.settimeout(DEADLINE_S)

        def split():
            inner, outer = splitter.accept()[0], visitor.connect(relay.address)
            first = inner.recv(65536)
            for i in range(0, len(first), piece):
                outer.sendall(first[i:i + piece])
            threading.Thread(target=_copy, args=(inner, outer), daemon=True).start()
            _copy(outer, inner)
        threading.Thread(target=split, daemon=True).start()
        v = visitor(tunnel, address=splitter.getsockname())
        v.sendall(b"through")
        assert read_exactly(v, 7) == b"through"


def _copy(a, b):
    try:
        while got := a.recv(65536):
            b.sendall(got)
    except OSError:
        pass


@pytest.mark.parametrize("piece", [1 << 14, 64, 20, 1], ids=["one", "64-byte", "20-byte", "1-byte"])
def test_a_client_hello_in_several_records_gets_a_server_hello(relay, agent, app, visitor, piece):
    tunnel = agent(app(echo))
    v = visitor.connect(relay.address)
    v.sendall(hello.records(hello.client_hello(tunnel.host), piece))
    kind, content = hello.read_record(v)
    assert (kind, content[0]) == (22, 2), f"not a ServerHello: {kind} {content[:8]!r}"


def test_a_client_hello_of_16_kilobytes_gets_a_server_hello(relay, agent, app, visitor):
    tunnel = agent(app(echo))
    v = visitor.connect(relay.address)
    v.sendall(hello.records(hello.client_hello(tunnel.host, more=hello.extension(21, bytes(16000)))))
    assert hello.read_record(v)[1][0] == 2


@pytest.mark.parametrize("piece", [1 << 14, 1], ids=["one", "1-byte"])
def test_a_second_client_hello_in_several_records_gets_a_server_hello(relay, agent, app, visitor, piece):
    tunnel = agent(app(echo))
    v, session, random = visitor.connect(relay.address), os.urandom(32), os.urandom(32)
    v.sendall(hello.records(hello.client_hello(tunnel.host, share=False, session=session, random=random), 1))
    assert hello.read_record(v)[1][6:14] == bytes.fromhex("cf21ad74e59a6111"), "a HelloRetryRequest"
    v.sendall(hello.records(hello.client_hello(tunnel.host, session=session, random=random), piece))
    kind, content = hello.read_record(v)
    while kind == 20:       # a change_cipher_spec of middlebox compatibility
        kind, content = hello.read_record(v)
    assert (kind, content[0]) == (22, 2) and content[6:14] != bytes.fromhex("cf21ad74e59a6111"), "a ServerHello"


def test_a_client_hello_beyond_the_cap_is_refused(relay, agent, app):
    tunnel = agent(app(echo))
    message = hello.client_hello(tunnel.host, more=hello.extension(21, bytes(60000)))
    assert hello.alert_in(hello.answer_to(relay.address, hello.records(message)))[0] == 2


def test_a_hello_retry_request_leads_to_a_working_connection(relay, agent, app, box):
    tunnel, log = agent(app(echo)), box.file("messages")
    client = s_client(box, tunnel, "-tls1_3", "-groups", "ffdhe2048:P-256:X25519", "-msg", "-msgfile", log)
    say(client, b"a line through the tunnel\n")
    client.out.wait(lambda line: line == "a line through the tunnel")
    say(client, b"Q\n")
    assert client.wait() == 0
    with open(log) as f:
        assert f.read().count("], ClientHello") == 2, "there was a HelloRetryRequest"


def test_a_second_client_hello_cannot_name_another_tunnel(relay, agent, app, visitor):
    """OpenSSL itself would let it."""
    both = agent([app(echo), app(echo)]).tunnels
    v, session, random = visitor.connect(relay.address), os.urandom(32), os.urandom(32)
    v.sendall(hello.records(hello.client_hello(both[0].host, share=False, session=session, random=random)))
    kind, content = hello.read_record(v)
    assert (kind, content[0]) == (22, 2) and content[6:14] == bytes.fromhex("cf21ad74e59a6111"), "a HelloRetryRequest"
    v.sendall(hello.records(hello.client_hello(both[1].host, session=session, random=random)))
    kind, content = hello.read_record(v)
    while kind == 20:       # a change_cipher_spec of middlebox compatibility
        kind, content = hello.read_record(v)
    assert (kind, content) == (21, hello.fatal(hello.ILLEGAL_PARAMETER))


def test_early_data_is_skipped_and_the_handshake_completes(relay, agent, app, visitor):
    """RFC 8446 section 4.2.10: no PSK is known here, so an offer is ignored and its records are dropped."""
    tunnel = agent(app(echo))
    v = visitor.connect(relay.address)
    offer = hello.extension(42, b"") + hello.extension(45, b"\x01\x01")
    binder = os.urandom(32)
    identity = os.urandom(100)
    psk = len(identity).to_bytes(2, "big") + identity + bytes(4)
    psk = len(psk).to_bytes(2, "big") + psk + (33).to_bytes(2, "big") + b"\x20" + binder
    v.sendall(
        hello.records(hello.client_hello(tunnel.host, more=offer + hello.extension(41, psk)))
        + b"\x17\x03\x03\x00\x40"
        + os.urandom(64)
    )
    assert hello.read_record(v)[1][0] == 2
