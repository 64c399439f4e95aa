"""GPUs: what a Pod asks the cluster for. The node says that it has some, and has none."""

import json

import pytest

from conftest import BUILD_S
from kit.process import wait_until

NEEDS = """
from adit import App
app = App()
@app.function(gpu="{}", startup_timeout={})
def use():
    return "used"
"""
RESOURCE = "nvidia.com/gpu"


@pytest.fixture(scope="module")
def gpus(cluster):
    cluster.change_node({"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "2"}, part="/status")
    cluster.change_node({"op": "add", "path": "/metadata/labels/adit.gpu", "value": "A100-80GB"})
    allocatable = lambda: cluster.node["status"]["allocatable"].get(RESOURCE)  # noqa: E731
    wait_until(lambda: allocatable() == "2", "the node has no GPUs", 60)


@pytest.mark.parametrize(
    ("gpu", "selector", "count"), [("A100-80GB:2", {"adit.gpu": "A100-80GB"}, "2"), ("any", None, "1")]
)
def test_a_pod_comes_to_a_node_that_has_what_it_asks_for(gpus, adit, program, cluster, settings, gpu, selector, count):
    run = adit("run", "-q", program("needs.py", NEEDS.format(gpu, 120)))
    seen = {}

    def look():
        seen.update({pod["metadata"]["name"]: pod for pod in cluster.pods() if RESOURCE in json.dumps(pod["spec"])})
        return not run.running

    wait_until(look, "it does not end", BUILD_S)
    assert run.wait() == 0 and run.out.lines == ["used"], run.report()
    [pod] = seen.values()
    [container] = pod["spec"]["containers"]
    assert pod["spec"].get("nodeSelector") == selector
    assert container["resources"]["limits"][RESOURCE] == container["resources"]["requests"][RESOURCE] == count


@pytest.mark.parametrize(
    ("gpu", "reason"), [("H100", "node affinity/selector"), ("any:3", "Insufficient nvidia.com/gpu")]
)
def test_one_that_no_node_has_is_told_in_a_sentence(gpus, adit, program, nothing_stays, gpu, reason):
    run = adit("run", "-q", program("needs.py", NEEDS.format(gpu, 5)))
    assert run.wait(BUILD_S) == 1, run.report()
    said = run.err.lines[-1]
    assert "no node takes it: 0/1 nodes are available: " in said and reason in said, run.report()
    assert said.endswith("(within 5 s, see startup_timeout=)") and "preemption" not in said, run.report()
    nothing_stays()
