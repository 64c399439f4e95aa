"""network=[...]: a container that reaches what is named and nothing else, with the programs that people use."""
import http.server
import io
import threading
import zipfile

import pytest
from conftest import BUILD_S

PROGRAM = """
import os, subprocess
from adit import App, Image

app = App("listed")
image = Image.debian_slim().apt_install("curl")


def say(name, *words, **env):
    done = subprocess.run(words, env={{**os.environ, **env}}, capture_output=True, text=True)
    print(name, done.returncode, " ".join((done.stdout + done.stderr).split()), flush=True)


@app.function(image=image, network=["127.0.0.2:{port}", "allowed.example"])
def look():
    at = "http://127.0.0.2:{port}"
    print("cards", os.listdir("/sys/class/net"), flush=True)
    say("page", "curl", "-sS", f"{{at}}/page")
    say("tunnel", "curl", "-sSp", f"{{at}}/page")
    say("socks", "curl", "-sSp", f"{{at}}/page", ALL_PROXY="", http_proxy=os.environ["all_proxy"])
    say("straight", "curl", "-sS", "--noproxy", "*", f"{{at}}/page")
    say("port", "curl", "-sS", "http://127.0.0.2:1/page")
    say("metadata", "curl", "-sS", "http://169.254.169.254/latest/meta-data/")
    say("name", "curl", "-sS", "-o", "/dev/null", "https://other.example/")
    say("engine", "curl", "-sS", "http://172.17.0.1/")
    pip = ["pip", "install", "-q", "--target", "/tmp/found", "--trusted-host", "127.0.0.2",
           "--index-url", f"{{at}}/simple/"]
    clean = {{"PIP_CONFIG_FILE": "/dev/null"}}
    say("pip", *pip, "adit-found", **clean)
    say("found", "python3", "-c", "import adit_found", PYTHONPATH="/tmp/found")
"""


def wheel():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("adit_found.py", "print('it is there')")
        at = "adit_found-1.dist-info"
        file.writestr(f"{at}/METADATA", "Metadata-Version: 2.1\nName: adit-found\nVersion: 1\n")
        file.writestr(f"{at}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{at}/RECORD", f"adit_found.py,,\n{at}/METADATA,,\n{at}/WHEEL,,\n{at}/RECORD,,\n")
    return made.getvalue()


PAGES = {
    "/page": (b"the page", "text/plain"),
    "/simple/adit-found/": (b'<a href="/adit_found-1-py3-none-any.whl">adit_found-1-py3-none-any.whl</a>', "text/html"),
    "/adit_found-1-py3-none-any.whl": (wheel(), "application/zip"),
}


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body, kind = PAGES.get(self.path, (b"", "text/plain"))
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    """The port of a web site and package index on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.2", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_container_reaches_what_is_named_and_nothing_else(adit, program, site):
    run = adit("run", program("listed.py", PROGRAM.format(port=site)))
    assert run.wait(BUILD_S) == 0, run.err.text()
    said = dict(line.split(" ", 1) for line in run.out.lines)
    assert said["cards"] == "['lo']"
    assert said["page"] == said["tunnel"] == said["socks"] == "0 the page"
    assert said["straight"].startswith("7 ")
    assert said["port"] == "0 adit: 127.0.0.2:1 is not in the function's network=[...]"
    assert said["metadata"] == "0 adit: 169.254.169.254:80 is not in the function's network=[...]"
    assert said["name"].startswith("56 ") and "403" in said["name"]
    assert said["engine"] == "0 adit: 172.17.0.1:80 is not in the function's network=[...]"
    assert said["pip"].startswith("0"), said["pip"]
    assert said["found"] == "0 it is there"
