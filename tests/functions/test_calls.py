"""Calls from a caller and from containers, on both engines: results, errors, and all the ways to call."""
import asyncio

import pytest

from adit import gather
from adit.exception import CancelledError, ExecutionError, FunctionTimeoutError, InvalidError
from adit.exception import TimeoutError as Late


@pytest.fixture(scope="module")
def calls(calls_of_both):
    return calls_of_both


def test_a_call_returns_what_the_function_returns(calls):
    assert calls.double.remote(4, plus=1) == 9
    assert calls.double.local(4) == 8


@pytest.mark.parametrize("value", [None, 1.5, "ä", [1, [2]], {"a": 1}, (1, 2), {3: 4}, b"bytes", {1, 2}])
def test_values_come_back_as_they_were(calls, value):
    back = calls.echo.remote(value)
    assert back == value and type(back) is type(value)


def test_an_exception_is_raised_as_itself_with_the_remote_lines(calls):
    with pytest.raises(calls.Wrong) as caught:
        calls.fail.remote(7)
    assert caught.value.code == 7
    assert "raise Wrong(code)" in str(caught.value.__cause__)


def test_what_cannot_be_sent_back_is_said(calls):
    with pytest.raises(ExecutionError, match="lock cannot be sent"):
        calls.unsendable.remote()


def test_a_container_that_ends_itself_is_told_with_its_status(calls):
    with pytest.raises(ExecutionError, match="ended with status 3"):
        calls.leave.remote(3)


def test_a_container_out_of_memory_is_told_as_such(calls):
    with pytest.raises(ExecutionError, match="out of memory .limit 96 MiB"):
        calls.eat.remote()


def test_what_takes_too_long_is_ended(calls):
    with pytest.raises(FunctionTimeoutError, match="longer than 1 s"):
        calls.sleep.remote(600)


def test_spawn_does_not_wait_and_get_may_be_asked_again(calls):
    from adit import FunctionCall, Queue
    with Queue.ephemeral() as q:
        call = calls.wait_for.spawn(q)
        with pytest.raises(Late):
            call.get(timeout=0)
        q.put("now")
        assert call.get() == "now"
        assert FunctionCall.from_id(call.object_id).get() == "now"


def test_a_call_can_be_cancelled(calls):
    from adit import Queue
    with Queue.ephemeral() as q:
        call = calls.wait_for.spawn(q)
        call.cancel()
        with pytest.raises(CancelledError):
            call.get()


def test_calls_at_the_same_time_have_a_container_each(calls):
    from adit import Queue
    with Queue.ephemeral() as one, Queue.ephemeral() as two:
        seen = gather(calls.meet.spawn(one, two), calls.meet.spawn(two, one))
        assert len(set(seen)) == 2


def test_map_keeps_the_order_within_its_limit(calls):
    assert list(calls.square.map(range(20))) == [n * n for n in range(20)]
    assert sorted(calls.square.map(range(5), order_outputs=False)) == [0, 1, 4, 9, 16]
    assert list(calls.add.starmap([(1, 2), (3, 4)])) == [3, 7]
    assert list(calls.add.map([1, 2], [10, 20])) == [11, 22]


def test_map_raises_the_first_error_or_returns_it_in_its_place(calls):
    with pytest.raises(calls.Wrong):
        list(calls.fail.map([1]))
    [got] = calls.fail.map([2], return_exceptions=True)
    assert got.code == 2
    calls.fail.for_each([3], ignore_exceptions=True)


def test_an_exception_may_say_much(calls):
    for error in calls.run_code.map(['raise ValueError("😀" * 200_000)'] * 3, return_exceptions=True):
        assert isinstance(error, ValueError) and str(error) == "😀" * 200_000
        assert "ValueError" in str(error.__cause__)


def test_generators_give_their_values_as_they_come(calls):
    assert list(calls.count.remote_gen(3)) == [0, 1, 2]
    with pytest.raises(InvalidError, match="remote_gen"):
        calls.count.remote(3)


def test_a_map_leaves_nothing_of_its_results_at_the_foreman(calls):
    from adit.functions.session import _session
    kept, most, known = _session.foreman._foreman.calls, 0, 0
    before = kept.kept_bytes, len(kept._calls)
    for n, result in enumerate(calls.large.map(range(1000), order_outputs=False)):
        most, known = max(most, kept.kept_bytes - before[0]), max(known, len(kept._calls) - before[1])
        assert len(result) == 100_000
    assert n == 999
    assert most <= 209 * 120_000 and known <= 209    # 200 under way, and those of the last answer
    assert (kept.kept_bytes, len(kept._calls)) == before


def test_a_map_that_is_left_early_ends_its_calls(calls):
    from adit import Queue
    with Queue.ephemeral() as q:
        for _ in calls.wait_if_odd.map([0, 1, 3], kwargs={"q": q}):
            break
        q.put("too late")
        assert calls.double.remote(1) == 2
    with pytest.raises(InvalidError, match="it takes inputs"):
        calls.square.map()


def test_maps_and_gather_have_asynchronous_twins(calls):
    from adit import Queue

    async def inputs(n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def all_of_it():
        squares = [v async for v in calls.square.map.aio(inputs(3))]
        sums = [v async for v in calls.add.starmap.aio([(1, 2), (3, 4)])]
        await calls.square.for_each.aio(inputs(2))
        gathered = await gather.aio(await calls.double.spawn.aio(1), await calls.double.spawn.aio(2))
        async with Queue.ephemeral() as q:
            await q.put.aio("x")
            left = [v async for v in q.iterate.aio()]
        async for first in calls.square.map.aio(range(10)):
            break
        return squares, sums, gathered, left, first
    assert asyncio.run(all_of_it()) == ([0, 1, 4], [3, 7], [2, 4], ["x"], 0)


def test_an_error_of_a_map_arrives_in_the_loop(calls):
    async def one():
        return [v async for v in calls.fail.map.aio([1])]
    with pytest.raises(calls.Wrong):
        asyncio.run(one())


def test_everything_has_an_asynchronous_twin(calls):
    async def all_of_it():
        values = [v async for v in calls.count.remote_gen.aio(2)]
        call = await calls.double.spawn.aio(2)
        return await calls.double.remote.aio(1), await call.get.aio(), values
    assert asyncio.run(all_of_it()) == (2, 4, [0, 1])


def test_functions_may_be_coroutines(calls):
    assert calls.later.remote(1) == 2


def test_a_function_that_fails_is_tried_again_as_often_as_is_said(calls):
    from adit import Queue
    with Queue.ephemeral() as q:
        assert calls.third_time.remote(q) == 3


def test_functions_call_functions(calls):
    assert calls.nested.remote(5) == 11
    assert calls.with_queue.remote() == "through"


def test_a_container_knows_what_it_is(calls):
    local, call = calls.where.remote()
    assert local is False and call.startswith("fc-")


def test_calling_the_function_itself_says_what_to_do(calls):
    with pytest.raises(TypeError, match=r"double.remote\(...\)"):
        calls.double(1)


def test_without_a_running_app_it_says_what_to_do(configured):
    from adit import App
    app = App()

    with pytest.raises(InvalidError, match="does not run"):
        app._where()
