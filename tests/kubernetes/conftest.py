"""Fixtures for functions in Pods: a real cluster of one node (cluster.py), the engine that images are made with, a
relay that Pods reach. The foreman may do what deploy/kubernetes/ gives it, and no more."""

import contextlib
import importlib.util
import io
import os
import socket
import subprocess
import sys
import tarfile
import urllib.parse

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
CACHE = os.path.join(ROOT, ".cache", "kubernetes")
DEPLOY = os.path.join(ROOT, "deploy", "kubernetes")


def _functions():
    """The fixtures of tests/functions."""
    folder = os.path.join(ROOT, "tests", "functions")
    sys.path.append(folder)
    path = os.path.join(folder, "conftest.py")
    spec = importlib.util.spec_from_file_location("functions_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


functions = _functions()
engine, adit, program, url_of, BUILD_S = (
    functions.engine,
    functions.adit,
    functions.program,
    functions.url_of,
    functions.BUILD_S,
)
base_settings = functions.settings

from kit.deadline import ends_after  # noqa: E402: functions' conftest has made its path known
from kit.process import wait_until  # noqa: E402
from kit.roles import Box, Relay  # noqa: E402

pytest_plugins = ["kit.fixtures"]
pytest_runtest_protocol = ends_after(420)
NAMESPACE = "adit"


def free_port(address):
    with socket.socket() as one:
        one.bind((address, 0))
        return one.getsockname()[1]


@pytest.fixture(scope="session")
def cluster(engine):
    from cluster import Cluster

    made = Cluster()
    try:
        made.start_registry()
        push_pause(engine, made)
        made.start()
        yield made
    except AssertionError:
        made.logs()
        raise
    finally:
        made.close()


def push_pause(engine, cluster):
    """The image of the container that each Pod has besides its own."""
    program = os.path.join(CACHE, "pause")
    subprocess.run(
        ["gcc", "-static", "-O2", "-o", program, os.path.join(os.path.dirname(__file__), "pause.c")], check=True
    )
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(program, "pause")
    name = f"{cluster.registry}/pause"
    query = urllib.parse.urlencode({"fromSrc": "-", "repo": name, "tag": "1", "changes": 'CMD ["/pause"]'})
    engine.ask("POST", f"/images/create?{query}", io.BytesIO(data.getvalue()))
    wait_until(lambda: _answers(cluster.registry_port), "the registry does not start", 30)
    push(engine, name, "1")


def push(engine, name, tag):
    with contextlib.closing(functions.UnixConnection(engine.path)) as connection:
        connection.request("POST", f"/images/{name}/push?tag={tag}", headers={"X-Registry-Auth": "e30="})
        said = connection.getresponse().read()
    assert b'"error"' not in said, said


def _answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def relay(cluster):
    from cluster import ADDRESS

    box = Box()
    yield Relay(box, listen=f"{ADDRESS}:0")
    box.close()


@pytest.fixture(scope="session")
def account(cluster):
    """A kubeconfig with the foreman's ServiceAccount, in the namespace that a user applies."""
    cluster.apply(os.path.join(DEPLOY, "functions.yaml"))
    token = cluster.token(NAMESPACE, "adit-foreman")
    wait_until(
        lambda: cluster.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default")[0] == 200,
        "there is no default account",
        60,
    )
    return cluster.kubeconfig("foreman", token, NAMESPACE)


@pytest.fixture(scope="session")
def settings(base_settings, cluster, relay, account):
    """The environment of a caller."""
    return {
        **base_settings,
        "ADIT_ENGINE": "kubernetes",
        "ADIT_REGISTRY": f"{cluster.registry}/tests",
        "KUBECONFIG": account,
        "ADIT_TOKEN": relay.token(),
        "ADIT_RELAY_CA": relay.authority,
        "ADIT_SPARE": "0",
    }


@pytest.fixture
def visit(relay):
    """visit(url, method=..., headers=...) as on the machine of a person who trusts the relay."""
    return lambda url, **options: functions.Visit(url, **{"trust": relay.authority, "address": relay.host, **options})


@pytest.fixture(scope="session")
def configured(settings):
    """This process is a caller, too."""
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith(("ADIT_", "XDG_"))]:
        del os.environ[name]
    os.environ.update(settings)
    yield
    sys.modules["adit.functions.session"].close()
    os.environ.clear()
    os.environ.update(before)


PROGRAMS, calls = functions.PROGRAMS, functions.calls
page = functions.page


@pytest.fixture
def service(adit, box, relay, cluster):
    from cluster_foreman import ClusterService

    service = ClusterService(adit, box, relay, cluster)
    yield service
    for app in service.apps():
        service.done("app", "stop", app)
    service.program.stop()
    service.nothing_stays()


@pytest.fixture
def nothing_stays(cluster):
    """A function that waits until no Pod and no Secret is left that was not there before."""

    def there():
        return {
            item["metadata"]["uid"]
            for kind in ("pods", "secrets")
            for item in cluster.get(f"/api/v1/namespaces/{NAMESPACE}/{kind}")["items"]
        }

    before = there()
    return lambda seconds=30: wait_until(lambda: there() <= before, "Pods or Secrets stay", seconds)
