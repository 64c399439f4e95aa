"""Debian's nginx with its stream module, where it may not be installed."""
import os
import re
import socket

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")


def found(path):
    return next(p for p in ("/" + path, os.path.join(ROOT, ".cache/root", path)) if os.path.exists(p))


def readme_stream(addresses):
    """The stream block of the README, with these in the place of its addresses."""
    with open(os.path.join(ROOT, "README.md")) as f:
        block = re.search(r"```nginx\n(.*?)```", f.read(), re.S).group(1)
    for theirs, ours in addresses.items():
        assert theirs in block, f"{theirs} is not in the README's block:\n{block}"
        block = block.replace(theirs, ours)
    return block


class Nginx:
    """stream(port) is the configuration's stream block. nginx takes its socket over from us, so that the port is free
    for certain and connections wait for its start."""

    def __init__(self, box, stream):
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            self.address = listener.getsockname()
            user = "user root;\n" if os.getuid() == 0 else ""
            conf = box.file(
                box.unique("nginx"),
                f"load_module {found('usr/lib/nginx/modules/ngx_stream_module.so')};\n{user}daemon off;\n"
                f"pid {box.file(box.unique('pid'))};\nerror_log stderr info;\nevents {{}}\n" + stream(self.address[1]),
            )
            self.process = box.start([found("usr/sbin/nginx"), "-p", box.path, "-c", conf],
                                     env={"NGINX": f"{listener.fileno()};"},
                                     pass_fds=[listener.fileno()])
        box.closers.append(self.process.stop)      # or its worker would stay

    @property
    def dial(self):
        return "%s:%d" % self.address
