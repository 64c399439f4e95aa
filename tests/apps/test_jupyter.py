"""examples/jupyter.py: JupyterLab, used as somebody uses it who was sent the link."""
import json
import os
import re

import pytest
from playwright.sync_api import expect

from appkit.example import START_S

RELOADS = 20


@pytest.fixture
def lab(example, wire, browser):
    """The page behind the link, once JupyterLab is up. Its agent reaches the relay by the wire; its WebSockets are kept
    in page.sockets."""
    running = example("jupyter.py", dial=wire.dial)
    link = running.url()
    running.err.wait(lambda line: "is running at" in line, START_S)
    page = browser().page()
    page.sockets, page.link, page.folder = [], link, running.folder
    page.on("websocket", lambda socket: page.sockets.append(socket))
    page.goto(link)
    return page


def choose(page, title):
    """Clicks that card of the launcher."""
    page.locator(f'.jp-LauncherCard[title="{title}"]').first.click()


def expect_kernel(page):
    """Waits for the kernel: JupyterLab drops what is run before it has one."""
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()


def new_notebook(page):
    choose(page, "Python 3 (ipykernel)")
    expect_kernel(page)


def run(page, code):
    """Types the code into the last cell and runs it."""
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").last
    cell.click()
    expect(cell).to_be_focused()
    page.keyboard.insert_text(code)
    expect(cell).to_contain_text(code.splitlines()[-1])
    page.keyboard.press("Shift+Enter")


def expect_output(page, text):
    expect(page.locator(".jp-OutputArea-output", has_text=re.compile(rf"^\s*{re.escape(text)}\s*$"))).to_be_visible()


def expect_plot(page):
    image = page.locator(".jp-RenderedImage img")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def save_as(page, name):
    page.keyboard.press("Control+s")
    page.locator(".jp-Dialog input.jp-mod-styled").first.fill(name)      # it asks for a name the first time
    page.get_by_role("button", name="Rename and Save").click()
    expect(page.locator(".lm-TabBar-tab:not(.jp-mod-dirty)", has_text=name)).to_be_visible()


def kernel_sockets(page):
    return [socket for socket in page.sockets if re.search(r"/api/kernels/[^/]+/channels", socket.url)]


def test_a_notebook_shows_results_and_a_plot_and_survives_twenty_reloads(lab):
    new_notebook(lab)
    run(lab, "print(6 * 7)")
    expect_output(lab, "42")
    run(lab, "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()")
    expect_plot(lab)
    save_as(lab, "answer.ipynb")
    with open(os.path.join(lab.folder, "answer.ipynb")) as f:
        assert "print(6 * 7)" in json.load(f)["cells"][0]["source"]
    failed = []
    lab.on("requestfailed", lambda request: failed.append(f"{request.url}: {request.failure}"))
    for _ in range(RELOADS):
        lab.reload()
        expect_output(lab, "42")
        expect_plot(lab)
        expect_kernel(lab)
    assert not [f for f in failed if "ERR_ABORTED" not in f], failed      # aborted is what a reload left unfinished
    run(lab, "print('the same', 'kernel:', plt.gcf().number)")
    expect_output(lab, "the same kernel: 1")


def test_a_terminal_runs_a_command(lab):
    with lab.expect_websocket(lambda socket: "/terminals/websocket/" in socket.url) as opened:
        choose(lab, "Start a new terminal session")
    terminal, said = opened.value, []
    # what it shows is a picture: no text in the page
    terminal.on("framereceived", lambda frame: said.append(json.loads(frame)))
    lab.locator(".jp-Terminal .xterm-helper-textarea").focus()
    lab.keyboard.type("echo $((6 * 7)) > answer.txt; cat answer.txt; exit\n")
    if not terminal.is_closed():
        terminal.wait_for_event("close")
    shown = "".join(words[0] for kind, *words in said if kind == "stdout")
    assert "\r42\r\n" in shown, said
    with open(os.path.join(lab.folder, "answer.txt")) as f:
        assert f.read() == "42\n"


def test_the_kernels_websocket_outlives_the_control_link(lab, wire):
    new_notebook(lab)
    run(lab, "print('before')")
    expect_output(lab, "before")
    socket, = kernel_sockets(lab)
    wire.open = False
    wire.cut_links()
    run(lab, "print('with', 'no link')")
    expect_output(lab, "with no link")
    assert not wire.links
    wire.open = True
    wire.wait_links(1)
    run(lab, "print('with', 'a new link')")
    expect_output(lab, "with a new link")
    second = lab.context.new_page()           # a visitor who comes now is served, too
    second.goto(lab.link)
    expect(second.locator(".jp-DirListing-item", has_text="Untitled.ipynb")).to_be_visible()
    assert kernel_sockets(lab) == [socket] and not socket.is_closed()
