"""deploy/kubernetes as a user applies it: with the names of this cluster put in, and an engine for images that is there
already, instead of podman, which needs more than every machine gives."""

import importlib.metadata
import io
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile

import pytest
from packaging.requirements import Requirement

from cluster import ADDRESS, API_SERVICE, BRIDGE, run
from conftest import BUILD_S, DEPLOY, NAMESPACE, functions, push
from kit.process import die_with_parent, wait_until

FOREMAN, RELAY = "adit-foreman", "adit-relay"
BASE, DOMAIN = functions.BASE, "r1.example.com"
START_S = 120
DOCKERFILE = f"""
FROM {BASE}
COPY packages /usr/local/lib/python3.11/dist-packages
COPY bin /usr/local/bin
"""
COMMAND = "#!/usr/bin/python3\nimport sys\nfrom adit._program import main\nsys.exit(main())\n"
APP = """
import os, time
from adit import App
app = App("sums")
@app.function()
def add(a: int, b: int):
    print("adding", flush=True)
    return a + b
@app.function()
def slow(n: int):
    print("begun", flush=True)
    time.sleep(20)
    return n, os.environ["ADIT_CONTAINER"]
"""
SERVES = """
import http.server
from adit import forward
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
with forward(server.server_port) as tunnel:
    print(tunnel.url, flush=True)
    server.serve_forever()
"""


def _packages():
    """What `pip install adit[kubernetes]` has installed here."""
    names, found = ["adit"], {}
    while names:
        name = names.pop()
        if name not in found:
            found[name] = importlib.metadata.distribution(name)
            for text in found[name].requires or []:
                one = Requirement(text)
                if one.marker is None or any(
                    one.marker.evaluate({"extra": e}) for e in ("functions", "kubernetes", "")
                ):
                    names.append(one.name.lower())
    for distribution in found.values():
        for path in distribution.files:
            if not str(path).startswith("..") and not str(path).endswith(".pyc"):
                yield str(path.locate()), str(path)


def _add(tar, name, text, mode=0o644):
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(text), mode
    tar.addfile(info, io.BytesIO(text.encode()))


@pytest.fixture(scope="module")
def image(engine, cluster):
    """The image of both, as the Dockerfile makes it, from what is installed here."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        _add(tar, "Dockerfile", DOCKERFILE)
        _add(tar, "bin/adit", COMMAND, 0o755)
        for path, name in _packages():
            tar.add(path, f"packages/{name}")
    name = f"{cluster.registry}/adit"
    said = engine.ask("POST", f"/build?t={name}:latest", io.BytesIO(data.getvalue()))
    assert b'"error"' not in said, said
    push(engine, name, "latest")
    return f"{name}:latest"


@pytest.fixture(scope="module")
def services(cluster):
    """The API server at its Service's address, as Pods look for it; there is no kube-proxy."""
    run("ip", "address", "add", f"{API_SERVICE}/32", "dev", BRIDGE)
    way = subprocess.Popen(
        ["socat", f"TCP-LISTEN:443,bind={API_SERVICE},backlog=256,reuseaddr,fork", f"TCP:{ADDRESS}:{cluster.api}"],
        preexec_fn=die_with_parent,
    )
    yield
    way.kill()
    way.wait()
    run("ip", "address", "delete", f"{API_SERVICE}/32", "dev", BRIDGE)


def _apply(cluster, file, *changes):
    with open(os.path.join(DEPLOY, file)) as source:
        text = source.read()
    for old, new in changes:
        assert re.search(old, text, re.DOTALL), f"{file} has no {old}"
        text = re.sub(old, new, text, flags=re.DOTALL)
    cluster.kubectl("apply", "-f", cluster.write(file, text))


def _wait_ready(cluster, namespace, pod):
    def is_ready():
        found = [p for p in cluster.pods(namespace) if p["metadata"]["name"] == pod]
        conditions = [c for p in found for c in p["status"].get("conditions", []) if c["type"] == "Ready"]
        return any(c["status"] == "True" for c in conditions)

    try:
        wait_until(is_ready, f"{pod} does not become ready", START_S)
    except AssertionError:
        print(cluster.kubectl("describe", "pod", "-n", namespace, pod))
        print(cluster.ask("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log")[1])
        raise


class Deployed:
    """The foreman, and what is typed in its Pod."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder = cluster, folder

    def wait(self):
        _wait_ready(self.cluster, FOREMAN, "foreman-0")
        path = f"/api/v1/namespaces/{FOREMAN}/pods/foreman-0/log?container=foreman"
        says = lambda: self.cluster.ask("GET", path)[1]  # noqa: E731
        wait_until(lambda: b"listens at" in says(), "the foreman does not listen", START_S)

    def do(self, *words):
        return self.cluster.kubectl("exec", "-n", FOREMAN, "foreman-0", "-c", "foreman", "--", *words).strip()


@pytest.fixture(scope="module")
def foreman(cluster, account, engine, image, services, relay, settings):
    folder = cluster.at("foreman")
    for name in ("tmp", "run"):
        os.makedirs(os.path.join(folder, name))
    cluster.add_storage(2)
    cluster.write("foreman/tmp/authority.pem", open(relay.authority).read())
    cluster.kubectl("create", "namespace", FOREMAN)
    token = f"--from-literal=ADIT_TOKEN={relay.token()}"
    cluster.kubectl("create", "secret", "generic", "-n", FOREMAN, "foreman", token)
    login = cluster.write("config.json", "{}")
    cluster.kubectl("create", "secret", "generic", "-n", FOREMAN, "registry", f"--from-file=config.json={login}")
    more = {"TMPDIR": f"{folder}/tmp", "ADIT_RELAY_CA": f"{folder}/tmp/authority.pem", "ADIT_BASE_IMAGE": BASE}
    more |= {"ADIT_SPARE": "0"} | {k: v for k, v in settings.items() if k in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")}
    if certificate := settings.get("PIP_CERT"):
        more["PIP_CERT"] = shutil.copy(certificate, f"{folder}/tmp/pip.pem")
    env = "".join(f'            - name: {name}\n              value: "{value}"\n' for name, value in more.items())
    hosts = {"engine": os.path.dirname(engine.path), "shared": f"{folder}/tmp", "sockets": f"{folder}/run"}
    _apply(
        cluster,
        "foreman.yaml",
        (r"registry\.example\.com/adit:latest", image),
        (r"registry\.example\.com", cluster.registry),
        (r"        - name: podman\n.*?(?=      volumes:\n        - name: engine)", ""),
        (r"podman\.sock", os.path.basename(engine.path)),
        (r"/run/adit", f"{folder}/run"),
        (r"mountPath: /tmp\n", f"mountPath: {folder}/tmp\n"),
        (r"          env:\n", f"          env:\n{env}"),
        *(
            (rf"- name: {name}\n          emptyDir: {{}}", f"- name: {name}\n          hostPath: {{path: {path}}}")
            for name, path in hosts.items()
        ),
    )
    deployed = Deployed(cluster, folder)
    deployed.wait()
    yield deployed
    cluster.kubectl("delete", "statefulset", "-n", FOREMAN, "foreman", "--timeout=90s")


def test_a_foreman_in_its_own_pod_calls_functions_with_the_rights_of_its_account(foreman, cluster):
    cluster.write("foreman/tmp/sums.py", APP)
    program = f"{foreman.folder}/tmp/sums.py"
    said = foreman.do("adit", "run", "-q", f"{program}::add", "--a", "2", "--b", "3")
    assert sorted(said.splitlines()) == ["5", "adding"]
    can = cluster.kubectl("auth", "can-i", "--list", "-n", NAMESPACE, f"--as=system:serviceaccount:{FOREMAN}:foreman")
    assert not re.search(r"^(pods/exec|configmaps|nodes)\b", can, re.MULTILINE)


def test_a_call_goes_on_while_the_foremans_pod_is_replaced(foreman, cluster):
    cluster.write("foreman/tmp/sums.py", APP)
    foreman.do("adit", "deploy", f"{foreman.folder}/tmp/sums.py")
    lookup = "from adit import Function, FunctionCall; "
    call = foreman.do("python3", "-c", f"{lookup}print(Function.lookup('sums', 'slow').spawn(7).object_id)")
    wait_until(lambda: "begun" in foreman.do("adit", "app", "logs", "sums"), "it does not begin", BUILD_S)
    before = cluster.get(f"/api/v1/namespaces/{FOREMAN}/pods/foreman-0")["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "-n", FOREMAN, "foreman-0", "--timeout=90s")

    def is_another():
        status, pod = cluster.ask("GET", f"/api/v1/namespaces/{FOREMAN}/pods/foreman-0")
        return status == 200 and pod["metadata"]["uid"] != before

    wait_until(is_another, "there is no other foreman", 60)
    foreman.wait()
    assert foreman.do("python3", "-c", f"{lookup}print(FunctionCall.from_id({call!r}).get()[0])") == "7"
    assert foreman.do("adit", "app", "logs", "sums").count("begun") == 1
    foreman.do("adit", "app", "stop", "sums")


# --- the relay ---


@pytest.fixture(scope="module")
def relay_pod(cluster, image):
    """Its address, and the authority of its certificate."""
    cluster.add_storage(1)
    names = f"subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}"
    words = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={DOMAIN}", "-addext", names]
    run("openssl", "req", *words, "-keyout", cluster.at("relay.key"), "-out", cluster.at("relay.pem"))
    cluster.kubectl("create", "namespace", RELAY)
    pair = [f"--cert={cluster.at('relay.pem')}", f"--key={cluster.at('relay.key')}"]
    cluster.kubectl("create", "secret", "tls", "-n", RELAY, "certificate", *pair)
    _apply(cluster, "relay.yaml", (r"registry\.example\.com/adit:latest", image))
    _wait_ready(cluster, RELAY, "relay-0")
    yield cluster.get(f"/api/v1/namespaces/{RELAY}/pods/relay-0")["status"]["podIP"], cluster.at("relay.pem")
    cluster.kubectl("delete", "statefulset", "-n", RELAY, "relay", "--timeout=90s")


@pytest.fixture(scope="module")
def relay_env(cluster, relay_pod):
    """Of who uses it: names lead to its Service's address, which nothing here leads to."""
    address, authority = relay_pod
    words = ["exec", "-n", RELAY, "relay-0", "--", "adit", "token", "create", "tester"]
    token = cluster.kubectl(*words).strip()
    return {"ADIT_TOKEN": token, "ADIT_RELAY": f"{address}:8443", "ADIT_RELAY_CA": authority}


def test_a_relay_in_the_cluster_has_tunnels_and_visitors(relay_pod, relay_env, box, program):
    serving = box.start([sys.executable, program("serves.py", SERVES)], env={"HOME": box.home, **relay_env})
    name = re.search(rf"https://([a-z0-9-]+\.{re.escape(DOMAIN)})", serving.out.wait(lambda _: True, 60))[1]
    context = ssl.create_default_context(cafile=relay_pod[1])
    with (
        socket.create_connection((relay_pod[0], 8443), 60) as tcp,
        context.wrap_socket(tcp, server_hostname=name) as tls,
    ):
        tls.sendall(f"GET / HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
        assert tls.recv(100).startswith(b"HTTP/1.0 200")


def test_pods_reach_their_foreman_through_a_relay_in_the_cluster(relay_env, adit, program):
    run = adit("run", "-q", f"{program('sums.py', APP)}::add", "--a", "2", "--b", "3", env=relay_env)
    assert run.wait(BUILD_S) == 0, run.report()
    assert sorted(run.out.lines) == ["5", "adding"]
