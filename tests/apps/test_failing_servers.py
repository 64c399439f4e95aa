"""Examples that start a server: what they do when it ends by itself."""
import os

import pytest


@pytest.mark.parametrize("name,server",
                         [("terminal.py", "wetty"), ("vite.py", "vite"), ("jupyter.py", "jupyter"),
                          ("vscode.py", "code-server"),
                                         ("ssh.py", "sshd")])
def test_its_exit_status_is_that_of_its_server(example, box, name, server):
    folder = box.file("bin")
    os.mkdir(folder)
    box.file(f"bin/{server}", "#!/bin/sh\necho does not start >&2\nexit 3\n", mode=0o755)
    running = example(name, path=[folder])
    assert running.program.wait() == 3 and "does not start" in running.err.text()
