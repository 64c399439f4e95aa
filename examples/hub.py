"""A JupyterLab of their own for everyone who asks with their token.

    python examples/hub.py alice bob

Needs pip install fastapi uvicorn jupyterlab. Prints for each user the command that asks. The answer is a redirect to
the user's own server: the one that runs, or else a new one. It ends when the user shuts it down, with the hub, or after
--minutes. All servers run as the user that runs the hub: people who must not see each other's work need a container
each.
"""
import argparse
import asyncio
import contextlib
import os
import secrets
import socket
import tempfile

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPBearer

from adit import Client

PORT = 8000
START_S = 60

parser = argparse.ArgumentParser()
parser.add_argument("users", nargs="+")
parser.add_argument("--minutes", type=float, default=60)
options = parser.parse_args()
tokens = {user: secrets.token_urlsafe(24) for user in options.users}
running = {}                # user: (task, future URL)
client = Client()


@contextlib.asynccontextmanager
async def hub(_):
    async with client.forward(PORT) as tunnel:
        trust = f"--cacert {client.ca_file} " if client.ca_file else ""         # of the embedded relay
        for user, token in tokens.items():
            print(
                f"{user}: curl -sSX POST {trust}-H 'Authorization: Bearer {token}' "
                f"-w '%{{redirect_url}}\\n' {tunnel.url}",
                flush=True,
            )
        yield
        tasks = [task for task, _ in running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


app = FastAPI(lifespan=hub)


@app.post("/")
async def start(bearer=Depends(HTTPBearer(auto_error=False))):
    user = bearer and user_of(bearer.credentials)
    if not user:
        raise HTTPException(401, "Not authenticated", headers={"WWW-Authenticate": "Bearer"})
    if user not in running:
        url = asyncio.get_running_loop().create_future()
        running[user] = asyncio.create_task(serve(user, url)), url
    task, url = running[user]
    # Not the task itself: it goes on when this request ends. Not the future alone: it never comes if the server fails
    # to start.
    await asyncio.wait([task, url], timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
    if not url.done():
        task.cancel()
        raise HTTPException(503, "The server does not start")
    return RedirectResponse(url.result(), 303)


def user_of(given):
    """Compares with every token, and each in constant time: how long it takes tells nothing about them."""
    matches = [user for user, token in tokens.items() if secrets.compare_digest(token.encode(), given.encode())]
    return matches[0] if matches else None


async def serve(user, url):
    """Runs a user's server to its end; tells its URL when it answers."""
    password, port = secrets.token_urlsafe(24), free_port()
    # that one is the hub's
    environment = {name: value for name, value in os.environ.items() if name != "ADIT_TOKEN"}
    try:
        with tempfile.TemporaryDirectory(prefix="notebooks-") as folder:
            async with client.forward(port) as tunnel:
                process = await asyncio.create_subprocess_exec(
                    "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
                    "--port-retries=0",
                    "--ServerApp.allow_remote_access=True", f"--ServerApp.root_dir={folder}",
                    env={**environment, "JUPYTER_TOKEN": password}, stderr=asyncio.subprocess.PIPE,
                    start_new_session=True)         # Ctrl-C is for the hub, which ends its servers in order
                try:
                    async for line in process.stderr:
                        if b"is running at:" in line and not url.done():
                            url.set_result(f"{tunnel.url}/lab?token={password}")
                            asyncio.get_running_loop().call_later(options.minutes * 60, asyncio.current_task().cancel)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        process.terminate()
                    await process.wait()            # Jupyter ends its kernels first
    finally:
        del running[user]
        print(f"{user}'s server has ended", flush=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


uvicorn.run(app, port=PORT)
