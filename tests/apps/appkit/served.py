"""A server of a framework behind a tunnel, as docs/apps.md has it: by `adit forward PORT -- COMMAND`, which tells the
command its public address."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import types
import urllib.parse

from kit.http import Curl
from kit.ports import free_raw_ports
from kit.process import ADIT, Program

from .example import CACHE, MARK, START_S, VENV_BIN, Example

FRAMEWORKS = os.path.join(os.path.dirname(__file__), "..", "frameworks")


class Served(Example):
    """A command of the frameworks' folder in which {port} stands for the app's port; ready when that is listened on."""

    def __init__(self, box, relay, command, *options, env=None, path=(), copy=()):
        """copy: folders of the frameworks whose files it works on, in a folder of its own."""
        self.mark, self.relay = f"{os.getpid()}-{box.unique('served')}", relay
        self.folder = box.file(box.unique("work"))
        shutil.copytree(os.path.join(FRAMEWORKS, *copy), self.folder)
        self.port = free_raw_ports()
        bins = [*path, VENV_BIN, os.path.join(CACHE, "node-bin"), box.env["PATH"]]
        words = [word.format(port=self.port) for word in command]
        self.program = Program(
            [ADIT, "forward", str(self.port), *options, "--", *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            new_session=True,
            env={
                **box.env,
                "PATH": os.pathsep.join(bins),
                "ADIT_TOKEN": relay.token(),
                "PYTHONUNBUFFERED": "1",
                MARK: self.mark,
                **(env or {}),
            },
        )
        self.out, self.err = self.program.out, self.program.err
        box.programs.append(self.program)
        self.url = re.search(r"https://\S+", self.err.wait(lambda line: line.startswith("https://"), START_S)).group()
        at = urllib.parse.urlsplit(self.url)
        self.host = at.hostname
        self.curl = Curl(types.SimpleNamespace(relay=relay, host=at.hostname, tls_port=at.port or 443, url=self.url))
        self._wait_until_it_listens()

    def _wait_until_it_listens(self):
        until = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                assert self.program.running and time.monotonic() < until, self.program.report()
                self.program.popen.poll()
                time.sleep(0.05)

    def get(self, path, *options):
        """The body, as text."""
        done = self.curl("--fail", *options, path=path)
        assert done.returncode == 0, (done.stderr, self.program.report())
        return done.stdout.decode()

    def json(self, path, *options):
        return json.loads(self.get(path, *options))

    def answer(self, path, *options):
        """Status and Location."""
        done = self.curl("--output", os.devnull, "--write-out", "%{http_code} %header{location}", *options, path=path)
        status, location = done.stdout.decode().split(" ", 1)
        return int(status), location
