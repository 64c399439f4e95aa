"""The first process of a container: it takes the orphans that others leave, and passes on the signals that the engine
sends it. Engines have programs for that (``--init``), which are not installed everywhere."""

from __future__ import annotations

import contextlib
import os
import signal

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SIGNALLED = 128


def _pass_on(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended, and is about to be waited for
        os.kill(child, number)


def leave() -> None:
    """Returns in a child; the first process stays behind, and ends as its child does. In any other process it does
    nothing."""
    if os.getpid() != 1:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child != 0:
        for number in _PASSED_ON:
            signal.signal(number, lambda n, _: _pass_on(child, n))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    if child == 0:
        return
    ended, status = os.wait()
    while ended != child:
        ended, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else _SIGNALLED - code)
