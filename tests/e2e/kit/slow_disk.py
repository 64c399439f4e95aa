"""A disk that a test holds: slow_disk.c."""
import os

from .process import BUILD


class SlowDisk:
    """A relay whose state takes as many writes as the test lets it, from `hold` on."""

    def __init__(self, box, start_relay, *options):
        self.box, self.gate = box, box.file("gate")
        self.relay = start_relay(options=options,
                                 prefix=["env", "LD_PRELOAD=" + os.path.join(BUILD, "tests", "e2e", "libslow-disk.so"),
                                                          f"SLOW_DISK={self.gate}"])

    def hold(self):
        os.mkfifo(self.gate)
        self.writes = os.open(self.gate, os.O_RDWR)
        self.box.closers.append(lambda: os.close(self.writes))

    def let_through(self, writes):
        os.write(self.writes, b"x" * writes)
