"""A network between agent and relay that a test can cut: a TCP proxy that tells control links from data connections by
their first bytes."""
import socket
import threading

from .app import reset
from .process import DEADLINE_S, LIBC


class Wire:
    def __init__(self, target, pass_data=True, record=True):
        """The agent dials `address`; its connections go on to `target`. pass_data False: what is not TLS is reset;
        "close": it is closed; "swallow": it is accepted and nobody reads it; "deaf": it is read and goes nowhere;
        "late": it is reset once the relay has spoken."""
        self.target, self.pass_data = target, pass_data
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.links, self.data, self.swallowed, self.changed = [], [], [], threading.Condition()
        self.open, self.recorded = True, bytearray() if record else None
        self.flowing, self.held = threading.Event(), 0
        self.flowing.set()
        threading.Thread(target=self._accept_all, args=(self.listener,), daemon=True).start()

    @property
    def dial(self):
        return "%s:%d" % self.address

    def _accept_all(self, listener):
        while True:
            try:
                inner = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(inner,), daemon=True).start()

    def _serve(self, inner):
        try:
            first = inner.recv(4096, socket.MSG_PEEK)
            is_tls = first.startswith(b"\x16")
            is_link = is_tls and b"adit-data/1" not in first
            if not self.open or not first or (not is_tls and not self.pass_data):
                return reset(inner)
            if not is_tls and self.pass_data == "close":
                inner.recv(4096)
                return inner.close()
            if not is_tls and self.pass_data == "swallow":
                return self.swallowed.append(inner)
            if not is_tls and self.pass_data == "deaf":
                while inner.recv(4096):
                    pass
                return inner.close()
            outer = socket.create_connection(self.target, DEADLINE_S)
            outer.settimeout(None)
            for sock in (inner, outer):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            return inner.close()
        with self.changed:
            (self.links if is_link else self.data).append((inner, outer))
            self.changed.notify_all()
        if not is_tls and self.pass_data == "late":
            threading.Thread(target=self._copy, args=(inner, outer), daemon=True).start()
            try:
                outer.recv(1)
            except OSError:
                pass
            for sock in (inner, outer):
                LIBC.connect(sock.fileno(), bytes(16), 16)
            return None
        holds = not self.flowing.is_set()
        for a, b in ((inner, outer), (outer, inner)):
            threading.Thread(target=self._copy, args=(a, b, holds and a is inner), daemon=True).start()

    def _copy(self, a, b, holds=False):
        try:
            if holds:
                b.sendall(a.recv(1 << 16))
                with self.changed:
                    self.held += 1
                    self.changed.notify_all()
                self.flowing.wait(DEADLINE_S)
            while data := a.recv(1 << 16):
                if self.recorded is not None:
                    self.recorded += data
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            for sock in (a, b):
                # AF_UNSPEC: RST now; close() would wait for the other thread
                LIBC.connect(sock.fileno(), bytes(16), 16)

    def seen(self):
        """Every byte that passed so far."""
        return bytes(self.recorded)

    def hold(self):
        """Of what agents say on new connections only the beginning passes, a ClientHello mostly, until flow()."""
        self.flowing.clear()

    def wait_held(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: self.held >= n, DEADLINE_S), f"{self.held} are held, not {n}"

    def flow(self):
        self.flowing.set()

    def cut_links(self):
        """Kills the control links that there are; data connections stay."""
        with self.changed:
            pairs, self.links = self.links, []
        for pair in pairs:
            for sock in pair:
                _end(sock)

    def refuse(self):
        """New connections are refused, and data connections end; control links stay."""
        _end(self.listener)
        self.listener.close()
        with self.changed:
            pairs, self.data = self.data, []
        for pair in pairs:
            for sock in pair:
                _end(sock)

    def accept_again(self):
        self.listener = socket.create_server(self.address)
        threading.Thread(target=self._accept_all, args=(self.listener,), daemon=True).start()

    def wait_data(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.data) >= n,
                                         DEADLINE_S), f"{len(self.data)} data connections, not {n}"

    def wait_links(self, n):
        """Waits for that many control links, of those that were not cut."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.links) >= n,
                                         DEADLINE_S), f"{len(self.links)} control links, not {n}"

    def close(self):
        self.open = False
        _end(self.listener)
        self.listener.close()
        for pair in self.links + self.data:
            for sock in pair:
                _end(sock)
                sock.close()


def _end(sock):
    """Wakes the thread that waits in it."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
