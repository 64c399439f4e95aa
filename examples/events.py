"""What you type here appears at once in every visitor's page, by server-sent events.

    python examples/events.py
    tail -f /var/log/syslog | python examples/events.py

Needs nothing else.
"""
import contextlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from adit import forward

PORT = 8000
PAGE = b"""<!doctype html><title>events</title><ol></ol><script>
  new EventSource("events").onmessage = event => {
    document.querySelector("ol").appendChild(document.createElement("li")).textContent = event.data
  }
</script>"""

lines, more = [], threading.Condition()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        if self.path == "/events":
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            with contextlib.suppress(ConnectionError):      # the visitor has gone
                self.send_events()
        else:
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE)

    def send_events(self):
        # A browser that comes back after a break says which event it has seen last.
        seen = int(self.headers.get("Last-Event-ID", 0))
        while True:
            with more:
                more.wait_for(lambda: len(lines) > seen)
            for line in lines[seen:]:
                seen += 1
                self.wfile.write(f"id: {seen}\ndata: {line}\n\n".encode())


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
with contextlib.suppress(KeyboardInterrupt), forward(PORT) as tunnel:
    print(tunnel.url, flush=True)
    for line in sys.stdin:
        with more:
            lines.append(line.rstrip("\n"))
            more.notify_all()
