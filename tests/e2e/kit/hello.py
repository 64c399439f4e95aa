"""ClientHellos made by hand, for what no TLS library would send (RFC 8446 section 4.1.2), and the alerts that answer
them."""
import os
import struct

from .process import DEADLINE_S
import socket

UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW, ILLEGAL_PARAMETER, DECODE_ERROR = 10, 20, 22, 47, 50
INTERNAL_ERROR, UNRECOGNIZED_NAME, NO_APPLICATION_PROTOCOL = 80, 112, 120


def _v8(b):
    return struct.pack("!B", len(b)) + b


def _v16(b):
    return struct.pack("!H", len(b)) + b


def extension(number, content):
    return struct.pack("!H", number) + _v16(content)


def sni(name):
    name = name if isinstance(name, bytes) else name.encode()
    return extension(0, _v16(b"\x00" + _v16(name)))


def client_hello(host=None, alpn=(), share=True, session=None, more=b"", random=None):
    """The handshake message. host None: no SNI. share False: an empty key share, which asks for a HelloRetryRequest."""
    extensions = sni(host) if host is not None else b""
    extensions += extension(10, _v16(struct.pack("!HH", 29, 23)))                       # groups: x25519, secp256r1
    extensions += extension(13, _v16(struct.pack("!HHH", 0x0403, 0x0804, 0x0401)))      # signature algorithms
    extensions += extension(43, _v8(struct.pack("!H", 0x0304)))                         # TLS 1.3 only
    extensions += extension(51, _v16(struct.pack("!H", 29) + _v16(os.urandom(32)) if share else b""))
    if alpn:
        extensions += extension(16, _v16(b"".join(_v8(p.encode()) for p in alpn)))
    content = b"\x03\x03" + (random or os.urandom(32)) + _v8(os.urandom(32) if session is None else session)
    content += _v16(struct.pack("!HHH", 0x1301, 0x1302, 0x1303)) + _v8(b"\x00") + _v16(extensions + more)
    return b"\x01" + len(content).to_bytes(3, "big") + content


def records(message, piece=1 << 14):
    """The message as handshake records of at most `piece` bytes each."""
    return b"".join(b"\x16\x03\x01" + _v16(message[i:i + piece]) for i in range(0, len(message), piece))


def read_record(sock):
    head = _exactly(sock, 5)
    return head[0], _exactly(sock, int.from_bytes(head[3:], "big"))


def _exactly(sock, n):
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        if not piece:
            raise EOFError(f"{len(data)} of {n} bytes: {data!r}")
        data += piece
    return data


def answer_to(address, data):
    """Everything that comes back for `data`, until the other side ends or resets."""
    with socket.create_connection(address, DEADLINE_S) as sock:
        sock.sendall(data)
        got = b""
        try:
            while piece := sock.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
        return got


def fatal(description):
    """The bytes of a plaintext fatal alert, without the record's version."""
    return bytes([2, description])


def alert_in(answer):
    """The one alert that the answer consists of, as its two bytes."""
    assert len(answer) == 7 and answer[0] == 0x15, f"not one alert: {answer!r}"
    return answer[5:]
