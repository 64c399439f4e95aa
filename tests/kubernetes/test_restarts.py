"""A foreman that ends and comes back while its Pods go on: as with containers of its own machine (tests/functions), and
what is different."""

import signal

import pytest
from cluster import ADDRESS
from conftest import NAMESPACE, free_port
from kit.process import wait_until
from test_restart import (  # some for each engine
    shop,
    test_a_call_goes_on_in_its_container_and_its_result_is_fetched,
    test_a_map_and_a_generator_go_on,
    test_a_timeout_counts_on,
    test_calls_that_wait_are_begun_later_each_once,
    test_the_containers_of_an_endpoint_stay_warm_at_its_url,
    test_whoever_waits_hears_of_it_from_the_next_foreman,
)

PAST_PATIENCE_S = 90  # 30 of the Pod's, and some for a busy machine


def test_what_ends_while_there_is_no_foreman_counts_once_and_is_metered(shop):
    call = shop.spawn("burn")
    shop.said("burning")
    shop.service.end()
    pod = shop.service.container("burn")
    wait_until(lambda: b"burnt" in shop.service.log(pod), "it does not end", 60)
    shop.service.start()
    burnt = float(shop.result(call))
    used = float(shop.do(f"print(FunctionCall.from_id({call!r}).usage.core_hours * 3600)"))
    assert 0 < burnt <= used < burnt + 2
    lines = shop.service.done("app", "logs", "shop").out.lines
    assert (lines.count("burning"), lines.count("burnt")) == (1, 1)


def test_a_pod_that_is_gone_meanwhile_is_told_and_its_call_tried_again_if_it_may(shop):
    lost, kept = shop.spawn("hold", 1), shop.spawn("again", 2)
    shop.said("holding 1")
    shop.said("holding 2")

    def remove():
        for pod in map(shop.service.container, ("hold", "again")):
            path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}?gracePeriodSeconds=0"
            assert shop.service.cluster.ask("DELETE", path)[0] == 200

    shop.restart(meanwhile=remove)
    failed = shop.begin(f"FunctionCall.from_id({lost!r}).get()")
    assert failed.wait(60) == 1
    assert "ExecutionError: hold: its container is gone since the foreman was restarted" in failed.err.text()
    shop.do("go.put('x')")
    assert shop.result(kept).startswith("(2, ")


@pytest.fixture
def early(adit, cluster, account, box):
    """A foreman that is there before its cluster, and at which port it looks for that."""
    port = free_port(ADDRESS)
    with open(account) as file:
        text = file.read().replace(f":{cluster.api}", f":{port}")
    foreman = adit(
        "foreman", "--socket", box.file("caller.sock"), env={"KUBECONFIG": cluster.write("early.config", text)}
    )
    foreman.err.wait(lambda line: "asked again for 30 s" in line, 60)
    return foreman, port


def test_one_that_is_there_before_its_cluster_waits_for_it(early, cluster, box):
    foreman, port = early
    box.start(["socat", f"TCP-LISTEN:{port},bind={ADDRESS},reuseaddr,fork", f"TCP:{ADDRESS}:{cluster.api}"])
    foreman.err.wait(lambda line: "listens at" in line, 60)
    assert foreman.stop() == 0


def test_one_that_waits_for_its_cluster_ends_when_it_is_told_to(early):
    foreman, _ = early
    assert foreman.stop() == 0


def test_pods_of_a_foreman_that_does_not_come_back_end(shop):
    shop.spawn("hold", 1)
    shop.said("holding 1")
    shop.service.end(signal.SIGKILL)
    assert shop.service.pods("hold")
    wait_until(lambda: not shop.service.pods("hold"), "it goes on without its foreman", PAST_PATIENCE_S)
    shop.service.start()
