"""What a foreman may do in a cluster: what functions.yaml gives it is all that it needs, and each of it is needed."""

import json

import pytest

from conftest import BUILD_S, NAMESPACE
from test_pods import BURN

RIGHTS = [
    *(("pods", verb) for verb in ("create", "list", "watch", "delete")),
    ("pods/log", "get"),
    ("secrets", "create"),
]


def rules(cluster):
    return cluster.get(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/adit-foreman")["rules"]


def test_these_are_all_that_a_foreman_has(account, cluster):
    assert sorted((what, verb) for r in rules(cluster) for what in r["resources"] for verb in r["verbs"]) == sorted(
        RIGHTS
    )


@pytest.mark.parametrize(("what", "verb"), RIGHTS)
def test_without_one_of_them_it_says_which(account, cluster, adit, program, nothing_stays, what, verb):
    fewer = json.loads(json.dumps(rules(cluster)))
    for rule in fewer:
        if what in rule["resources"]:
            rule["verbs"].remove(verb)
    name = f"no-{verb}-{what.replace('/', '-')}"
    config = cluster.account(NAMESPACE, name, [rule for rule in fewer if rule["verbs"]])
    run = adit("run", "-q", program("burn.py", BURN), env={"KUBECONFIG": config})
    assert run.wait(BUILD_S) == 1, run.report()
    said = run.err.lines[-1]
    assert verb in said and what in said and "deploy/kubernetes/functions.yaml" in said, run.report()
    nothing_stays()
