"""A flood of handshakes from one source (bench/load_flood.c)."""
import contextlib
import os

from .process import BUILD, wait_until


class Begun:
    def __init__(self, relay):
        self.relay = relay

    def wait(self):
        wait_until(lambda: self.relay.metric("handshakes_started_total") > 500, "the flood does not begin")


@contextlib.contextmanager
def flood(box, relay, host):
    program = box.start([os.path.join(BUILD, "bench", "load"), "flood", "--port", relay.port, "--sni", host,
                         "--streams", "256"])
    yield Begun(relay)
    program.stop()
