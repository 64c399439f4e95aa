"""A Vite project, edited here and seen live in a browser anywhere.

    python examples/vite.py [PROJECT]

Needs vite (npm install -g vite). PROJECT is a folder with an index.html, such as one made by `npm create vite`; without
it, examples/vite.
"""
import contextlib
import os
import subprocess
import sys

from adit import forward

PORT = 5173
project = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "vite")

with contextlib.suppress(KeyboardInterrupt), forward(PORT) as tunnel:
    print(f"{tunnel.url} shows {project}", flush=True)
    # Vite answers only to host names that it knows. This variable adds one to those of the project's own
    # server.allowedHosts.
    env = {**os.environ, "__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS": tunnel.host}
    sys.exit(subprocess.run(["vite", project, "--host=127.0.0.1", f"--port={PORT}", "--strictPort"],
                            env=env).returncode)
