"""Fixtures for functions in containers: an engine of the tests' own, with a scratch data folder and socket,
that ends with them. Everything waits for events with a deadline. ADIT_TEST_ENGINE names a running engine instead
(unix:///...), whose images are kept."""
import contextlib
import http.client
import importlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.parse

import pexpect
import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

from kit.deadline import ends_after    # noqa: E402: after the path of kit
from kit.process import die_with_parent, wait_until    # noqa: E402
from kit.roles import Relay    # noqa: E402
from own_foreman import Service    # noqa: E402

pytest_plugins = ["kit.fixtures"]
pytest_runtest_protocol = ends_after(420)      # a build with JupyterLab in it, on a busy machine
START_S = 60
BUILD_S = 400
TERMINAL_S = 30
BASE = "adit-base:test"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("engine")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Engine:
    """Docker's API, as far as tests look behind the package's back."""

    def __init__(self, path):
        self.path, self.host = path, f"unix://{path}"

    def ask(self, method, path, body=None):
        with contextlib.closing(UnixConnection(self.path)) as connection:
            connection.request(method, path, body,
                               {"Content-Type": "application/json"} if isinstance(body, str) else {})
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status < 400, data
            return data

    def json(self, path):
        return json.loads(self.ask("GET", path))

    def is_up(self):
        with contextlib.suppress(OSError, AssertionError):
            return self.ask("GET", "/_ping") == b"OK"
        return False

    def containers(self):
        return self.json("/containers/json?all=1")

    def import_image(self, tar, name):
        with open(tar, "rb") as file:
            self.ask("POST", f"/images/create?fromSrc=-&repo={name}", file)


@pytest.fixture(scope="session")
def engine():
    if given := os.environ.get("ADIT_TEST_ENGINE"):
        engine, daemon = Engine(given.removeprefix("unix://")), None
    else:
        scratch = tempfile.mkdtemp(prefix="adit-engine-")
        unpacked = os.path.join(ROOT, ".cache", "root", "usr")
        path = os.pathsep.join([f"{unpacked}/bin", f"{unpacked}/sbin", "/usr/sbin:/usr/bin:/sbin:/bin"])
        engine = Engine(f"{scratch}/docker.sock")
        with open(f"{scratch}/log", "wb") as log:
            daemon = subprocess.Popen(["dockerd", "--data-root", f"{scratch}/data", "--exec-root", f"{scratch}/exec",
                                       "-H", engine.host,
                                       "--pidfile", f"{scratch}/pid", "--config-file", _empty(f"{scratch}/config.json"),
                                       "--exec-opt", "native.cgroupdriver=cgroupfs"],
                                      env={**os.environ, "PATH": path}, stdout=log, stderr=log,
                                      preexec_fn=die_with_parent)
    try:
        wait_until(engine.is_up, "the engine does not start", START_S)
        if not any(BASE in (i["RepoTags"] or []) for i in engine.json("/images/json")):
            engine.import_image(os.path.join(ROOT, ".cache", "functions", "base.tar"), BASE)
        yield engine
    except AssertionError:
        if daemon is not None:
            with open(f"{scratch}/log", errors="replace") as log:
                print(log.read()[-5000:])
        raise
    finally:
        if daemon is not None:
            daemon.terminate()
            daemon.wait(START_S)
            shutil.rmtree(scratch, ignore_errors=True)


def _empty(path):
    with open(path, "w") as file:
        file.write("{}")
    return path


@pytest.fixture(scope="session")
def settings(engine, tmp_path_factory):
    """The environment of a caller: this engine, a home of its own, and the machine's settings of pip."""
    home = str(tmp_path_factory.mktemp("home"))
    given = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_CERT_", "http_proxy", "https_proxy"))}
    return {"DOCKER_HOST": engine.host, "ADIT_BASE_IMAGE": BASE, "HOME": home, "LANG": "C.UTF-8",
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), "/usr/sbin:/usr/bin:/sbin:/bin"]), **given}


@pytest.fixture
def adit(box, settings):
    """adit("run", FILE, ...) starts the command; a FILE may be one of programs/."""
    def start(*words, env=None, **options):
        words = [_in_programs(w) for w in words]
        return box.start([os.path.join(os.path.dirname(sys.executable), "adit"), *words],
                         env={**settings, **(env or {})}, **options)
    return start


def _in_programs(word):
    name = word.partition("::")[0]
    is_ours = name.endswith(".py") and os.path.exists(os.path.join(PROGRAMS, name))
    return os.path.join(PROGRAMS, word) if is_ours else word


@pytest.fixture(scope="session")
def configured(settings):
    """This process is a caller, too."""
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith(("ADIT_", "XDG_"))]:
        del os.environ[name]
    os.environ.update(settings)
    yield
    importlib.import_module("adit.functions.session").close()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def podman():
    """podman's service, for what is to be as with Docker."""
    engine = importlib.import_module("podman_engine").Podman()
    try:
        engine.import_image(os.path.join(ROOT, ".cache", "functions", "base.tar"), BASE)
        yield engine
    finally:
        engine.close()


@contextlib.contextmanager
def _running():
    """The module programs/calls.py, its app running."""
    from adit.functions import bundle
    module = bundle.load(os.path.join(PROGRAMS, "calls.py"))
    with module.app.run(show_progress=False):
        yield module


@pytest.fixture(scope="module")
def calls(configured):
    with _running() as module:
        yield module


@pytest.fixture(scope="module", params=["docker", "podman"])
def calls_of_both(request, configured):
    """`calls` for a module that is about both engines: this process is a caller of one after the other."""
    session = importlib.import_module("adit.functions.session")
    before = os.environ["DOCKER_HOST"]
    if request.param == "podman":
        session.close()
        os.environ["DOCKER_HOST"] = request.getfixturevalue("podman").host
    with _running() as module:
        yield module
    if request.param == "podman":
        session.close()
        os.environ["DOCKER_HOST"] = before


class Visit:
    """An answer of HTTP through a tunnel."""

    def __init__(self, url, method="GET", headers=None, trust=None, body=None, address="127.0.0.1"):
        at = urllib.parse.urlsplit(url)
        context = ssl.create_default_context(cafile=trust)
        # The names below .localhost are this machine, which a resolver need not know.
        with contextlib.closing(socket.create_connection((address, at.port), 90)) as tcp:
            connection = http.client.HTTPConnection(at.hostname, at.port)
            connection.sock = context.wrap_socket(tcp, server_hostname=at.hostname)
            connection.request(method, (at.path or "/") + (f"?{at.query}" if at.query else ""), body, headers or {})
            answer = connection.getresponse()
            self.status, self.headers, self.body = answer.status, answer.headers, answer.read()


@pytest.fixture
def visit(settings):
    """visit(url, method=..., headers=...) as on the machine of a person who trusts the relay."""
    trust = os.path.join(settings["HOME"], ".local", "state", "adit", "embedded", "authority.pem")
    return lambda url, **options: Visit(url, **{"trust": trust, **options})


@pytest.fixture
def nothing_stays(engine, box):
    """A function that waits until no container is left of this process and of the programs that the test started:
    others may use the same engine."""
    def left():
        owners = {str(pid) for pid in (os.getpid(), *(program.pid for program in box.programs))}
        return [c for c in engine.containers() if owners & set((c["Labels"] or {}).get("adit.owner", "").split())]
    before = {c["Id"] for c in left()}
    return lambda seconds=20: wait_until(lambda: {c["Id"] for c in left()} <= before, "containers stay", seconds)


@pytest.fixture
def url_of(box):
    """url_of(program, name) is the URL that `adit serve` printed for a function."""
    def find(program, name, seconds=BUILD_S):
        line = program.out.wait(lambda text: text.startswith(f"{name} => "), seconds)
        return line.split()[-1]
    return find


@pytest.fixture
def program(box):
    """program(name, text) is a file with that text."""
    def write(name, text):
        return box.file(name, text, mode=0o644)
    return write


@pytest.fixture
def service(adit, box, engine):
    service = Service(adit, box, Relay(box), engine)
    yield service
    for app in service.apps():
        service.done("app", "stop", app)
    service.program.stop()
    service.nothing_stays()


@pytest.fixture
def page(visit):
    """page(service, url) is what the page says."""
    return lambda service, url: json.loads(visit(url, trust=service.relay.authority).body)


@pytest.fixture
def terminal(settings, box):
    """terminal("shell", FILE, ...) is the command on a terminal of 20 rows and 70 columns."""
    def start(*words, env=None):
        given = {**box.env, **settings, "TERM": "xterm", **(env or {})}
        child = pexpect.spawn(os.path.join(os.path.dirname(sys.executable), "adit"), list(words), env=given,
                              dimensions=(20, 70), timeout=TERMINAL_S, encoding="utf-8", preexec_fn=die_with_parent)
        box.closers.append(lambda: child.close(force=True))
        return child
    return start
