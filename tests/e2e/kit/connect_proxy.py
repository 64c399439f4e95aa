"""An HTTP proxy of a few lines, for answers that no real one gives at will."""
import base64
import socket
import threading

from .process import DEADLINE_S


class ConnectProxy:
    def __init__(self, box, answer=b"HTTP/1.1 200 Connection established\r\n\r\n", context=None):
        """answer: what is said to a CONNECT; what begins with 200 connects. context: of TLS, for https://."""
        self.answer, self.context, self.heads, self.changed = answer, context, [], threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.open, self.silent, self.ended = [], [], 0
        threading.Thread(target=self._accept_all, daemon=True).start()
        box.closers.append(self.close)

    def _accept_all(self):
        while True:
            try:
                inner = self.listener.accept()[0]
            except OSError:
                return
            self.open.append(inner)
            threading.Thread(target=self._serve, args=(inner,), daemon=True).start()

    def _serve(self, inner):
        try:
            if self.context:
                inner = self.context.wrap_socket(inner, server_side=True)
                self.open.append(inner)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += inner.recv(1)
                if head == b"\x16":                  # TLS, which we do not speak
                    inner.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    return inner.close()
            with self.changed:
                self.heads.append(head.decode())
                self.changed.notify_all()
            if self.answer is None:
                return self.silent.append(inner)
            inner.sendall(self.answer)
            if b" 200 " not in self.answer:
                return inner.close()
            host, port = head.split()[1].rsplit(b":", 1)
            outer = socket.create_connection((host.decode(), int(port)), DEADLINE_S)
            outer.settimeout(None)
            self.open.append(outer)
        except OSError:
            return inner.close()
        for a, b in ((inner, outer), (outer, inner)):
            threading.Thread(target=self._copy, args=(a, b), daemon=True).start()

    def _copy(self, a, b):
        """The end of one direction is taken for that of both, and a reset for an end, as by many proxies."""
        try:
            while data := a.recv(1 << 16):
                b.sendall(data)
        except (OSError, ValueError):
            pass
        for sock in (a, b):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self.changed:
            self.ended += 1
            self.changed.notify_all()

    def wait_ended(self, n):
        """Until both ends of so many connections were told of their end."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.ended >= n, DEADLINE_S), f"{self.ended} have ended, not {n}"

    def wait_heads(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.heads) >= n,
                                         DEADLINE_S), f"{len(self.heads)} requests, not {n}"
        return self.heads

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for sock in self.open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
