"""`./try`, the first command of a newcomer."""
import contextlib
import os
import signal
import socket

import pytest

from kit.process import DEADLINE_S, wait_readable

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
TRY = os.path.join(ROOT, "try")
SECONDS = DEADLINE_S * 6            # it may build first


def test_it_fetches_a_page_through_its_public_address(box):
    done = box.run(TRY, seconds=SECONDS)
    assert (
        done.returncode == 0 and "HTTP 200, TLS verified: 0" in done.stdout and "Hello through adit" in done.stdout
    ), done


def test_a_port_where_nothing_listens_is_told(box):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    done = box.run(TRY, port, seconds=SECONDS)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"try: 127.0.0.1:{port}: nothing listens there (start it, or check the port)\n"


@pytest.mark.parametrize("args", [["8000", "8001"], ["nonsense"], ["--port"]], ids=" ".join)
def test_wrong_usage_is_refused(box, args):
    done = box.run(TRY, *args)
    assert done.returncode == 2 and done.stderr.startswith(f"try: {args[-1]}: ") and done.stderr.endswith(")\n"), done


def test_a_reader_that_goes_away_leaves_nothing_running(box):
    """Everything that it starts inherits an end of a pipe, which so ends with the last of them."""
    read, write = os.pipe()
    program = box.start(["sh", "-c", f"{TRY} | head -n 1"], pass_fds=[write], new_session=True)
    os.close(write)
    try:
        assert wait_readable([read], SECONDS) and os.read(read, 1) == b""
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
    program.out.wait(lambda line: line.startswith("web server"))
