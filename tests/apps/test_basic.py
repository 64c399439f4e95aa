"""examples/basic.py: a web server at a public address."""
import re
import subprocess

from appkit.example import ROOT

INSTALL_S = 240


def test_its_page_comes_to_curl_and_to_a_browser(example, curl, browser):
    running = example("basic.py")
    url = running.url()
    host, port = running.printed(r"tls_socket: \('(.+)', (\d+)\)").groups()
    assert url == f"https://{host}:{port}"
    got = curl(url)("--include", path="/from/curl")
    assert b"200 OK" in got.stdout and got.stdout.endswith(b"<h1>Hello from /from/curl</h1>\n"), got
    page = browser().page(f"{url}/from/chromium")
    assert page.inner_text("h1") == "Hello from /from/chromium"
    assert page.evaluate("isSecureContext && location.origin") == url


def test_it_runs_in_a_fresh_venv_without_any_relay(example, box, browser):
    """`pip install ./python && python examples/basic.py`: the embedded relay's address works on this machine as
    printed."""
    venv = box.file("venv")
    subprocess.run(["/usr/bin/python3", "-m", "venv", venv], check=True, timeout=INSTALL_S)
    pip = subprocess.run([f"{venv}/bin/pip", "install", "--disable-pip-version-check", "./python"], cwd=ROOT,
                         timeout=INSTALL_S, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert pip.returncode == 0, pip.stdout
    running = example("basic.py", embedded=True, program=f"{venv}/bin/python")
    url = running.url()
    hint = running.err.wait(lambda line: "EmbeddedRelayWarning" in line)
    assert "on this machine only" in hint
    authority = re.search(r"curl --cacert ([^\s)]+)", hint).group(1)
    got = box.run("curl", "--silent", "--show-error", "--cacert", authority, f"{url}/from/curl")
    assert got.stdout == "<h1>Hello from /from/curl</h1>\n", got
    page = browser.start(authorities=[authority]).page(f"{url}/from/chromium")
    assert page.inner_text("h1") == "Hello from /from/chromium"
