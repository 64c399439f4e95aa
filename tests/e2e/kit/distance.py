"""Places (network namespaces) and cables with a delay between them."""
import ctypes
import os
import subprocess
import sys
import threading

from .process import Program

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
BRIDGE = os.path.join(os.path.dirname(__file__), "tun_bridge.py")


def trouble():
    """Why there can be no places here, or None."""
    if os.getuid() != 0:
        return "network namespaces want root"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    done = subprocess.run(["unshare", "-n", "ip", "tuntap", "add", "dev", "try0", "mode", "tun"],
                          stderr=subprocess.PIPE, text=True)
    return f"no TUN device can be made here: {done.stderr.strip()}" if done.returncode else None


class Place:
    """A network namespace, as long as its holder lives. Addresses come with its cables."""

    def __init__(self, box):
        self.box = box
        self.holder = box.start(["unshare", "-n", "sh", "-c",
                                 "ip link set lo up && sysctl -qw net.ipv4.ip_forward=1 && echo ready && exec cat"],
                                stdin=subprocess.PIPE)
        self.holder.out.wait(lambda line: line == "ready")
        self.prefix = ["nsenter", "-t", str(self.holder.pid), "-n", "--"]

    def run(self, *argv):
        subprocess.run([*self.prefix, *argv], check=True)

    def call(self, function, *args):
        """Calls function with this place's network: sockets made in it stay there."""
        result = []

        def run():
            try:
                fd = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
                assert LIBC.setns(fd, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
                os.close(fd)
                result.append((function(*args), None))
            except BaseException as e:
                result.append((None, e))
        thread = threading.Thread(target=run)         # a thread of its own: setns changes the calling thread only
        thread.start()
        thread.join()
        value, error = result[0]
        if error:
            raise error
        return value


def cable(box, a, address_a, b, address_b, one_way_ms, loss_percent=0, mbit_per_s=0):
    """Without a rate as fast as this machine is."""
    bridge = Program([sys.executable, BRIDGE, a.holder.pid, address_a, b.holder.pid, address_b, one_way_ms,
                      loss_percent, mbit_per_s], stdin=subprocess.PIPE, env=box.env)
    box.programs.append(bridge)
    bridge.out.wait(lambda line: line == "ready")
