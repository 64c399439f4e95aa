"""Tunnels of Pods, and web endpoints in them."""

import http.server
import signal
import threading
import time

from conftest import BUILD_S

FETCH = """
import urllib.request
from adit import App, forward
app = App()
@app.function(network=["{0}"])
def fetch():
    with forward(8000) as tunnel:  # the relay is in no list, and reached
        assert tunnel.url.startswith("https://")
    return urllib.request.urlopen("http://{0}/").read().decode()
"""


def test_the_first_program_has_its_tunnel_at_the_relay(adit, relay, nothing_stays):
    run = adit("run", "start_app.py")
    assert run.wait(BUILD_S) == 0, run.report()
    [url] = [line.split()[-1] for line in run.out.lines if line.startswith("tunnel.url")]
    assert url.endswith(f".{relay.domain}:{relay.port}")
    nothing_stays()


def test_visitors_of_an_endpoint_come_to_pods(adit, url_of, visit, nothing_stays):
    served = adit("serve", "web.py")
    url = url_of(served, "pages")
    pages = [visit(f"{url}/deep/page").status for _ in range(8)]
    assert pages == [200] * 8
    served.kill(signal.SIGINT)
    assert served.wait(60) == 130
    nothing_stays()


def notebook(visit, url):
    """The page of a JupyterLab that may not listen yet, once it does."""
    end = time.monotonic() + 180
    while True:
        try:
            return visit(url.replace("/?", "/lab?"))
        except OSError:
            assert time.monotonic() < end


def test_a_hub_gives_who_asks_a_notebook_in_a_pod_of_their_own(adit, url_of, visit, cluster, nothing_stays):
    served = adit("serve", "hub.py")
    hub = url_of(served, "jupyter_hub")
    assert visit(hub, method="POST").status == 401
    answers = [visit(hub, method="POST", headers={"Authorization": "Bearer sesame"}) for _ in range(2)]
    assert [answer.status for answer in answers] == [303, 303]
    found = [answer.headers["Location"] for answer in answers]
    assert [notebook(visit, url).status for url in found] == [200, 200]
    names = [pod["metadata"]["annotations"]["adit.function"] for pod in cluster.pods()]
    assert names.count("jupyter_hub") + names.count("run_jupyter") + names.count("(spare)") >= 3
    served.kill(signal.SIGINT)
    assert served.wait(60) == 130
    nothing_stays()


class Whence(http.server.BaseHTTPRequestHandler):
    """Tells whoever asks where from."""

    def do_GET(self):
        body = self.client_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_what_a_list_of_hosts_lets_through_the_foreman_dials(adit, program, cluster):
    from cluster import ADDRESS

    with http.server.ThreadingHTTPServer((ADDRESS, 0), Whence) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        run = adit("run", "-q", program("fetch.py", FETCH.format(f"{ADDRESS}:{server.server_port}")))
        assert run.wait(BUILD_S) == 0, run.report()
        server.shutdown()
    assert run.out.lines == [ADDRESS]
