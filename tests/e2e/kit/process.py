"""Programs that a test starts. Their output is read as it comes, so that a test waits for lines and never for time."""
import contextlib
import ctypes
import json
import os
import re
import select
import signal
import subprocess
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
ADIT = os.path.abspath(os.environ.get("ADIT", "build/adit"))
BUILD = os.path.abspath(os.environ.get("ADIT_BUILD") or os.path.dirname(ADIT))


def _has(path, symbol):
    try:
        with open(path, "rb") as f:
            return symbol in f.read()
    except OSError:
        return False


TSAN = _has(ADIT, b"__tsan_init")
SANITIZED = TSAN or _has(ADIT, b"__asan_init")
# for whatever takes milliseconds when all is well
DEADLINE_S = int(os.environ.get("ADIT_E2E_DEADLINE", 60 if SANITIZED else 20))
SCALE = float(os.environ.get("ADIT_E2E_SCALE", "1.0"))


def scaled(amount, least=1):
    return max(least, int(amount * SCALE))


def die_with_parent():
    """Between fork and exec. What runs the tests may ignore signals (a shell's background job SIGINT, nohup SIGHUP),
    which its children would inherit."""
    LIBC.prctl(1, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Lines:
    """The lines of a stream, kept from the first to the last."""

    def __init__(self, stream):
        self.lines, self.ended, self.changed = [], False, threading.Condition()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait(self, wanted, seconds=DEADLINE_S, first=0):
        """The first line, of those read (the first so many left out) and those to come, for which wanted(line)
        holds."""
        end, seen = time.monotonic() + seconds, first
        with self.changed:
            while True:
                while seen < len(self.lines):
                    seen += 1
                    if wanted(self.lines[seen - 1]):
                        return self.lines[seen - 1]
                left = end - time.monotonic()
                if self.ended or left <= 0:
                    raise AssertionError(
                        f"{'output ended' if self.ended else 'deadline'} before the line came:\n" + self.text()
                    )
                self.changed.wait(left)

    def wait_count(self, line, n, seconds=DEADLINE_S):
        """Waits until the line has come n times."""
        self.wait_until(lambda lines: lines.count(line) >= n, f"{line!r} did not come {n} times", seconds)

    def wait_until(self, condition, what, seconds=DEADLINE_S):
        """Waits until condition(all lines so far) holds."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.lines), seconds), f"{what}:\n{self.text()}"

    def wait_either(self, part, seconds=DEADLINE_S):
        """Waits until a line with that part has come, or the output has ended without; which of the two."""
        def come():
            return any(part in line for line in self.lines)
        with self.changed:
            assert self.changed.wait_for(lambda: self.ended or come(),
                                         seconds), f"neither {part!r} nor an end:\n{self.text()}"
            return come()

    def wait_end(self, seconds=DEADLINE_S):
        with self.changed:
            assert self.changed.wait_for(lambda: self.ended, seconds), "the output does not end"

    def text(self):
        return "\n".join(self.lines)


def symbolized(text):
    """A sanitizer's report with names and lines, which a relay could not look up itself: it may start no program."""
    places = sorted(set(re.findall(r"\(adit[^()]*\+(0x[0-9a-f]+)\)", text)))
    if not places:
        return text
    found = subprocess.run(["addr2line", "-fpe", ADIT, *places], stdout=subprocess.PIPE, text=True).stdout.splitlines()
    names = dict(zip(places, found))
    return re.sub(r"\(adit[^()]*\+(0x[0-9a-f]+)\)", lambda m: f"{names.get(m[1], '')} {m[0]}", text)


class Program:
    def __init__(self, argv, env=None, stdin=subprocess.DEVNULL, cwd=None, pass_fds=(), new_session=False):
        self.argv = [str(a) for a in argv]
        self.popen = subprocess.Popen(self.argv, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      cwd=cwd,
                                      pass_fds=pass_fds, preexec_fn=die_with_parent, start_new_session=new_session)
        self.out, self.err = Lines(self.popen.stdout), Lines(self.popen.stderr)

    @property
    def pid(self):
        return self.popen.pid

    @property
    def running(self):
        return self.popen.poll() is None

    def kill(self, number=signal.SIGKILL):
        self.popen.send_signal(number)

    def freeze(self):
        """Stops it, and returns once it has stopped. kill(SIGCONT) thaws it."""
        self.kill(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def wait(self, seconds=DEADLINE_S):
        """Its exit status, once all its output has been read."""
        status = self.popen.wait(seconds)
        self.out.wait_end()
        self.err.wait_end()
        return status

    def stop(self, seconds=DEADLINE_S):
        if self.running:
            self.kill(signal.SIGTERM)
        return self.wait(seconds)

    def report(self):
        return (f"--- {' '.join(self.argv)}\n--- stdout\n{self.out.text()}\n--- stderr\n"
                f"{symbolized(self.err.text())}\n")


class Heir:
    """A program that another has put in its place. Its words come where those of its predecessor came."""

    def __init__(self, pid, predecessor):
        self.pid, self.out, self.err = pid, predecessor.out, predecessor.err
        self.handle = os.pidfd_open(pid)

    @property
    def running(self):
        return not wait_readable([self.handle], 0)

    def kill(self, number=signal.SIGKILL):
        signal.pidfd_send_signal(self.handle, number)

    def wait(self, seconds=DEADLINE_S):
        """Until it has ended; how is its parent's to know."""
        assert wait_readable([self.handle], seconds), "it does not end"

    def close(self):
        if self.running:
            self.kill()
            self.wait()
        os.close(self.handle)


class Events:
    """The JSON lines of a program's stdout, each handed out once."""

    def __init__(self, lines):
        self.lines, self.taken = lines, set()

    def wait(self, kind, seconds=DEADLINE_S, **fields):
        end = time.monotonic() + seconds
        with self.lines.changed:
            while True:
                for i, line in enumerate(self.lines.lines):
                    event = json.loads(line)
                    if i not in self.taken and event["event"] == kind and all(event.get(k) == v
                                                                              for k, v in fields.items()):
                        self.taken.add(i)
                        return event
                left = end - time.monotonic()
                if self.lines.ended or left <= 0:
                    raise AssertionError(f"no event {kind!r} {fields} came; seen:\n{self.lines.text()}")
                self.lines.changed.wait(left)

    def seen(self, kind):
        with self.lines.changed:
            return [e for e in map(json.loads, self.lines.lines) if e["event"] == kind]


def wait_readable(files, seconds):
    """Those of the files and descriptors, of whatever number, that can be read, or have ended."""
    poll, by_number = select.poll(), {f if isinstance(f, int) else f.fileno(): f for f in files}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(seconds * 1000)]


def resident_bytes(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))


def each_in(folder, look):
    """What look(path) says of each entry of a folder of /proc, without those that have gone since it was listed."""
    found = []
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(look(f"{folder}/{name}"))
    return found


def threads(pid):
    """The fields of /proc/PID/status of each of its threads."""
    def fields(thread):
        with open(f"{thread}/status") as f:
            return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    return each_in(f"/proc/{pid}/task", fields)


def children(pid):
    """Those of its first thread and those of all others."""
    def of_thread(thread):
        with open(f"{thread}/children") as f:
            return f.read().split()
    return [child for found in each_in(f"/proc/{pid}/task", of_thread) for child in found]


def name_of(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().rstrip("\n")
    except FileNotFoundError:
        return None


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def links_of(pid, kind):
    """What its descriptors of that kind ("socket", "pipe") are links to."""
    return {link for link in each_in(f"/proc/{pid}/fd", os.readlink) if link.startswith(f"{kind}:")}


def wait_until(condition, what, seconds=DEADLINE_S):
    """By looking again and again, at what no event tells of."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def wait_descriptors(pid, most, seconds=DEADLINE_S):
    """Nothing tells when another process closes one."""
    wait_until(lambda: descriptors(pid) <= most, "descriptors stay behind", seconds)


def freeze(pid):
    """As a Process' freeze, for one that is no child of ours: each of its threads stops when it gets to it."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(fields["State"].startswith("T") for fields in threads(pid)), "it does not stop")
