"""A delayed cable between two network namespaces, for kernels without netem: a TUN device in each, and this program
between them.

tun_bridge.py PID_A ADDRESS_A PID_B ADDRESS_B DELAY_MS [LOSS_PERCENT [MBIT_PER_S]]: the namespaces are those of the two
processes; each packet leaves on the other side DELAY_MS later, unless it is among those that are lost, and not before
its turn where a rate is given. Prints "ready" once both devices are up; ends when its stdin does."""
import collections
import ctypes
import fcntl
import os
import random
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


class Way:
    """From one device to the other. What would wait longer than a fifth of a second for its turn finds a full queue."""
    QUEUE_S = 0.2

    def __init__(self, source, to, delay, loss, bytes_per_s):
        self.source, self.to, self.delay, self.loss, self.bytes_per_s = source, to, delay, loss, bytes_per_s
        self.waiting, self.free = collections.deque(), 0.0      # in order of arrival, so in order of leaving
        self.random = random.Random(source)

    def take(self):
        try:
            while True:
                packet = os.read(self.source, 65536)
                now = time.monotonic()
                if self.loss and self.random.random() < self.loss:
                    continue
                if self.bytes_per_s:
                    self.free = max(self.free, now)
                    if self.free - now > self.QUEUE_S:
                        continue
                    self.free += len(packet) / self.bytes_per_s
                    now = self.free
                self.waiting.append((now + self.delay, packet))
        except BlockingIOError:
            pass

    def give(self):
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            try:
                os.write(self.to, self.waiting.popleft()[1])
            except OSError:
                pass                                            # a full queue loses packets, as networks do


def main():
    pid_a, address_a, pid_b, address_b, delay, loss, rate = (*sys.argv[1:], "0", "0")[:7]
    name = "far" + address_a.replace(".", "")[-9:]
    a = device(pid_a, address_a, address_b, name)
    b = device(pid_b, address_b, address_a, name)
    ways = {source: Way(source, to, float(delay) / 1000, float(loss) / 100, float(rate) * 1e6 / 8)
            for source, to in ((a, b), (b, a))}
    print("ready", flush=True)
    while True:
        due = [way.waiting[0][0] for way in ways.values() if way.waiting]
        wait = max(0, min(due) - time.monotonic()) if due else None
        for fd in select.select([a, b, 0], [], [], wait)[0]:
            if fd == 0:
                return
            ways[fd].take()
        for way in ways.values():
            way.give()


main()
