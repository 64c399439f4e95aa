"""The relays that programs start on their own machine, each for all programs of one home folder."""
import contextlib
import os
import signal

from kit.process import wait_until


def folder(home):
    return os.path.join(home, ".local", "state", "adit", "embedded")


def processes(home):
    """All that are there, and those that just hand their program over to one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line, open(f"/proc/{pid}/environ", "rb") as environment:
                if line.read().split(b"\0")[1:3] != [b"relay", b"--embedded"]:
                    continue
                if f"HOME={home}".encode() in environment.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def process(home):
    """The one that is there."""
    wait_until(lambda: len(processes(home)) == 1, "there is not one embedded relay")
    return processes(home)[0]


def files(home, *ends):
    return [os.path.join(folder(home), name) for name in os.listdir(folder(home)) if name.endswith(ends)]


def kill_for_good(home):
    """So that the next one does not know where to listen, and the addresses are lost."""
    os.unlink(*files(home, ".port"))
    os.kill(process(home), signal.SIGKILL)


def end(home):
    """At once: they outlive their programs by seconds, and write into a folder that is about to go."""
    def ended():
        found = processes(home)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found
    if os.path.isdir(folder(home)):
        wait_until(ended, "an embedded relay stays")
