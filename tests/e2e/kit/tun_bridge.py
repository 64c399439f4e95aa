"""A delayed cable between two network namespaces, for kernels without netem: a TUN device in each, and this program
between them.

tun_bridge.py PID_A ADDRESS_A PID_B ADDRESS_B DELAY_MS: the namespaces are those of the two processes; each packet
leaves on the other side DELAY_MS later. Prints "ready" once both devices are up; ends when its stdin does."""
import collections
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI, CLONE_NEWNET = 0x400454ca, 0x0001, 0x1000, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def enter(pid):
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if LIBC.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(fd)


def device(pid, address, peer, name):
    enter(pid)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "address", "add", address, "peer", peer, "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up", "txqueuelen", "10000"], check=True)
    return fd


def main():
    pid_a, address_a, pid_b, address_b, delay = *sys.argv[1:5], float(sys.argv[5]) / 1000
    name = "far" + address_a.replace(".", "")[-9:]
    a = device(pid_a, address_a, address_b, name)
    b = device(pid_b, address_b, address_a, name)
    other, waiting = {a: b, b: a}, collections.deque()      # in order of arrival, so in order of leaving
    print("ready", flush=True)
    while True:
        wait = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for fd in select.select([a, b, 0], [], [], wait)[0]:
            if fd == 0:
                return
            try:
                while True:
                    waiting.append((time.monotonic() + delay, other[fd], os.read(fd, 65536)))
            except BlockingIOError:
                pass
        while waiting and waiting[0][0] <= time.monotonic():
            _, fd, packet = waiting.popleft()
            try:
                os.write(fd, packet)
            except OSError:
                pass                                        # a full queue loses packets, as networks do


main()
