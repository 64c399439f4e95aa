"""An example program, run by the command that its docstring tells, and ended as its reader ends it: by Ctrl-C.

What it starts may leave its process group (kernels and terminals do), so each process carries a mark in its
environment, by which the last of them is found: a test fails if Ctrl-C leaves anything running."""
import os
import re
import select
import signal
import subprocess


from kit.process import DEADLINE_S, Program

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
CACHE = os.environ.get("ADIT_APPS_CACHE", os.path.join(ROOT, ".cache", "apps"))
VENV_BIN = os.path.join(CACHE, "venv", "bin")
START_S = 120                   # for an application's own start, from a cold disk, on two busy cores
MARK = "ADIT_APPS_TEST"


def node_bin(name):
    """The folder of the programs that tests/apps/node/NAME installs."""
    return os.path.join(CACHE, "node", name, "node_modules", ".bin")


class Example:
    """`python examples/NAME` with a token, or without one for the embedded relay; its output is `out` and `err`, as
    Lines. It runs in `folder`, which is empty but for the way to the examples, so what an application leaves behind is
    found there and not in the repository."""

    def __init__(self, box, name, *args, token=None, env=None, path=(), program="python", stdin=subprocess.DEVNULL):
        """path: folders that come first on its PATH, for applications that are not Python's. program: the python to run
        it by."""
        self.mark = f"{os.getpid()}-{box.unique('example')}"
        # the last is there where the machine's own node does not do
        bins = [*path, VENV_BIN, os.path.join(CACHE, "node-bin")]
        self.folder = box.file(box.unique("work"))
        os.mkdir(self.folder)
        os.symlink(os.path.join(ROOT, "examples"), os.path.join(self.folder, "examples"))
        given = {"ADIT_TOKEN": token} if token else {}
        self.program = Program([program, os.path.join("examples", name), *args], cwd=self.folder, stdin=stdin,
                               new_session=True, env={
            **box.env, "PATH": os.pathsep.join([*bins, box.env["PATH"]]), "SHELL": "/bin/bash", MARK: self.mark,
            **given, **(env or {})})
        self.out, self.err = self.program.out, self.program.err
        box.programs.append(self.program)

    def printed(self, pattern, seconds=START_S):
        """Waits for a line of output that the pattern is found in: its match."""
        return re.search(pattern, self.out.wait(lambda line: re.search(pattern, line), seconds))

    def url(self, pattern=r"https://\S+"):
        """The first URL that it prints."""
        return self.printed(pattern).group(0)

    def interrupt(self):
        """Ctrl-C at its terminal: the signal goes to the whole foreground group."""
        os.killpg(self.program.pid, signal.SIGINT)

    def end(self):
        """Ends it by Ctrl-C, and with it all that it started. Raises if it or anything of it has to be killed."""
        late = []
        if self.program.running:
            self.interrupt()
            try:
                self.program.popen.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                late.append(f"{self.program.argv} does not end at Ctrl-C")
        for pid in marked(self.mark):
            name = command(pid)
            if not gone(pid, DEADLINE_S):
                late.append(f"still running after Ctrl-C: {name}")
                kill(pid)
        while left := marked(self.mark):     # what was started meanwhile
            for pid in left:
                kill(pid)
                gone(pid, DEADLINE_S)
        assert not late, late


def marked(mark):
    """The processes that have the mark in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if f"{MARK}={mark}".encode() in f.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def command(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as f:
            return f"{pid} {f.read().replace(chr(0), ' ')}"
    except OSError:
        return str(pid)


def gone(pid, seconds):
    """Waits for the end of a process that is not our child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
