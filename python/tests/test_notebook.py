"""In a Jupyter kernel, as notebooks have it: cells are run again, interrupted, and lose what they have opened."""

import threading

import pytest
from jupyter_client.manager import start_new_kernel
from kit.app import echo, read_exactly

import adit

WAIT_S = 60


class Notebook:
    def __init__(self, box, token):
        env = {
            **box.env,
            "ADIT_TOKEN": token,
            "IPYTHONDIR": box.file("ipython"),
            "JUPYTER_RUNTIME_DIR": box.file("run"),
        }
        self.manager, self.client = start_new_kernel(kernel_name="python3", env=env, startup_timeout=WAIT_S)

    def run(self, cell, running=None):
        """What a cell shows, and the name and text of the exception that ends it."""
        shown, failure = [], None

        def show(message):
            nonlocal failure
            content = message["content"]
            if message["msg_type"] == "stream":
                shown.append(content["text"])
                if running is not None:
                    running.set()
            elif message["msg_type"] == "execute_result":
                shown.append(content["data"]["text/plain"])
            elif message["msg_type"] == "error":
                failure = content["ename"], content["evalue"]

        self.client.execute_interactive(cell, timeout=WAIT_S, output_hook=show)
        return "".join(shown).strip(), failure

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook(box, token):
    made = Notebook(box, token)
    yield made
    made.close()


def tunnel_of(url):
    host, port = url.removeprefix("https://").split(":")
    return adit.Tunnel(host, int(port))


CELL = """
import adit
tunnel = adit.forward({port}).start()
print(tunnel.url)
"""


@pytest.mark.parametrize("client", ["", ", client=adit.Client()"], ids=["default client", "own client"])
def test_a_cell_that_is_run_again_says_how_to_close_what_it_has_opened(notebook, app, visitor, client):
    """Also when its name was lost, and with a client that nobody else has: then the second is another's, and goes on
    beside the first."""
    port = app(echo).port
    cell = CELL.format(port=f"{port}{client}")
    url, failure = notebook.run(cell)
    assert failure is None
    notebook.run("tunnel = None; import gc; gc.collect()")
    again, failure = notebook.run(cell)
    if client:
        assert failure is None and again != url
    else:
        name, text = failure
        assert name == "InvalidError" and url in text
        assert f"(close that one first: adit.tunnels({port})[0].close())" in text
    v = visitor(tunnel_of(url))
    v.sendall(b"x")
    assert read_exactly(v, 1) == b"x"
    assert notebook.run(f"for t in adit.tunnels({port}): t.close()\nadit.tunnels()") == ("[]", None)
    url, failure = notebook.run(cell)
    assert failure is None and url


def test_a_cell_shows_what_is_open(notebook):
    url, _ = notebook.run(CELL.format(port=8000))
    assert notebook.run("tunnel") == (f"<adit.Tunnel {url} of localhost:8000, open>", None)
    assert notebook.run("adit.tunnels()") == (f"[<adit.Tunnel {url} of localhost:8000, open>]", None)


def test_a_cell_that_waits_is_interrupted(notebook):
    """Which closes nothing, as it is no block."""
    notebook.run(CELL.format(port=8000))
    running = threading.Event()

    def interrupt():
        running.wait(WAIT_S)
        notebook.manager.interrupt_kernel()

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    _, failure = notebook.run("print('waits', flush=True)\ntunnel.wait()", running)
    interrupting.join()
    assert failure[0] == "KeyboardInterrupt"
    assert notebook.run("tunnel.closed, len(adit.tunnels())") == ("(False, 1)", None)


def test_a_cell_that_awaits(notebook):
    """A notebook has an event loop of its own."""
    cell = "import adit\nasync with adit.forward(8000) as t: print(t.url)\nt.reason"
    assert notebook.run(cell)[0].endswith("'closed'")
    _, failure = notebook.run("tunnel = await adit.forward(8000)\nprint(tunnel.url)")
    assert failure is None
    assert notebook.run("await tunnel.aclose(); adit.tunnels()") == ("[]", None)
