"""Queues, as a caller uses them."""
import queue
import threading

import pytest

from adit import Queue
from adit.exception import InvalidError, NotFoundError


@pytest.fixture
def q(configured):
    with Queue.ephemeral(maxsize=3) as made:
        yield made


def test_first_in_is_first_out_whatever_the_items_are(q):
    q.put({"a": 1})
    q.put_many([(1, 2), b"x"])
    assert q.len() == 3
    assert q.get() == {"a": 1}
    assert q.get_many(5) == [(1, 2), b"x"]


def test_an_empty_queue_is_told(q):
    assert q.get(block=False) is None
    assert q.get_many(2, block=False) == []
    with pytest.raises(queue.Empty):
        q.get(timeout=0.01)


def test_a_full_queue_is_told_and_waited_for(q):
    q.put_many([1, 2, 3])
    with pytest.raises(queue.Full):
        q.put(4, block=False)
    with pytest.raises(queue.Full):
        q.put(4, timeout=0.01)
    putting = threading.Thread(target=q.put, args=(4,))
    putting.start()
    assert q.get() == 1
    putting.join(20)
    assert q.get_many(3) == [2, 3, 4]


def test_partitions_are_queues_of_their_own(q):
    q.put("a", partition="one")
    assert q.get(block=False) is None
    assert q.len(partition="one") == 1 and q.len(total=True) == 1
    q.clear(all=True)
    assert q.len(total=True) == 0


def test_iterating_leaves_the_items(q):
    q.put_many([1, 2])
    assert list(q.iterate()) == [1, 2]
    assert q.len() == 2


def test_whoever_waits_on_a_queue_that_ends_is_told_at_once(configured):
    failures = []
    with Queue.ephemeral() as q:
        identity = q.object_id
        started = threading.Event()

        def wait():
            started.set()
            try:
                q.get()
            except NotFoundError as error:
                failures.append(error)
        waiting = threading.Thread(target=wait)
        waiting.start()
        started.wait(20)
    waiting.join(20)
    assert len(failures) == 1
    with pytest.raises(NotFoundError):
        Queue._of(identity).put(1)


def test_named_queues_are_found_by_all(configured):
    with pytest.raises(NotFoundError, match="create_if_missing"):
        Queue.from_name("nobody's").put(1)
    Queue.from_name("ours", create_if_missing=True).put(1)
    assert Queue.from_name("ours").get() == 1


def test_what_is_too_large_is_refused(q):
    with pytest.raises(InvalidError, match="larger than 1 MiB"):
        q.put(b"x" * (1 << 20))


def test_a_queue_without_a_block_says_what_to_do():
    with pytest.raises(InvalidError, match="from_name"):
        Queue()
    with pytest.raises(InvalidError, match="with Queue.ephemeral"):
        Queue.ephemeral().put(1)
