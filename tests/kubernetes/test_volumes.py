"""Volumes: claims of storage, which several Pods share."""

import os

import pytest

from conftest import DEPLOY, NAMESPACE, PROGRAMS
from kit.process import wait_until

USES = """
from adit import App, Volume
app = App()
@app.function(volumes={"/data": Volume.from_name("needed", create_if_missing=True)})
def use():
    pass
"""


def claims(cluster):
    return cluster.get(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims")["items"]


@pytest.fixture(scope="module")
def files(configured, cluster):
    """The module programs/volumes.py of tests/functions, its app running."""
    from adit.functions import bundle

    cluster.add_storage(3)
    cluster.apply(os.path.join(DEPLOY, "volumes.yaml"))
    os.environ["TEST_VOLUME"] = "Shared_1"
    module = bundle.load(os.path.join(PROGRAMS, "volumes.py"))
    with module.app.run(show_progress=False):
        yield module
    names = lambda: [claim["metadata"]["name"] for claim in claims(cluster)]  # noqa: E731
    wait_until(lambda: not any("ephemeral" in name for name in names()), "the ephemeral one stays", 60)
    assert any(name.startswith(f"adit-{os.getuid()}-shared-1-") for name in names())


def test_without_the_right_to_claim_storage_that_is_said(adit, program):
    run = adit("run", program("uses.py", USES))
    assert run.wait(60) == 1
    assert "volumes.yaml" in run.err.text() and "cannot list resource" in run.err.text(), run.report()


def test_what_one_pod_writes_the_next_reads_and_changes(files):
    first, second = files.write.remote("a", "one "), files.write.remote("a", "two")
    assert first != second
    assert files.read.remote("a") == ("one two", 2)


def test_an_ephemeral_volume_is_shared_while_the_app_runs(files):
    assert files.note.remote("x") == [] and files.note.remote("y") == ["x"]


def test_storage_that_the_cluster_has_not_is_told(files, adit, program):
    text = USES.replace("needed", "other").replace("(volumes", "(startup_timeout=10, volumes")
    run = adit("run", program("uses.py", text), env={"ADIT_VOLUME_SIZE": "500Gi"})
    assert run.wait(120) == 1
    assert "no node takes it: 0/1 nodes are available" in run.err.text(), run.report()
    assert "persistent volume" in run.err.text(), run.report()
