"""Programs of which one allocation fails: the test says which."""
import mmap
import os
import struct

from .process import BUILD

PROGRAM = os.path.join(BUILD, "tests", "e2e", "failing-adit")
NUMBER = struct.Struct("=q")


class FailingMemory:
    """For a program of that prefix, and all that it forks or hands over to."""

    def __init__(self, box):
        path = box.file(box.unique("memory"))
        with open(path, "w+b") as file:
            file.write(NUMBER.pack(-1))
            file.flush()
            self.number = mmap.mmap(file.fileno(), NUMBER.size)
        self.prefix = ["env", f"FAILING_MEMORY={path}"]

    def fail(self, n):
        """The allocation behind the next n is to fail."""
        self.number[:] = NUMBER.pack(n)

    def heal(self):
        """Whether one has failed; from now on none does."""
        left, = NUMBER.unpack(self.number[:])
        self.number[:] = NUMBER.pack(-1)
        return left < 0
