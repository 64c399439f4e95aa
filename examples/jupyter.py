"""JupyterLab on the machine that has the data, in a browser anywhere.

    python examples/jupyter.py

Needs JupyterLab (pip install jupyterlab). Whoever has the link that it prints, with the token in it, can run code here;
nobody else can.
"""
import os
import secrets
import subprocess
import sys

from adit import forward

token = secrets.token_urlsafe(24)

with forward(8888) as tunnel:
    print(f"{tunnel.url}/lab?token={token}", flush=True)
    jupyter = [
        "jupyter", "lab", "--no-browser", "--allow-root",       # root is who one is in most containers
        "--ip=127.0.0.1", "--port=8888", "--port-retries=0",    # only the tunnel leads here, and it leads to this port
        # else requests for other names than localhost are refused
        "--ServerApp.allow_remote_access=True",
        "--ServerApp.answer_yes=True",                          # Ctrl-C is meant
    ]
    with subprocess.Popen(jupyter, env={**os.environ, "JUPYTER_TOKEN": token}) as server:
        try:
            sys.exit(server.wait())
        except KeyboardInterrupt:
            server.wait()                                       # it heard the same Ctrl-C, and ends its kernels first
