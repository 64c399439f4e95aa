"""The frames of a control link (docs/protocol.md 4)."""
HELLO, WELCOME, BIND, BOUND, UNBIND, UNBOUND, WANT, PING, PONG, GOODBYE, TICKET = range(1, 12)
MALFORMED, TOKEN_REVOKED, TOKEN_PROOF, TUNNEL_LIMIT, BAD_TICKET, INTERNAL = 2, 5, 6, 7, 11, 17  # reasons (4.1)
H2 = 4                                                                                          # a flag of BIND


def u(value, n):
    return value.to_bytes(n, "big")


def text8(text):
    return bytes([len(text)]) + text.encode()


def frame(kind, body):
    return bytes([kind]) + u(len(body), 3) + body


def bind(tunnel, flags=0, alpn=("http/1.1",)):
    """The body of a BIND that asks for a new address."""
    protocols = b"".join(text8(p) for p in alpn)
    return u(tunnel, 4) + u(flags, 4) + bytes([len(protocols)]) + protocols + u(0, 1) + u(0, 2) + u(0, 4)
