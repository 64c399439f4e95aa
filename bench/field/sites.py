"""Where the parts of a way stand: all on loopback, or each in a place of its own with cables between them."""
import contextlib
import os
import socket


def free_ports(host, count):
    """All different: each is held until all are found."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]


class Here:
    """This machine. Each way has an address of loopback to itself, as some programs have fixed ports; other runs have
    others."""
    prefix = ()

    def host(self, number):
        return f"127.{64 + number // 250 % 128}.{number % 250 + 1}.{os.getpid() % 250 + 1}"

    def connect(self, address, timeout=None):
        return socket.create_connection(address, timeout)

    def free_ports(self, host, count=1):
        return free_ports(host, count)


class Sites:
    """The relay's, the agent's, where its app is at `app_host`, and the visitors'."""

    def __init__(self, relay=None, agent=None, visitor=None, app_host="127.0.0.1"):
        self.relay = relay or Here()
        self.agent, self.visitor, self.app_host = agent or self.relay, visitor or self.relay, app_host


class Far:
    """A place of the tests' kit, where each way has an address to itself as well."""

    def __init__(self, place, net):
        self.place, self.prefix, self.net = place, place.prefix, net

    def host(self, number):
        return f"{self.net}.{number // 250}.{number % 250 + 1}"

    def connect(self, address, timeout=None):
        return self.place.call(socket.create_connection, address, timeout)

    def free_ports(self, host, count=1):
        return self.place.call(free_ports, host, count)
