"""The TLS 1.3 record layer of a visitor by hand (RFC 8446 section 5), for records that no TLS library would send."""
import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

ALERT, HANDSHAKE, DATA = 21, 22, 23
SUITES = {"TLS_AES_128_GCM_SHA256": (AESGCM, 16, hashes.SHA256), "TLS_AES_256_GCM_SHA384": (AESGCM, 32, hashes.SHA384),
          "TLS_CHACHA20_POLY1305_SHA256": (ChaCha20Poly1305, 32, hashes.SHA256)}
KEY_UPDATE, KEY_UPDATE_REQUESTED = b"\x18\x00\x00\x01\x00", b"\x18\x00\x00\x01\x01"


def traffic_secrets(keylog):
    """The application traffic secrets of a key log file: pairs (client, server)."""
    found = {}
    with open(keylog) as f:
        for line in f:
            if line.startswith("#"):
                continue
            label, random, secret = line.split()
            if label in ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"):
                found.setdefault(random, {})[label[0]] = bytes.fromhex(secret)
    return [(s["C"], s["S"]) for s in found.values()]


class Direction:
    def __init__(self, suite, secret):
        (self.aead, self.key_bytes, self.hash), self.secret = SUITES[suite], secret
        self._keys()

    def _expand(self, label, n):
        info = n.to_bytes(2, "big") + bytes([6 + len(label)]) + b"tls13 " + label + b"\x00"
        return HKDFExpand(algorithm=self.hash(), length=n, info=info).derive(self.secret)

    def _keys(self):
        self.cipher, self.iv, self.sequence = self.aead(self._expand(b"key", self.key_bytes)), self._expand(b"iv",
                                                                                                            12), 0

    def update(self):
        self.secret = self._expand(b"traffic upd", self.hash.digest_size)
        self._keys()

    def _nonce(self):
        n = int.from_bytes(self.iv, "big") ^ self.sequence
        self.sequence += 1
        return n.to_bytes(12, "big")

    def seal(self, inner_type, content, padding=0, outer=DATA):
        plain = content + bytes([inner_type]) + bytes(padding)
        return self.seal_inner(plain, outer)

    def seal_inner(self, plain, outer=DATA):
        head = bytes([outer, 3, 3]) + (len(plain) + 16).to_bytes(2, "big")
        return head + self.cipher.encrypt(self._nonce(), plain, head)

    def open(self, content):
        head = bytes([DATA, 3, 3]) + len(content).to_bytes(2, "big")
        plain = self.cipher.decrypt(self._nonce(), content, head).rstrip(b"\x00")
        return plain[-1], plain[:-1]


class RecordVisitor:
    """Takes an established TLS 1.3 visitor over, as the relay hands it to the agent."""

    def __init__(self, visitor, keylog):
        suite = visitor.tls.cipher()[0]
        client, server = traffic_secrets(keylog)[-1]
        self.sock, self.visitor, self.stream = visitor.sock, visitor, visitor.sock.makefile("rb", buffering=1 << 18)
        self.writing, self.reading = Direction(suite, client), Direction(suite, server)

    def send(self, inner_type, content, **options):
        self.sock.sendall(self.writing.seal(inner_type, content, **options))

    def send_raw(self, data):
        self.sock.sendall(data)

    def send_key_update(self, requested):
        self.send(HANDSHAKE, KEY_UPDATE_REQUESTED if requested else KEY_UPDATE)
        self.writing.update()

    def receive(self):
        """The next record: (type, content). A KeyUpdate is followed."""
        head = self.stream.read(5)
        if len(head) < 5:
            raise EOFError("the stream ended between records")
        outer, content = head[0], self.stream.read(int.from_bytes(head[3:], "big"))
        assert outer == DATA, f"outer type {outer}"
        kind, plain = self.reading.open(content)
        if kind == HANDSHAKE:
            assert plain in (KEY_UPDATE, KEY_UPDATE_REQUESTED), plain
            self.reading.update()
        return kind, plain

    def read_data(self, n):
        """n bytes of data, and the number of KeyUpdates that came among them."""
        data, updates = bytearray(), 0
        while len(data) < n:
            kind, plain = self.receive()
            assert kind in (DATA, HANDSHAKE), (kind, plain)
            updates += kind == HANDSHAKE
            data += plain if kind == DATA else b""
        return bytes(data), updates



TLS12_KEYS = {"ECDHE-ECDSA-AES128-GCM-SHA256": (16, "sha256"), "ECDHE-ECDSA-AES256-GCM-SHA384": (32, "sha384")}


def tls12_secrets(keylog, visitor):
    """Of a TLS 1.2 visitor with AES-GCM: the master secret, and both keys (RFC 5246 6.3)."""
    random, answer = visitor.said[11:43], visitor.heard[11:43]
    with open(keylog) as lines:
        master = next(bytes.fromhex(line.split()[2]) for line in lines
                      if line.startswith(f"CLIENT_RANDOM {random.hex()} "))
    n, digest = TLS12_KEYS[visitor.tls.cipher()[0]]
    seed = a = b"key expansion" + answer + random
    block = b""
    while len(block) < 2 * n:
        a = hmac.digest(master, a, digest)
        block += hmac.digest(master, a + seed, digest)
    return [master, block[:n], block[n:2 * n]]
