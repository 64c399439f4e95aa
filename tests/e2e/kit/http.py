"""An HTTP app of the simplest kind, and curl pointed at a tunnel."""
import re
import subprocess

from . import data
from .process import DEADLINE_S, die_with_parent, scaled

TRANSFER_S = 600       # for a gigabyte on a slow and busy machine


class Request:
    def __init__(self, head, rest):
        self.raw, self.rest = head, rest
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines if line)}

    def reader(self, connection):
        """read(n) over the body, by Content-Length or in chunks."""
        stream = _Buffered(connection, self.rest)
        if self.headers.get("transfer-encoding") == "chunked":
            return _chunks(stream)
        left = int(self.headers.get("content-length", 0))

        def read(n):
            nonlocal left
            piece = stream.read(min(n, left)) if left else b""
            left -= len(piece)
            return piece
        return read


class _Buffered:
    def __init__(self, connection, rest):
        self.connection, self.rest = connection, rest

    def read(self, n):
        if self.rest:
            piece, self.rest = self.rest[:n], self.rest[n:]
            return piece
        return self.connection.recv(n)

    def line(self):
        line = b""
        while not line.endswith(b"\r\n"):
            piece = self.read(1)
            assert piece, "the body ended within a chunk's head"
            line += piece
        return line[:-2]


def _chunks(stream):
    left = 0

    def read(n):
        nonlocal left
        if left == 0:
            left = int(stream.line(), 16)
            if left == 0:
                stream.line()
                left = -1
        if left < 0:
            return b""
        piece = stream.read(min(n, left))
        left -= len(piece)
        if left == 0:
            stream.line()
        return piece
    return read


def read_request(connection):
    """The next request's head, or None at the end of the connection."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(1 << 16)
        if not piece:
            return None
        got += piece
    end = got.index(b"\r\n\r\n") + 4
    return Request(got[:end], got[end:])


def answer(connection, status, content=b"", headers=()):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)


class Curl:
    """curl with what it needs to reach a tunnel: where its name is, and whom to trust."""

    def __init__(self, tunnel, address=None):
        host = (address or tunnel.relay.host)
        self.prefix = ["curl", "--silent", "--show-error", "--max-time", str(TRANSFER_S), "--cacert",
                       tunnel.relay.authority,
                       "--connect-to", f"{tunnel.host}:{tunnel.tls_port}:[{host}]:{tunnel.relay.port}" if ":" in host
                       else f"{tunnel.host}:{tunnel.tls_port}:{host}:{tunnel.relay.port}"]
        self.url = tunnel.url

    def __call__(self, *args, path="/", input=None):
        return subprocess.run([*self.prefix, *args, self.url + path], input=input, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE,
                              timeout=TRANSFER_S + DEADLINE_S)

    def download(self, path):
        """Length and hash of the body."""
        with subprocess.Popen([*self.prefix, self.url + path], stdout=subprocess.PIPE,
                              preexec_fn=die_with_parent) as curl:
            result = data.digest_stream(curl.stdout.read)
            assert curl.wait() == 0
            return result

    def upload(self, total, *args, path="/"):
        with subprocess.Popen([*self.prefix, *args, "-T", "-", self.url + path], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE,
                              preexec_fn=die_with_parent) as curl:
            for block in data.blocks(total):
                curl.stdin.write(block)
            curl.stdin.close()
            content = curl.stdout.read()
            assert curl.wait() == 0
            return content


def serve_bodies(connection):
    """GET /N sends N bytes; PUT and POST answer with length and hash of what came."""
    while request := read_request(connection):
        if request.method == "GET":
            total = int(re.sub(r"\D", "", request.path) or 0)
            connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n".encode())
            for block in data.blocks(total):
                connection.sendall(block)
        else:
            if "expect" in request.headers:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            total, digest = data.digest_stream(request.reader(connection))
            answer(connection, "200 OK", f"{total} {digest}".encode())


LARGE = scaled(1 << 30, 1 << 20)
