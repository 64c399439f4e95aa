"""Functions that know what they use, by the processors' clock of their own process."""
import http.client
import http.server
import json
import os
import socket
import subprocess
import threading
import time

from adit import App, forward

app = App("metered")


def spend(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


@app.function(max_inputs=1)
def short(seconds):
    """What the process used for the call, and since it began."""
    began = time.process_time()
    spend(seconds)
    now = time.process_time()
    return now - began, now


@app.function(max_inputs=1)
def hour(idle, busy):
    """The notebook's hour in small: a server behind a tunnel, hardly used, and at the end all cores."""
    with http.server.ThreadingHTTPServer(("", 8000), http.server.SimpleHTTPRequestHandler) as server, forward(8000):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        time.sleep(idle)
        cores = [subprocess.Popen(["timeout", str(busy), "yes"], stdout=subprocess.DEVNULL)
                 for _ in range(os.cpu_count())]
        for core in cores:
            core.wait()
        server.shutdown()
    return sum(os.times()[:4])


@app.function(memory=(64, 96), max_inputs=1)
def die(how, seconds):
    """It has spent this when it prints it."""
    spend(seconds)
    print(f"spent {time.process_time()}", flush=True)
    if how == "exit":
        os._exit(3)
    if how == "memory":
        b"x" * (1 << 30)
    time.sleep(600)


@app.function()
def wait(seconds: float = 0.3):
    die.raw("wait", seconds)


@app.function()
def behind(requests: int):
    """Answers so many."""
    with http.server.HTTPServer(("", 8000), http.server.SimpleHTTPRequestHandler) as server, forward(8000) as tunnel:
        print(tunnel.url)
        for _ in range(requests):
            server.handle_request()


@app.function()
def boast():
    """Sends back what one visitor sends, and says that it was without measure."""
    with socket.create_server(("", 8000)) as server, forward(8000, unencrypted=True) as tunnel:
        print("at", *tunnel.tcp_socket)
        with server.accept()[0] as visitor:
            while piece := visitor.recv(1 << 16):
                visitor.sendall(piece)
        connection = http.client.HTTPConnection("foreman")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect("/run/adit/foreman.sock")
        head = json.dumps({"streams": 1 << 20, "bytes": 1 << 50}).encode()
        connection.request("POST", "/passed", len(head).to_bytes(4, "big") + head)
        assert connection.getresponse().status == 200
