"""An agent that keeps to no rule but the one that it is told: hostile_agent.c, whose commands are the methods'
arguments."""
import os
import subprocess

from .frames import PING, PONG
from .process import BUILD


class HostileAgent:
    def __init__(self, box, token):
        self.token = token
        file = box.file(box.unique("hostile"), token + "\n")
        self.program = box.start([os.path.join(BUILD, "tests", "e2e", "hostile-agent"), file], stdin=subprocess.PIPE)
        self.read = 0

    def tell(self, *words):
        """Without waiting for the answer."""
        self.program.popen.stdin.write(" ".join(w.hex() if isinstance(w, bytes) else str(w)
                                                for w in words).encode() + b"\n")
        self.program.popen.stdin.flush()

    def do(self, *words):
        """Waits until it has been done; what came before that is passed over by no got()."""
        done = self.program.out.lines.count(words[0])
        self.tell(*words)
        self.program.out.wait_count(words[0], done + 1)

    def log_in(self):
        self.do("link")
        self.do("hello")

    def is_heard(self):
        """Returns once the relay has heard all that was said."""
        cookie = os.urandom(8)
        self.tell("frame", PING, cookie)
        while self.got(PONG) != cookie:
            pass

    def got(self, kind):
        """The body of the next frame of that type."""
        return bytes.fromhex(self.sees(f"got {kind} ")[len(f"got {kind} "):])

    def sees(self, start):
        """The next line that begins so; those before it are passed over."""
        line = self.program.out.wait(lambda line: line.startswith(start), first=self.read)
        self.read = self.program.out.lines.index(line, self.read) + 1
        return line
