"""podman's service, which speaks Docker's API: an engine of the tests' own, as far as it differs from Docker's."""
import os
import shutil
import subprocess
import tempfile

from conftest import ROOT, START_S, Engine
from kit.process import die_with_parent, wait_until

UNPACKED = os.path.join(ROOT, ".cache", "root", "usr")
# runc, since crun refuses machines that have cgroups of both versions. The limits are below what any machine allows,
# since podman asks for as many as there can be, which it takes a privilege to get.
SETTINGS = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
init_path = "{usr}/bin/tini-static"
conmon_path = ["{usr}/bin/conmon", "/usr/bin/conmon"]
[engine.runtimes]
runc = ["{usr}/sbin/runc", "/usr/sbin/runc"]
[network]
network_backend = "netavark"
network_config_dir = "{scratch}/networks"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{scratch}/data"
runroot = "{scratch}/run"
"""


class Podman(Engine):
    def __init__(self):
        self.scratch = tempfile.mkdtemp(prefix="adit-podman-")
        super().__init__(f"{self.scratch}/podman.sock")
        files = {"CONTAINERS_CONF": SETTINGS, "CONTAINERS_STORAGE_CONF": STORAGE}
        env = {name: f"{self.scratch}/{name}" for name in files}
        for name, text in files.items():
            with open(env[name], "w") as file:
                file.write(text.format(usr=UNPACKED, scratch=self.scratch))
        path = os.pathsep.join([f"{UNPACKED}/bin", f"{UNPACKED}/sbin", "/usr/sbin:/usr/bin:/sbin:/bin"])
        with open(f"{self.scratch}/log", "wb") as log:
            self.daemon = subprocess.Popen(["podman", "--tmpdir", f"{self.scratch}/tmp", "system", "service",
                                            "--time", "0", self.host],
                                           env={**os.environ, **env, "PATH": path}, stdout=log, stderr=log,
                                           cwd=self.scratch, preexec_fn=die_with_parent)   # where conmon leaves a file
        wait_until(self.is_up, "podman's service does not start", START_S)

    def close(self):
        self.daemon.terminate()
        self.daemon.wait(START_S)
        subprocess.run(["umount", f"{self.scratch}/data/overlay"], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.scratch, ignore_errors=True)
