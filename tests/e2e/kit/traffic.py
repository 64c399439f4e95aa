"""Traffic that goes on while something happens to its ends."""
import contextlib
import os
import ssl
import threading

from .app import read_exactly
from .process import wait_until

EVERY_S = 0.02


def talk(stream, words=b"hello"):
    stream.sendall(words)
    assert read_exactly(stream, len(words)) == words


def talk_between(one, other):
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(b"hello")
        assert read_exactly(receiver, 5) == b"hello"


class Comers:
    """Somebody comes fifty times a second, while this is entered, and is to be served each time."""

    def __init__(self, come):
        self.come, self.ended, self.served, self.failures = come, threading.Event(), 0, []

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        while not self.ended.wait(EVERY_S):
            threads = threading.Thread(target=self.one)
            threads.start()
            threads.join()

    def one(self):
        try:
            self.come()
            self.served += 1
        except Exception as e:          # whatever it is, this one was not served
            self.failures.append(e)

    def wait(self, n):
        """Until so many more were served."""
        until = self.served + n
        wait_until(lambda: self.served >= until or self.failures, "nobody is served")

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        assert not self.failures, self.failures[:5]


class Exchange:
    """Random bytes to an echo and back, without a pause, while this is entered."""

    def __init__(self, stream):
        self.stream, self.ended, self.turns, self.failure = stream, threading.Event(), 0, None

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        try:
            while not self.ended.is_set():
                talk(self.stream, os.urandom(1 << 15))
                self.turns += 1
        except Exception as e:
            self.failure = e

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        assert self.failure is None, self.failure
        assert self.turns > 0


@contextlib.contextmanager
def streams_of_every_kind(visitor, sealed, plain):
    """To echoes behind two tunnels, of which one passes raw bytes as they are. While this is entered half of them have
    no pause, and visitors come (its value); afterwards all are there still, and new ones come."""
    def come():
        return [visitor(sealed), visitor(sealed, version=ssl.TLSVersion.TLSv1_2), visitor.raw(sealed),
                visitor.raw(plain)]
    busy, idle = come(), come()
    for v in idle:
        talk(v)
    with contextlib.ExitStack() as all_of_them:
        for v in busy:
            all_of_them.enter_context(Exchange(v))
        visitors = all_of_them.enter_context(Comers(lambda: talk(visitor(sealed))))
        yield visitors
        visitors.wait(3)
    for v in busy + idle + come():
        talk(v, b"as before")
