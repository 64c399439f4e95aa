"""What a cluster leaves behind by itself: programs that go on, mounts, networks, control groups, files. It is a program
beside the tests, which waits until its standard input ends, as that does whatever ends them, and then removes all
that."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

GROUP = "adit-kube"
END_S, AGAIN_S = 30, 0.1


def groups():
    """The node's control group, in each hierarchy of the kernel's."""
    with open("/proc/self/mounts") as file:
        return [f"{line.split()[1]}/{GROUP}" for line in file if line.split()[2] in ("cgroup", "cgroup2")]


def forwards(bridge):
    """A rule of iptables: Pods reach each other."""
    return ["FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"]


def begin(folder, bridge, path):
    """The program, for a cluster that has these."""
    words = [sys.executable, os.path.abspath(__file__), folder, bridge]
    env = {**os.environ, "PATH": path}
    return subprocess.Popen(words, env=env, stdin=subprocess.PIPE, start_new_session=True)


def _processes():
    """Each with its parent and its words."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline", errors="replace") as words:
                state, parent = stat.read().rpartition(")")[2].split()[:2]
                if state != "Z":
                    yield int(pid), int(parent), words.read()


def _of(folder):
    """Whatever was begun with a path in the folder, as the shims of containers are, and its children."""
    every = list(_processes())
    found, more = set(), {pid for pid, _, words in every if f"{folder}/" in words}
    while more:
        found |= more
        more = {pid for pid, parent, _ in every if parent in found} - found
    return found


def _end(folder):
    last = time.monotonic() + END_S
    while (found := _of(folder)) and time.monotonic() < last:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(AGAIN_S)


def _unmount(folder):
    with open("/proc/self/mounts") as file:
        places = [line.split()[1] for line in file]
    for place in reversed([p for p in places if p.startswith(f"{folder}/")]):
        subprocess.run(["umount", "-l", place])


def _remove_network(bridge):
    """The bridge, and the networks of Pods at it."""
    said = subprocess.run(["ip", "-j", "link", "show", "master", bridge], capture_output=True, text=True).stdout
    for port in json.loads(said or "[]"):
        if "link_netns" in port:
            subprocess.run(["ip", "netns", "delete", port["link_netns"]])
        subprocess.run(["ip", "link", "delete", port["ifname"]], stderr=subprocess.DEVNULL)  # may have gone with it
    subprocess.run(["ip", "link", "delete", bridge])
    subprocess.run(["iptables", "-D", *forwards(bridge)])


def _remove_groups():
    for group in groups():
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def main(folder, bridge):
    sys.stdin.buffer.read()
    _end(folder)
    _unmount(folder)
    _remove_network(bridge)
    shutil.rmtree(folder, ignore_errors=True)
    _remove_groups()


if __name__ == "__main__":
    main(*sys.argv[1:])
