"""Ports for a relay to give out."""
import socket

import pytest


def free_raw_ports(n=1):
    """The first of n in a row, outside the kernel's own range, on which nobody listens."""
    for first in range(12000, 20000, n):
        try:
            for port in range(first, first + n):
                socket.create_server(("127.0.0.1", port), reuse_port=False).close()
            return first
        except OSError:
            pass
    pytest.skip("no ports are free")
