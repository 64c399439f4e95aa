"""A TLS visitor that shows what the socket interface of Python's ssl hides: half-close, truncation, reset, and what
leaves in one segment."""
import socket
import ssl

from .app import reset
from .process import DEADLINE_S


class Truncated(Exception):
    """The stream ended without close_notify."""


def context(authority, version=None, alpn=None, ciphers=None, keylog=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(authority)
    if version:
        c.minimum_version = c.maximum_version = version
    if alpn:
        c.set_alpn_protocols(alpn)
    if ciphers:
        c.set_ciphers(ciphers)
    if keylog:
        c.keylog_filename = keylog
    return c


class TlsVisitor:
    def __init__(self, address, host, tls_context, hold_finished=False, source=None, first=b"", receive_buffer=None,
                 nagle=False):
        """hold_finished: the Finished is not sent before the next send. first: bytes that go before the ClientHello.
        nagle: without TCP_NODELAY."""
        self.sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.sock.settimeout(DEADLINE_S)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect(address)
        if not nagle:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.said, self.heard = b"", b""        # the beginnings: both hellos
        self.tls = tls_context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        try:
            if first:
                self.sock.sendall(first)
            self._retry(self.tls.do_handshake)
        except BaseException:
            self.sock.close()
            raise
        if not hold_finished:
            self.flush()

    def _retry(self, operation, *args):
        while True:
            try:
                return operation(*args)
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(1 << 16)
                if data:
                    self.heard = self.heard or data[:100]
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()

    def flush(self):
        data = self.outgoing.read()
        if data:
            self.said = self.said or data[:100]
            self.sock.sendall(data)

    def sendall(self, data):
        self.tls.write(data)
        self.flush()

    def write_held(self, data):
        """Encrypts, but sends nothing before the next flush."""
        self.tls.write(data)

    def recv(self, n):
        """Up to n bytes; b"" after close_notify; raises Truncated, ConnectionResetError or ssl.SSLError (an alert)."""
        try:
            return self._retry(self.tls.read, n)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError as e:
            raise Truncated() from e

    def half_close(self, flush=True):
        """close_notify and FIN; what the other side still sends can be read."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        if flush:
            self.flush()
            self.sock.shutdown(socket.SHUT_WR)

    def truncate(self):
        """FIN without close_notify."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        reset(self.sock)

    def close(self):
        self.sock.close()

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)

    def shutdown(self, how):
        assert how == socket.SHUT_WR
        self.half_close()


def how_it_ends(stream):
    """Reads a visitor's or an app's stream to its end: "clean", "reset", "truncated" or the alert's name."""
    try:
        while stream.recv(1 << 16):
            pass
        return "clean"
    except ConnectionResetError:
        return "reset"
    except Truncated:
        return "truncated"
    except ssl.SSLError as e:
        return (e.reason or str(e)).lower()


def how_a_visit_ends(visit, *args):
    """The same of visit(*args), which may meet a reset while it still connects."""
    try:
        stream = visit(*args)
    except ConnectionResetError:
        return "reset"
    return how_it_ends(stream)


# what a visitor sees of a stream that was torn
BROKEN = ("reset", "tlsv1_alert_internal_error", "ssl/tls alert internal error")
