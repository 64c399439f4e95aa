"""The frames of a control link (docs/protocol.md 4)."""
HELLO, WELCOME, BIND, BOUND, UNBIND, UNBOUND, WANT, PING, PONG, GOODBYE, TICKET = range(1, 12)
REVOKE, REVOKED = 14, 15
# reasons (4.1)
(
    MALFORMED,
    TOKEN_REVOKED,
    TOKEN_PROOF,
    TUNNEL_LIMIT,
    BAD_TICKET,
    ALPN,
    STATE,
    INTERNAL,
    SHORTAGE,
    TOKEN_RAW,
    TOKEN_ALLOW,
    NOT_NARROWED,
    REVOCATIONS,
) = 2, 5, 6, 7, 11, 14, 16, 17, 19, 20, 21, 22, 23
TCP, H2 = 1, 4              # flags of BIND


def u(value, n):
    return value.to_bytes(n, "big")


def text8(text):
    return bytes([len(text)]) + text.encode()


def frame(kind, body):
    return bytes([kind]) + u(len(body), 3) + body


def bind(tunnel, flags=0, alpn=("http/1.1",), ticket=b"", allow=()):
    """The body of a BIND: without a ticket it asks for a new address. `allow` has IPv4 blocks, of
    ipaddress.IPv4Network."""
    protocols = b"".join(text8(p) for p in alpn)
    blocks = b"".join(bytes([4, block.prefixlen]) + block.network_address.packed for block in allow)
    return (
        u(tunnel, 4)
        + u(flags, 4)
        + bytes([len(protocols)])
        + protocols
        + u(len(allow), 1)
        + blocks
        + u(len(ticket), 2)
        + ticket
        + u(0, 4)
    )


def revoke(number, identity, expires=0):
    """The body of a REVOKE, of an id in hexadecimal."""
    return u(number, 4) + bytes.fromhex(identity) + u(expires, 8)


class Bound:
    """What the body of a BOUND says."""

    def __init__(self, body):
        self.id, rest = body[:4], body[4:]
        self.host, rest = rest[1:1 + rest[0]].decode(), rest[1 + rest[0]:]
        rest = rest[2:]                                 # the port of TLS
        rest = rest[1 + rest[0]:]                       # the host of the raw port
        self.tcp_port, self.ticket = int.from_bytes(rest[:2], "big"), rest[5:]
