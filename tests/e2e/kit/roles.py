"""The relay and the agent as a test sees them."""
import itertools
import os
import re
import socket
import subprocess
import tempfile
import urllib.request

from . import embedded
from .process import ADIT, DEADLINE_S, TSAN, Events, Heir, Program, wait_readable


class Box:
    """A test's own folder, environment and programs; all of it ends with the test."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="adit-e2e-")   # short: sockets live in it
        self.path = self.folder.name
        self.programs, self.closers, self.numbers = [], [], itertools.count(1)
        self.home = self.file("home")
        os.mkdir(self.home)
        keep = {k: v for k, v in os.environ.items()
                if k.startswith(("ASAN_", "UBSAN_", "TSAN_", "LSAN_", "LD_LIBRARY"))}
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.home, "LANG": "C.UTF-8",
                    "ADIT_SYSCALLS": "strict", **keep}
        if TSAN:                # and what starts no program symbolizes nothing: process.symbolized does
            self.env["TSAN_OPTIONS"] = self.env.get("TSAN_OPTIONS", "") + ":symbolize=0"

    def file(self, name, content=None, mode=0o600):
        path = os.path.join(self.path, name)
        if content is not None:
            with open(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode), "wb") as f:
                f.write(content if isinstance(content, bytes) else content.encode())
        return path

    def unique(self, stem):
        return f"{stem}{next(self.numbers)}"

    def start(self, argv, env=None, **options):
        program = Program(argv, env={**self.env, **(env or {})}, **options)
        self.programs.append(program)
        return program

    def run(self, *argv, env=None, input=None, seconds=DEADLINE_S):
        """Runs a short-lived program to its end; text in, text out."""
        return subprocess.run([str(a) for a in argv], env={**self.env, **(env or {})}, input=input, text=True,
                              timeout=seconds,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=None if input else subprocess.DEVNULL)

    def adit(self, *args, **options):
        return self.run(ADIT, *args, **options)

    def close(self):
        for closer in reversed(self.closers):
            closer()
        troubles = []
        for program in self.programs:
            if program.running:
                program.kill()
            program.wait()
            print(program.report())
            troubles += re.findall(
                r"(?:ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed|"
                r"adit: system call \d+).*",
                program.err.text(),
            )
        embedded.end(self.home)
        self.folder.cleanup()
        assert not troubles, troubles


class Relay:
    """pump "tls": its agents send their data inside TLS, where it is never spliced; "unix": they dial it at a Unix
    socket."""

    def __init__(self, box, pump="splice", domain="r1.test", listen="127.0.0.1:0", options=(), state=None, prefix=(),
                 program=ADIT):
        self.box, self.pump, self.domain, self.listen, self.options = box, pump, domain, listen, list(options)
        self.program, self.prefix, self.tokens = program, list(prefix), {}
        self.state = state or box.file(box.unique("state"))
        self.unix = f"unix:{self.state}.sock"           # so that a successor takes it over
        self.start()

    def start(self):
        path = self.box.file(self.box.unique("notify"))
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.box.closers.append(self.notify.close)
        self.notify.bind(path)
        argv = [*self.prefix, self.program, "relay", "--domain", self.domain, "--listen", self.listen, "--state",
                self.state,
                "--pump", self.pump if self.pump == "copy" else "splice", *self.options]
        if self.pump == "unix":
            argv += ["--listen", self.unix]
        for flag, value in (("--tcp-listen", "127.0.0.1"), ("--admin", "127.0.0.1:0")):
            if flag not in argv:
                argv += [flag, value]
        self.process = self.box.start(argv, env={"NOTIFY_SOCKET": path})
        self.notes = self._ready(self.process.pid)
        self.host, self.port = self.listen.rsplit(":", 1)[0].strip("[]"), int(self.notes["X_ADIT_PORT"])
        self.admin, self.redirect = int(self.notes["X_ADIT_ADMIN"]), int(self.notes["X_ADIT_REDIRECT"])

    def _ready(self, pid):
        exited, notes = os.pidfd_open(pid), {}
        try:
            while notes.get("READY") != "1":
                ready = wait_readable([self.notify, exited], DEADLINE_S)
                assert ready, "the relay does not become ready"
                if self.notify not in ready:
                    raise AssertionError(f"the relay ended with {self.process.wait()}:\n{self.process.err.text()}")
                text = self.notify.recv(65536).decode()
                notes.update(line.split("=", 1) for line in text.splitlines() if "=" in line)
        finally:
            os.close(exited)
        return notes

    def upgrade(self, ask=None, program=None):
        """In place; its predecessor's process. ask(): instead of `adit relay upgrade`. program: to that one."""
        if ask is None:
            done = self.box.adit("relay", "upgrade", "--state", self.state, *(["--exec", program] if program else []))
            assert done.returncode == 0, done.stderr
        else:
            ask()
        notes = {}
        while notes.get("READY") != "1" or "MAINPID" not in notes:
            assert wait_readable([self.notify], DEADLINE_S), f"no new relay gets ready: {self.process.err.text()}"
            notes.update(line.split("=", 1) for line in self.notify.recv(65536).decode().splitlines() if "=" in line)
        before, self.process = self.process, Heir(int(notes["MAINPID"]), self.process)
        self.box.closers.append(self.process.close)
        return before

    def restart(self):
        """Starts again where it was: same state, same port."""
        self.listen = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        self.start()

    @property
    def address(self):
        return self.host, self.port

    @property
    def dial(self):
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authority(self):
        return os.path.join(self.state, "authority.pem")

    def create_token(self, name, *options, dial=None):
        done = self.box.adit("token", "create", name, "--state", self.state, "--relay", dial or self.dial, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1 and " " not in done.stdout, "the token is one word, alone on stdout"
        return done.stdout.strip()

    def token(self, dial=None):
        """The token that this test's agents share."""
        if dial not in self.tokens:
            self.tokens[dial] = self.create_token(self.box.unique("tester"), dial=dial)
        return self.tokens[dial]

    def revoke(self, name):
        done = self.box.adit("token", "revoke", name, "--state", self.state)
        assert done.returncode == 0, done.stderr

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=DEADLINE_S) as answer:
            return answer.read().decode()

    def metric(self, name):
        """The sum over a metric's labels."""
        rows = [line for line in self.get("/metrics").splitlines() if re.match(rf"(adit_)?{name}(\{{.*\}})? ", line)]
        assert rows, f"there is no metric {name}"
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


class Tunnel:
    """One tunnel as its `open` event tells it."""

    def __init__(self, relay, event):
        self.relay, self.event, self.url, self.port = relay, event, event["url"], event["port"]
        self.host, self.tls_port = event["tls_socket"]
        self.tcp_host, self.tcp_port = event["tcp_socket"] or (None, None)

    def same_address_as(self, other):
        return (self.url, self.tcp_host, self.tcp_port) == (other.url, other.tcp_host, other.tcp_port)


class Agent:
    """`adit forward --json`, its tunnels open."""

    def __init__(self, box, relay, apps, options=(), dial=None, token=None, prefix=(), program=ADIT, env=None,
                 wait=True):
        self.box, self.relay = box, relay
        file = box.file(box.unique("token"), (token or relay.token(dial)) + "\n")
        apps = [str(getattr(a, "port", a)) for a in apps]
        command = []
        options = [str(o) for o in options]
        if relay.pump == "tls" and "--data" not in options:
            options = ["--data", "tls", *options]
        if relay.pump == "unix" and dial is None and "--relay" not in options:
            options = ["--relay", relay.unix, *options]
        if "--" in options:
            at = options.index("--")
            options, command = options[:at], options[at:]
        self.process = box.start([*prefix, program, "forward", "--json", "--token-file", file, *options, *apps,
                                  *command], env=env)
        self.events = Events(self.process.out)
        if wait:
            self.tunnels = [Tunnel(relay, self.events.wait("open", **self._named(a))) for a in apps]

    @staticmethod
    def _named(app):
        return {"app": app} if app.startswith("unix:") else {"port": int(app.rsplit(":", 1)[-1])}

    def __getattr__(self, name):
        """An agent of one tunnel stands for it."""
        if name in ("url", "host", "tls_port", "tcp_host", "tcp_port", "same_address_as"):
            return getattr(self.tunnels[0], name)
        raise AttributeError(name)

    @property
    def tunnel(self):
        return self.tunnels[0]
