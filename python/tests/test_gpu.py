"""What an engine is asked for when a function wants a GPU: of an engine that only takes notes, and a driver that is a
script, since few machines have either."""

import asyncio
import contextlib
import json
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest

from adit.exception import InvalidError

NVIDIA = {"Runtimes": {"runc": {}, "nvidia": {}}}
CDI = {"Runtimes": {"runc": {}}, "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}
NEITHER = {"Runtimes": {"runc": {}}}
CARDS = ["NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S"]


class Notes:
    """An engine that has every image, and refuses every container after noting what was asked for."""

    def __init__(self, path, info):
        self.created, self.posts = [], []
        notes = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def address_string(self):
                return ""

            def answer(self, value, status=200):
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                if self.path.startswith("/info"):
                    self.answer({"NCPU": 4, "MemTotal": 8 << 30, **info})
                elif self.path.startswith("/images"):
                    self.answer({"Id": "sha256:1"})
                else:
                    self.answer([] if self.path.startswith("/containers") else {})

            def do_POST(self):
                notes.posts.append(self.path)
                notes.created.append(json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}"))
                self.answer({"message": "it only takes notes"}, 500)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def get_request(self):
                return super().get_request()[0], ("engine", 0)

        self.host = f"unix://{path}"
        self._server = Server(str(path), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(info, cards) is one whose engine and driver say these."""
    with contextlib.ExitStack() as stack:

        def make(info, cards=CARDS):
            engine = Notes(tmp_path / "engine.sock", info)
            stack.callback(engine.close)
            program = tmp_path / "nvidia-smi"
            lines = "".join(f"{n}, GPU-{n}, {card}\n" for n, card in enumerate(cards))
            program.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}END\n")
            program.chmod(0o755)
            monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
            monkeypatch.setenv("DOCKER_HOST", engine.host)
            monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
            monkeypatch.delenv("ADIT_FOREMAN", raising=False)
            return engine

        from adit.functions import session

        stack.callback(session.close)
        yield make


def wants(gpu):
    """An app with a function that wants it."""
    from adit import App

    app = App("gpus")
    return app, app.function(gpu=gpu)(work)


def work():
    """What would run on it."""


@pytest.mark.parametrize(
    ("info", "cards", "gpu", "said"),
    [
        (NVIDIA, [], "any", "work: gpu: any: this machine has no GPU"),
        (NEITHER, CARDS, "any", "cannot give GPUs to containers .install nvidia-container-toolkit"),
        (NVIDIA, CARDS, "H100", "not so many of that type .it has 1 x NVIDIA A100-SXM4-40GB, 2 x .*80GB, 1 x .*L40S"),
        (NVIDIA, CARDS, "L40", "gpu: L40: "),
        (NVIDIA, CARDS, "L4", "gpu: L4: "),
        (NVIDIA, CARDS, "A100-80GB:3", "gpu: A100-80GB:3: "),
        (NVIDIA, CARDS, ["H100", "any:5"], "gpu: H100, any:5: "),
    ],
)
def test_a_gpu_that_cannot_be_had_is_refused_before_anything_is_built(machine, info, cards, gpu, said):
    engine = machine(info, cards)
    app, _ = wants(gpu)
    with pytest.raises(InvalidError, match=said), app.run(show_progress=False):
        pass
    assert engine.posts == []


@pytest.mark.parametrize(
    ("info", "gpu", "request_"),
    [
        (NVIDIA, "any", {"Driver": "nvidia", "DeviceIDs": ["GPU-0"]}),
        (NVIDIA, "A100-80GB:2", {"Driver": "nvidia", "DeviceIDs": ["GPU-1", "GPU-2"]}),
        (NVIDIA, ["h100", "l40s", "any"], {"Driver": "nvidia", "DeviceIDs": ["GPU-3"]}),
        (CDI, "A100-80GB", {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=1"]}),
    ],
)
def test_the_engine_is_asked_for_these_very_gpus(machine, info, gpu, request_):
    engine = machine(info)
    app, function = wants(gpu)
    with app.run(show_progress=False), pytest.raises(Exception, match="it only takes notes"):
        function.remote()
    assert engine.posts[0].startswith("/containers/create")
    [asked] = engine.created[0]["HostConfig"]["DeviceRequests"]
    assert {k: v for k, v in asked.items() if k != "Capabilities"} == request_
    if request_["Driver"] == "nvidia":
        assert "gpu" in asked["Capabilities"][0]


def test_a_gpu_is_of_one_container_at_a_time(machine):
    from adit.functions.foreman.gpus import Gpus
    from adit.functions.spec import FunctionSpec

    machine(NVIDIA)
    spec = FunctionSpec("f", "m", "f", gpus=[("A100-80GB", 1), ("any", 1)])

    async def use():
        gpus = Gpus(SimpleNamespace(has_machines=False))
        taken = [await gpus.take(spec) for _ in CARDS]
        assert sorted(g.uuid for [g] in taken) == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
        late = asyncio.ensure_future(gpus.take(spec))
        done, _ = await asyncio.wait({late}, timeout=0)
        assert not done
        gpus.give(taken[2])
        return await late == taken[2]

    assert asyncio.run(use())


def test_a_cluster_is_asked_for_the_first_kind_whatever_this_machine_has():
    from adit.functions.foreman.gpus import Gpus
    from adit.functions.spec import FunctionSpec

    async def take():
        gpus = Gpus(SimpleNamespace(has_machines=True))
        spec = FunctionSpec("f", "m", "f", gpus=[("A100-80GB", 2), ("any", 1)])
        await gpus.check(spec)
        taken = [await gpus.take(spec) for _ in range(2)]
        gpus.give(taken[0])
        return taken

    assert [[gpu.name for gpu in gpus] for gpus in asyncio.run(take())] == [["A100-80GB"] * 2] * 2
