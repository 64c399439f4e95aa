"""JupyterLab in a container, in a browser anywhere.

    adit run examples/functions/jupyter.py

Ctrl-C ends it, and nothing of it stays. Whoever has the link can run code in that container; nobody else can.
"""

import os
import secrets
import subprocess

from adit import App, Image, forward

app = App("jupyter", image=Image.debian_slim().pip_install("jupyterlab"))


@app.function(timeout=8 * 3600, cpu=(0.1, 4), memory=(256, 4096), network=True)
def run_jupyter():
    token = secrets.token_urlsafe(24)
    with forward(8888) as tunnel:
        print(f"{tunnel.url}/lab?token={token}")
        subprocess.run(
            ["jupyter", "lab", "--no-browser", "--ip=127.0.0.1", "--port=8888", "--ServerApp.allow_remote_access=True"],
            env={**os.environ, "JUPYTER_TOKEN": token, "SHELL": "/bin/bash"},
            stderr=subprocess.DEVNULL,
        )
