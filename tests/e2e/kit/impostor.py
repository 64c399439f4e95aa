"""Programs that a relay is asked to hand over to, and that come only so far."""
import sys

HEADER = r'''#!{python}
import os, socket, struct, sys, time
relay = socket.socket(fileno=int(os.environ["ADIT_UPGRADE_FD"]))

def frame(kind, body=b""):
    relay.sendall(struct.pack("!HBBI", kind, 0, 0, len(body)) + body)

def hello(first=1, last=1):
    frame(1, struct.pack("!IHHIB", 0x61647570, first, last, os.getpid(), 8) + b"impostor")

def await_given():
    while True:
        head, fds, *_ = socket.recv_fds(relay, 8, 64)
        for fd in fds:
            os.close(fd)
        kind, n = struct.unpack("!HxxI", head)
        relay.recv(n, socket.MSG_WAITALL)
        if kind == 5:
            return

'''
PARTS = {
    "ends at once": ("", "it ended with status 0"),
    "ends with a status": ("sys.exit(7)", "it ended with status 7"),
    "dies": ("os.abort()", "it died of signal 6"),
    "says nothing": ("time.sleep(600)", "was not ready within 5 s"),
    "says what no relay says": ("relay.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')", "does not understand"),
    "is of another time": ("hello(200, 300)\ntime.sleep(600)", "(impostor) takes over from relays of other versions"),
    "ends after its hello": ("hello()", "it ended with status 0"),
    "does not like what it gets": ("hello()\nawait_given()\nframe(2, b'I do not like it')\ntime.sleep(600)",
                                   "the new program says: I do not like it"),
    "ends with all that it gets": ("hello()\nawait_given()", "it ended with status 0"),
    "gets all and is never ready": ("hello()\nawait_given()\ntime.sleep(600)", "was not ready within 5 s"),
}


def impostor(box, part):
    """A program that plays the part, and what is said of it."""
    body, said = PARTS[part]
    return box.file(box.unique("impostor"), HEADER.replace("{python}", sys.executable) + body + "\n", 0o700), said
