"""A terminal of this container in the browser.

    python examples/terminal.py

Needs wetty (npm install -g wetty), and root as containers have it: for other users wetty logs in by ssh. Whoever has
the printed URL has a shell here. The tunnel's host name can be seen on the network, the path cannot: it is the secret.
"""
import contextlib
import secrets
import subprocess
import sys

from adit import forward

PORT = 3000

with contextlib.suppress(KeyboardInterrupt), forward(PORT) as tunnel:
    path = "/" + secrets.token_urlsafe(16)
    print(f"Terminal at {tunnel.url}{path}", flush=True)
    wetty = ["wetty", "--host=127.0.0.1", f"--port={PORT}", f"--base={path}", "--command=bash", "--log-level=info"]
    sys.exit(subprocess.run(wetty).returncode)
