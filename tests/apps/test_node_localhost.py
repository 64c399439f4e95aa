"""A server of Node on `localhost`, as many frameworks start one: that is ::1 alone where that name comes first, with
nobody on 127.0.0.1."""
import os
import socket

from appkit.example import CACHE
from kit.process import ADIT
from kit.roles import Agent

SERVER = """const server = require("http").createServer((request, response) => response.end("from node"))
server.listen(0, "localhost", () => console.log(server.address().address, server.address().port))"""


def test_its_bare_port_leads_there(box, relay, curl):
    hosts = box.file("hosts", "::1 localhost\n127.0.0.1 localhost\n", mode=0o644)
    node = box.start(["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c",
                      'mount --bind "$0" /etc/hosts && exec "$@"', hosts,
                      "node", "--dns-result-order=verbatim", "-e", SERVER],
                     env={"PATH": os.pathsep.join([os.path.join(CACHE, "node-bin"), os.environ["PATH"]])})
    address, port = node.out.wait(lambda line: line).split()
    assert address == "::1"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", int(port)))          # and does not listen
        done = curl(Agent(box, relay, [port], program=ADIT).url)("--http1.1")
    assert (done.returncode, done.stdout) == (0, b"from node"), done.stderr
