import os

import adit
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

app = FastAPI()
if "PLAIN" not in os.environ:
    app.add_middleware(adit.https, proxy_protocol=os.environ.get("PROXY_PROTOCOL"))
app.mount("/files", StaticFiles(directory=os.path.dirname(__file__)), name="files")

PAGE = """<p id="said"></p><a href="{file}">a file</a><script>
const socket = new WebSocket("{socket}");
socket.onmessage = (message) => {{ document.getElementById("said").textContent = message.data; }};
socket.onopen = () => socket.send("hello");
</script>"""


@app.get("/where")
def where(request: Request):
    return {
        "url": str(request.url_for("where")),
        "secure": request.url.scheme == "https",
        "visitor": request.client.host,
    }


@app.get("/folder/")
def folder():
    return "the folder"


@app.get("/old")
def old(request: Request):
    return RedirectResponse(request.url_for("folder"))


@app.get("/page")
def page(request: Request):
    socket, file = request.url_for("echo"), request.url_for("files", path=os.path.basename(__file__))
    return HTMLResponse(PAGE.format(socket=socket, file=file))


@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{text} over {socket.url.scheme}")
