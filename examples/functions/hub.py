"""A JupyterLab in a container of its own for everyone who asks with the token.

    HUB_TOKEN=sesame adit serve examples/functions/hub.py
    curl -sSX POST -H 'Authorization: Bearer sesame' -w '%{redirect_url}\n' URL

Each runs for at most 15 minutes; see `timeout`.
"""

import os
import secrets
import subprocess

from fastapi import Header, HTTPException
from fastapi.responses import RedirectResponse

from adit import App, Image, Queue, Secret, forward, web_endpoint

app = App("hub")
image = Image.debian_slim().pip_install("jupyterlab")


@app.function(image=image, timeout=900, concurrency_limit=10, memory=(256, 2048))
def run_jupyter(q):
    token = secrets.token_urlsafe(24)
    with forward(8888) as tunnel:
        q.put(f"{tunnel.url}/lab?token={token}")
        subprocess.run(
            ["jupyter", "lab", "--no-browser", "--ip=127.0.0.1", "--port=8888", "--ServerApp.allow_remote_access=True"],
            env={**os.environ, "JUPYTER_TOKEN": token, "SHELL": "/bin/bash"},
            stderr=subprocess.DEVNULL,
        )


@app.function(image=image, secrets=[Secret.from_local_environ(["HUB_TOKEN"])])
@web_endpoint(method="POST")
def jupyter_hub(authorization: str = Header("")):
    expected = f"Bearer {os.environ['HUB_TOKEN']}"
    if not secrets.compare_digest(authorization.encode(), expected.encode()):
        raise HTTPException(401, "Not authenticated", headers={"WWW-Authenticate": "Bearer"})
    with Queue.ephemeral() as q:
        run_jupyter.spawn(q)
        return RedirectResponse(q.get(timeout=120), status_code=303)
