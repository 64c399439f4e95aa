"""How a runner waits for coroutines."""

import asyncio
import concurrent.futures
import threading

import pytest

from adit.functions.coroutines import Together


class Channel:
    """Tells of one call that is over, as soon as it may."""

    def __init__(self):
        self.may_tell, self.has_told = threading.Event(), threading.Event()

    def poll(self, verb, meta):
        if meta["have"] == 0:
            assert self.may_tell.wait(10)
            return {"over": ["fc-1"]}, b""
        self.has_told.set()
        threading.Event().wait()


def test_a_call_that_is_over_as_soon_as_it_begins_is_cancelled(monkeypatch):
    channel, schedule = Channel(), asyncio.run_coroutine_threadsafe

    def and_pause(coroutine, loop):
        future = schedule(coroutine, loop)
        channel.may_tell.set()
        channel.has_told.wait(0.2)
        return future

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", and_pause)
    together = Together(channel)
    with pytest.raises(concurrent.futures.CancelledError):
        together.wait(asyncio.wait_for(asyncio.sleep(60), 10), "fc-1")
