"""VS Code in a browser, for the folder you are in.

    python examples/vscode.py

Needs code-server on PATH: `npm install --global code-server`, or see examples/README.md. It asks for the password
printed with its URL.
"""
import os
import secrets
import subprocess
import sys

from adit import forward

password = secrets.token_urlsafe(24)

with forward(8080) as tunnel:
    print(tunnel.url, f"password: {password}", sep="\n", flush=True)
    editor = ["code-server", "--bind-addr=127.0.0.1:8080", "--auth=password", "--disable-telemetry",
              "--disable-update-check", "."]
    with subprocess.Popen(editor, env={**os.environ, "PASSWORD": password}) as server:
        try:
            sys.exit(server.wait())
        except KeyboardInterrupt:
            server.wait()                                       # it heard the same Ctrl-C
