"""Several calls at once in one container, and what ends some of them."""
import collections

import pytest

from adit import Queue, gather
from adit.exception import CancelledError, ExecutionError, FunctionTimeoutError


def test_calls_of_one_container_run_at_the_same_time(calls):
    spawned = [calls.together.spawn(n) for n in range(3)]
    seen = gather(*spawned)
    assert len({container for container, _, _ in seen}) == 1
    assert [(call, n) for _, call, n in seen] == [(call.object_id, n) for n, call in enumerate(spawned)]


def test_coroutines_share_a_loop_and_one_that_is_cancelled_ends_alone(calls):
    with Queue.ephemeral() as q:
        waiting = [calls.together_in_a_loop.spawn(q, n, wait=True) for n in range(3)]
        assert [q.get(timeout=60) for _ in waiting] == ["here"] * 3
        for call in waiting:
            call.cancel()
            with pytest.raises(CancelledError):
                call.get()
        assert [q.get(timeout=60) for _ in waiting] == ["cancelled"] * 3
        spawned = [calls.together_in_a_loop.spawn(q, n, wait=False) for n in range(6)]
        seen = gather(*spawned)
        assert len({(container, loop) for container, loop, _ in seen}) == 1
        assert [call for _, _, call in seen] == [call.object_id for call in spawned]


def test_a_timeout_ends_its_call_and_not_its_neighbour(calls):
    with Queue.ephemeral() as q, Queue.ephemeral() as go:
        slow = calls.slow_beside.spawn(q, go)
        container = q.get(timeout=60)
        with pytest.raises(FunctionTimeoutError, match="longer than 1 s"):
            slow.get()
        assert calls.slow_beside.remote(q, None) == "quick" and q.get() == container
        go.put("end")
        assert calls.slow_beside.remote(q, None) == "quick" and q.get() == container


def test_a_container_in_which_all_is_stuck_is_replaced(calls):
    with Queue.ephemeral() as q, Queue.ephemeral() as never:
        stuck = [calls.slow_beside.spawn(q, never) for _ in range(2)]
        containers = {q.get(timeout=60) for _ in stuck}
        for call in stuck:
            with pytest.raises(FunctionTimeoutError):
                call.get()
        assert calls.slow_beside.remote(q, None) == "quick"
        assert q.get() not in containers and len(containers) == 1


def test_a_call_that_is_tried_again_has_its_time_anew(calls, monkeypatch):
    from adit.functions.foreman.worker import Worker
    given, begin = [], Worker.begin

    def note(worker, call, slot):
        begin(worker, call, slot)
        given.append(worker._timers[call.id])
    monkeypatch.setattr(Worker, "begin", note)
    with Queue.ephemeral() as q:
        assert calls.leave_once.remote(q) == "second try"
    assert [timer.cancelled() for timer in given] == [True, True]


def test_an_exit_ends_the_container(calls):
    with pytest.raises(ExecutionError, match="ended with status 5"):
        calls.leave_beside.remote(5)


def test_an_asynchronous_generator_may_have_neighbours(calls):
    assert list(calls.count_in_a_loop.remote_gen(3)) == [0, 1, 2]


def test_a_container_takes_no_more_inputs_than_it_may_however_many_wait(calls):
    assert set(collections.Counter(calls.once.map(range(6))).values()) == {1}
    seen = collections.Counter(calls.twice.map(range(8)))
    assert len(seen) == 4 and set(seen.values()) == {2}
