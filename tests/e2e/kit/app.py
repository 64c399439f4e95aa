"""Apps: what listens behind a tunnel. A test either plays the app itself (accept) or lets a function serve each
connection."""
import socket
import struct
import threading

from .process import DEADLINE_S


def reset(sock):
    """Closes with RST, as the kernel does for a process that dies with unread input."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_exactly(sock, n):
    data = bytearray()
    while len(data) < n:
        piece = sock.recv(min(n - len(data), 1 << 20))
        assert piece, f"the stream ended after {len(data)} of {n} bytes"
        data += piece
    return bytes(data)


def read_until_end(sock):
    data = bytearray()
    while piece := sock.recv(1 << 20):
        data += piece
    return bytes(data)


def ends_by_reset(sock):
    """Reads on; True when the stream ends by a reset, False when it ends cleanly."""
    try:
        while sock.recv(1 << 20):
            pass
        return False
    except ConnectionResetError:
        return True


class App:
    """On a port of the host, a free one if none is named; or, with a host "unix:PATH", on that socket, which is made by
    start()."""

    def __init__(self, serve=None, host="127.0.0.1", receive_buffer=None, started=True, backlog=1024, port=0):
        self.path = host.removeprefix("unix:") if host.startswith("unix:") else None
        self.sock = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if self.path:
            self.host, self.port = None, host
        else:
            self.sock.bind((host, port))
            self.host, self.port = self.sock.getsockname()[:2]
        self.serve, self.connections, self.failures, self.backlog = serve, [], [], backlog
        if started:
            self.start()

    def start(self):
        if self.path:
            self.sock.bind("\0" + self.path[1:] if self.path[0] == "@" else self.path)
        self.sock.listen(self.backlog)
        self.sock.settimeout(DEADLINE_S)
        if self.serve:
            self.sock.settimeout(None)
            threading.Thread(target=self._accept_all, daemon=True).start()

    def accept(self):
        connection = self.sock.accept()[0]
        connection.settimeout(DEADLINE_S)
        self.connections.append(connection)
        return connection

    def _accept_all(self):
        while True:
            try:
                connection = self.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def _serve_one(self, connection):
        try:
            with connection:
                self.serve(connection)
        except OSError as e:
            self.failures.append(e)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)     # wakes the thread in accept
        except OSError:
            pass
        self.sock.close()
        for connection in self.connections:
            connection.close()


def ipv6_alone(box, start):
    """What start() starts on a port of ::1 that refuses on 127.0.0.1, as nobody else gets it there while the test goes
    on."""
    for _ in range(20):
        started = start()
        nobody = socket.socket()
        box.closers.append(nobody.close)
        try:
            nobody.bind(("127.0.0.1", started.port))     # and does not listen
            return started
        except OSError:
            started.close()
    raise AssertionError("somebody has every port of it on 127.0.0.1")


def echo(connection):
    """Sends back what comes, half-closes when the visitor does."""
    while data := connection.recv(1 << 16):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
