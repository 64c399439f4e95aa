"""What Pods are, and what becomes of them."""

import base64
import json
import os
import re
import signal
import sqlite3

from conftest import BUILD_S, DEPLOY, NAMESPACE, free_port
from kit.process import wait_until

WAIT = """
import sys, time
from adit import App
app = App()
@app.function(cpu=(0.2, 1.5), memory=(100, 200))
def wait():
    print("out", flush=True)
    print("err", file=sys.stderr, flush=True)
    time.sleep(600)
"""
BURN = """
import time
from adit import App
app = App()
@app.function()
def burn():
    while time.process_time() < 2:
        pass
    return time.process_time()
"""
OUTLIVES_S = 20  # its caller, at most
HASH = "$2b$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O"  # of "sesame"


def running(cluster, function):
    """Its Pods that are up."""
    pods = [pod for pod in cluster.pods() if pod["metadata"]["annotations"]["adit.function"] == function]
    return [pod for pod in pods if pod["status"]["phase"] == "Running"]


def test_a_pod_is_as_hardened_as_a_container_and_says_nothing_of_what_it_shows_the_foreman(adit, program, cluster):
    run = adit("run", program("wait.py", WAIT))
    run.out.wait(lambda line: line == "out", BUILD_S)
    run.out.wait(lambda line: line == "err")
    [pod] = running(cluster, "wait")
    spec, [container] = pod["spec"], pod["spec"]["containers"]
    assert re.fullmatch(rf"{cluster.registry}/tests/adit@sha256:[0-9a-f]{{64}}", container["image"])
    assert spec["restartPolicy"] == "Never" and spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsUser"] >= 20_000 and spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["resources"]["requests"] == {"cpu": "200m", "memory": str(100 << 20)}
    assert container["resources"]["limits"] == {"cpu": "1500m", "memory": str(200 << 20)}
    secret = cluster.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/{pod['metadata']['name']}")
    shown = json.loads(base64.b64decode(secret["data"]["settings"]))["bearer"]
    assert re.fullmatch("[0-9a-f]{64}", shown) and shown not in json.dumps(pod)
    assert secret["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
    run.kill(signal.SIGINT)
    assert run.wait(60) == 130


def test_pods_of_a_caller_that_is_killed_end_and_are_gone_with_the_next(adit, program, cluster, nothing_stays):
    run = adit("run", program("wait.py", WAIT))
    run.out.wait(lambda line: line == "out", BUILD_S)
    assert running(cluster, "wait")
    run.kill(signal.SIGKILL)
    wait_until(lambda: not running(cluster, "wait"), "it goes on without its caller", OUTLIVES_S)
    again = adit("run", program("burn.py", BURN))
    assert again.wait(BUILD_S) == 0, again.report()
    nothing_stays()


def test_an_image_that_nodes_may_not_pull_fails_at_once_with_the_registrys_word(
    adit, program, cluster, box, nothing_stays
):
    port = free_port("127.0.0.1")
    cluster.start_registry(port, HASH)
    login = {"auths": {f"127.0.0.1:{port}": {"auth": base64.b64encode(b"tester:sesame").decode()}}}
    box.file("config.json", json.dumps(login))
    env = {"DOCKER_CONFIG": box.path, "ADIT_REGISTRY": f"127.0.0.1:{port}/it"}
    run = adit("run", program("burn.py", BURN), env=env)
    assert run.wait(BUILD_S) == 1, run.report()
    assert "ErrImagePull" in run.err.text() and "401 Unauthorized" in run.err.text(), run.report()
    nothing_stays()


def test_what_a_pod_reports_of_itself_is_what_it_used(adit, program, settings):
    run = adit("run", "-q", program("burn.py", BURN))
    assert run.wait(BUILD_S) == 0, run.report()
    store = os.path.join(settings["HOME"], ".local", "state", "adit", "functions.db")
    with sqlite3.connect(store) as rows:
        kind = "SELECT how, cpu_ns, memory_peak FROM usage WHERE function = 'burn' ORDER BY began DESC LIMIT 1"
        [(how, cpu_ns, memory)] = rows.execute(kind)
    own = float(run.out.lines[0])
    assert how == "reported" and own <= cpu_ns / 1e9 < own + 2 and memory > 10 << 20


def test_doctor_looks_at_the_cluster(adit, cluster, settings):
    found = adit("doctor")
    assert found.wait(120) == 0, found.report()
    assert "Kubernetes v1." in found.out.text() and "all that a foreman needs" in found.out.text()
    nothing = adit("doctor", env={"KUBECONFIG": cluster.kubeconfig("nobody", "nobody", NAMESPACE)})
    assert nothing.wait(120) == 1 and "cluster" in nothing.out.text()


def test_the_account_may_do_no_more_than_is_needed(cluster, account):
    with open(account) as file:
        token = json.load(file)["users"][0]["user"]["token"]
    pods = f"/api/v1/namespaces/{NAMESPACE}"
    refused = [
        ("GET", f"{pods}/secrets"),
        ("GET", f"{pods}/configmaps"),
        ("POST", f"{pods}/pods/some/exec"),
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/namespaces/default/pods"),
        ("GET", "/api/v1/namespaces/kube-system/secrets"),
        ("DELETE", f"{pods}/secrets/some"),
    ]
    assert [cluster.ask(*what, token=token)[0] for what in refused] == [403] * len(refused)
    pod = {"metadata": {"name": "wide"}, "spec": {"containers": [{"name": "c", "image": "i"}], "hostNetwork": True}}
    status, said = cluster.ask("POST", f"{pods}/pods", pod, token=token)
    assert status == 403 and "violates PodSecurity" in said["message"]


def test_what_a_user_applies_is_understood(cluster, account):
    for name in ("functions.yaml", "network.yaml", "relay.yaml", "foreman.yaml"):
        cluster.apply(os.path.join(DEPLOY, name))


SLOW = """
import time
from adit import App
app = App()
@app.function(timeout=60)
def burn(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return time.process_time()
"""


def test_a_pod_that_says_too_little_is_billed_by_what_its_node_has_counted(configured, cluster, program, monkeypatch):
    """As a user who lets the foreman see that (meter.yaml)."""
    from adit.functions import bundle, session
    from adit.functions.engine.gate import Guest

    cluster.apply(os.path.join(DEPLOY, "meter.yaml"))
    session.close()  # a foreman that was refused does not ask again
    hear = Guest._hear
    less = lambda said: {**said, "used": said.get("used") and [said["used"][0] // 100, said["used"][1]]}  # noqa: E731
    monkeypatch.setattr(Guest, "_hear", lambda guest, said: hear(guest, less(said)))
    module = bundle.load(program("slow.py", SLOW))
    with module.app.run(show_progress=False):
        call = module.burn.spawn(40)
        own = call.get()
        assert call.usage.core_hours * 3600 > own / 2
