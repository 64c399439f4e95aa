import os
import secrets
import subprocess

from fastapi import Header, HTTPException
from fastapi.responses import RedirectResponse

from adit import Image, Queue, Stub, forward, web_endpoint


stub = Stub()
stub.image = Image.debian_slim().pip_install("jupyterlab")


@stub.function(timeout=900)  # 15 minutes
def run_jupyter(q):
    token = secrets.token_urlsafe(13)
    with forward(8888) as tunnel:
        q.put(tunnel.url + "/?token=" + token)
        subprocess.run(
            [
                "jupyter",
                "lab",
                "--no-browser",
                "--allow-root",
                "--ip=0.0.0.0",
                "--port=8888",
                "--LabApp.allow_origin='*'",
                "--LabApp.allow_remote_access=1",
            ],
            env={**os.environ, "JUPYTER_TOKEN": token, "SHELL": "/bin/bash"},
            stderr=subprocess.DEVNULL,
        )


@stub.function()
@web_endpoint(method="POST")
def jupyter_hub(authorization: str = Header("")):
    is_valid = secrets.compare_digest(authorization.encode(), b"Bearer sesame")

    if is_valid:
        with Queue.ephemeral() as q:
            run_jupyter.spawn(q)
            url = q.get()
            return RedirectResponse(url, status_code=303)

    else:
        raise HTTPException(401, "Not authenticated")
