"""Whether Unix sockets here can refuse descriptors, which takes Linux 6.16. A relay that is started on a machine for
its user takes agents at one only where they can."""
import socket

import pytest

SO_PASSRIGHTS = 83


def can_refuse_descriptors():
    with socket.socket(socket.AF_UNIX) as s:
        try:
            return s.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS) == 1
        except OSError:
            return False


wants_them_refused = pytest.mark.skipif(not can_refuse_descriptors(),
                                        reason="Unix sockets refuse descriptors from Linux 6.16 on")
