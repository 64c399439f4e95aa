"""Bodies of any size, made and hashed as they stream; each block differs, so a block lost, doubled or moved shows."""
import hashlib
import random

BLOCK = 1 << 20
_BASE = random.Random(20).randbytes(BLOCK)


def blocks(total):
    for i in range(0, total, BLOCK):
        yield (i.to_bytes(8, "big") + _BASE[8:])[:min(BLOCK, total - i)]


def body(total):
    return b"".join(blocks(total))


def digest(total):
    h = hashlib.sha256()
    for block in blocks(total):
        h.update(block)
    return h.hexdigest()


def digest_stream(read):
    """Length and hash of what read(n) gives until it gives nothing."""
    h, total = hashlib.sha256(), 0
    while piece := read(BLOCK):
        h.update(piece)
        total += len(piece)
    return total, h.hexdigest()
