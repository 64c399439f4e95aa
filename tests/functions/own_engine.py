"""An engine that a test may stop, break and fill: of its own, without network, with the images of the tests' one."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.parse

from conftest import BASE, ROOT, START_S, Engine
from kit.process import die_with_parent, wait_until


class OwnEngine(Engine):
    def __init__(self, *options):
        self.scratch = tempfile.mkdtemp(prefix="adit-engine-")
        super().__init__(f"{self.scratch}/docker.sock")
        with open(f"{self.scratch}/config.json", "w") as config:
            config.write("{}")
        self.data, self.options, self.daemon = f"{self.scratch}/data", options, None
        os.mkdir(self.data)

    def start(self):
        unpacked = os.path.join(ROOT, ".cache", "root", "usr")
        path = os.pathsep.join([f"{unpacked}/bin", f"{unpacked}/sbin", "/usr/sbin:/usr/bin:/sbin:/bin"])
        with open(f"{self.scratch}/log", "ab") as log:
            self.daemon = subprocess.Popen(
                # With a network of its own, as it would take away the other's bridge, and with mounts that end with it.
                ["unshare", "--net", "--mount", "dockerd", "--data-root", self.data,
                 "--exec-root", f"{self.scratch}/exec", "-H", self.host, "--bridge", "none",
                 "--iptables=false", "--pidfile", f"{self.scratch}/pid", "--config-file", f"{self.scratch}/config.json",
                 *self.options],
                env={**os.environ, "PATH": path}, stdout=log, stderr=log, preexec_fn=die_with_parent)
        wait_until(self.is_up, "the engine does not start", START_S)

    def kill(self):
        """At once, and with all that runs on it, as when a machine's power fails; its pid is in its file as before."""
        for identity in self.running():
            with contextlib.suppress(AssertionError):
                pid = self.json(f"/containers/{identity}/json")["State"]["Pid"]
                if pid:
                    os.kill(pid, signal.SIGKILL)
        self.daemon.kill()
        self.daemon.wait(START_S)

    def stop(self):
        self.daemon.terminate()
        self.daemon.wait(START_S)

    def running(self):
        return [c["Id"] for c in self.json("/containers/json")]

    def take_images(self, other, image):
        """An image of another engine with all that it was made from, each under its names."""
        names = [BASE]
        while image:
            found = other.json(f"/images/{image}/json")
            names += found["RepoTags"] or []
            image = found["Parent"]
        query = urllib.parse.urlencode([("names", name) for name in dict.fromkeys(names)])
        self.ask("POST", "/images/load?quiet=1", other.ask("GET", f"/images/get?{query}"))

    def close(self):
        if self.daemon is not None and self.daemon.poll() is None:
            self.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)


def image_of(engine, calls):
    """Of the functions whose app names none."""
    calls.double.remote(1)
    label = json.dumps({"label": ["adit.function=double"]})
    return engine.json(f"/containers/json?{urllib.parse.urlencode({'filters': label})}")[0]["ImageID"]
