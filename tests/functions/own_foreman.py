"""A foreman as a service, of a test's own, and who uses it."""
import json
import os
import signal
import sys

from kit.process import wait_until

BUILD_S = 100


class Service:
    """A foreman, at a place of its own, and the commands that find it."""

    def __init__(self, adit, box, relay, engine):
        self._adit, self.box, self.relay, self.engine = adit, box, relay, engine
        self.env = {"XDG_RUNTIME_DIR": box.file("run"), "XDG_STATE_HOME": box.file("state"),
                    "ADIT_TOKEN": relay.token()}
        self.socket = os.path.join(self.env["XDG_RUNTIME_DIR"], "adit/foreman/caller.sock")
        self.start()

    def start(self, *words):
        self.program = self._adit("foreman", *words, env=self.env)
        self.program.err.wait(lambda line: "listens at" in line, 60)

    def end(self, number=signal.SIGKILL):
        self.program.kill(number)
        self.program.wait(60)

    def adit(self, *words):
        return self._adit(*words, env=self.env)

    def done(self, *words, status=0):
        program = self.adit(*words)
        assert program.wait(BUILD_S) == status, program.report()
        return program

    def apps(self):
        apps = json.loads(self.done("app", "list", "--json").out.text())
        return {app["name"]: app for app in apps if app["state"] != "ended"}

    def deploy(self, file, *words):
        """The URLs."""
        done = self.done("deploy", file, *words)
        return {line.split()[0]: line.split()[-1] for line in done.out.lines}

    def containers(self):
        """Those of this foreman alone."""
        return [c for c in self.engine.containers() if self.socket in c["Labels"].get("adit.owner", "")]

    def container(self, function):
        """The id of the only one of a function, by its name, as it may have been a spare."""
        def found():
            return [c["Id"] for c in self.containers() if c["Names"][0].startswith(f"/adit-{function}-")]
        wait_until(lambda: len(found()) == 1, f"{function} has not one container", 20)
        return found()[0]

    def nothing_stays(self, seconds=20):
        wait_until(lambda: not self.containers(), "containers stay", seconds)

    def python(self, text):
        """What a program of somebody's prints."""
        return self.box.start([sys.executable, "-c", text], env={**self.env, "HOME": self.box.home})
