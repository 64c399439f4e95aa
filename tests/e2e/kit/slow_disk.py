"""A disk that a test holds: slow_disk.c."""
import contextlib
import os
import socket
import threading

from .process import BUILD, DEADLINE_S


class SlowDisk:
    """The disk of programs that are started with its prefix. From `hold` to `free` each write waits for the test."""

    def __init__(self, box):
        self.path, self.closers, self.door = box.file(box.unique("disk")), box.closers, None
        self.prefix = ["env", "LD_PRELOAD=" + os.path.join(BUILD, "tests", "e2e", "libslow-disk.so"),
                       f"SLOW_DISK={self.path}"]

    def hold(self):
        self.door = socket.socket(socket.AF_UNIX)
        self.door.bind(self.path)
        self.door.listen(1000)
        self.closers.append(self.free)

    def free(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        with contextlib.suppress(OSError):
            self.door.shutdown(socket.SHUT_RDWR)         # which ends accept, too
        self.door.close()

    def next_write(self):
        """Returns once a program writes: a connection, with whose end it goes on."""
        self.door.settimeout(DEADLINE_S)
        return self.door.accept()[0]

    def let_through(self, writes):
        """The next so many, whenever they come."""
        def let():
            with contextlib.suppress(OSError):           # the disk is free
                for _ in range(writes):
                    self.door.accept()[0].close()
        threading.Thread(target=let, daemon=True).start()
