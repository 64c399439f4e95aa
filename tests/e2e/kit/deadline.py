"""A test that hangs fails."""
import signal

import pytest


def ends_after(seconds):
    """What a conftest.py calls pytest_runtest_protocol."""
    @pytest.hookimpl(hookwrapper=True)
    def hook(item):
        def late(*_):
            raise TimeoutError(f"the test is not done after {seconds} s")
        before = signal.signal(signal.SIGALRM, late)
        signal.alarm(seconds)
        yield
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return hook
