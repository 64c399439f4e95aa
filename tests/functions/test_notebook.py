"""The hub's notebooks, used in Chromium through the URLs that a POST was redirected to."""
import contextlib
import json
import os
import re
import signal
import sys

import pytest
from conftest import BUILD_S, ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "apps"))

from appkit.browser import Browser    # noqa: E402: after its path
from playwright.sync_api import expect, sync_playwright    # noqa: E402

BEARER = {"Authorization": "Bearer sesame"}


@pytest.fixture
def browser(box, settings):
    """browser() is Chromium of a person who trusts the relay of this machine, which has run. Names below .localhost
    lead here by themselves."""
    with sync_playwright() as playwright, contextlib.ExitStack() as ending:
        def start():
            authority = os.path.join(settings["HOME"], ".local", "state", "adit", "embedded", "authority.pem")
            found = Browser(playwright, box, authorities=[authority])
            ending.callback(found.close)
            return found
        yield start


def choose(page, title):
    page.locator(f'.jp-LauncherCard[title="{title}"]').first.click()


def run_in_cell(page, code):
    choose(page, "Python 3 (ipykernel)")
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").last
    cell.click()
    page.keyboard.insert_text(code)
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-output").first
    expect(output).to_contain_text(re.compile(r"\S"))
    return output.inner_text().strip()


def run_in_terminal(page, command):
    with page.expect_websocket(lambda socket: "/terminals/websocket/" in socket.url) as opened:
        choose(page, "Start a new terminal session")
    socket, said = opened.value, []
    # What it shows is a picture: no text in the page.
    socket.on("framereceived", lambda frame: said.append(json.loads(frame)))
    page.locator(".jp-Terminal .xterm-helper-textarea").focus()
    page.keyboard.type(f"{command}; exit\n")
    if not socket.is_closed():
        socket.wait_for_event("close")
    return "".join(words[0] for kind, *words in said if kind == "stdout")


def test_two_users_run_cells_and_terminals_each_in_a_container_of_their_own(adit, url_of, visit, browser,
                                                                            nothing_stays):
    served = adit("serve", "hub.py")
    hub = url_of(served, "jupyter_hub", BUILD_S)
    urls = [visit(hub, method="POST", headers=BEARER).headers["Location"] for _ in range(2)]
    person, hosts = browser(), []
    for url in urls:
        page = person.page(url)
        hosts.append(run_in_cell(page, "import socket; print(socket.gethostname(), 6 * 7)"))
        page.get_by_role("button", name="New Launcher").first.click()
        shown = run_in_terminal(page, "echo $((6 * 7)) from $(hostname)")
        assert f"42 from {hosts[-1].split()[0]}" in shown, shown
    assert all(host.endswith(" 42") for host in hosts) and hosts[0] != hosts[1]
    served.kill(signal.SIGINT)
    assert served.wait(60) == 130
    nothing_stays(0.1)
