"""A web server behind a tunnel, and the two forms of its public address.

    python examples/basic.py

Needs nothing besides the package. Open the URL it prints in a browser, or give it to curl; Ctrl-C ends the tunnel and
the server.
"""
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from adit import forward


class Greeting(BaseHTTPRequestHandler):
    def do_GET(self):
        page = f"<h1>Hello from {self.path}</h1>\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


with ThreadingHTTPServer(("127.0.0.1", 8000), Greeting) as server, forward(8000) as tunnel:
    print("url:       ", tunnel.url, flush=True)
    print("tls_socket:", tunnel.tls_socket, flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()
