"""examples/vscode.py: VS Code in the browser, with the folder that it was started in."""
import os

import pytest
from playwright.sync_api import expect

from appkit.browser import PAGE_S
from appkit.example import START_S, node_bin
from kit.process import LIBC, wait_readable


@pytest.fixture
def code(example, browser):
    """The page behind the URL, its password given and its folder trusted."""
    running = example("vscode.py", path=[node_bin("code-server")])
    with open(os.path.join(running.folder, "notes.txt"), "w") as f:
        f.write("written before\n")
    url, password = running.url(), running.printed("password: (.+)").group(1)
    running.out.wait(lambda line: "HTTP server listening" in line, START_S)
    page = browser().page(url)
    page.folder = running.folder
    page.get_by_placeholder("PASSWORD").fill(password)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Yes, I trust the authors").click()
    return page


def open_file(page, name):
    """From the explorer, when it appears there. Returns its text in the editor."""
    page.locator(".explorer-folders-view").get_by_role("treeitem", name=name).dblclick()
    expect(page.get_by_role("tab", name=name)).to_be_visible()
    return page.locator(".editor-instance .view-lines")


IN_CLOSE_WRITE = 0x8            # inotify(7)


def test_a_file_is_opened_edited_and_saved(code):
    text = open_file(code, "notes.txt")
    expect(text).to_contain_text("written before")
    path = os.path.join(code.folder, "notes.txt")
    written = LIBC.inotify_init1(os.O_CLOEXEC)
    assert LIBC.inotify_add_watch(written, path.encode(), IN_CLOSE_WRITE) >= 0
    text.click()
    code.keyboard.press("Control+Home")
    code.keyboard.insert_text("typed in a browser, ")
    expect(text).to_contain_text("typed in a browser, written before")
    code.keyboard.press("Control+s")
    assert wait_readable([written], PAGE_S), "nothing was saved"
    os.close(written)
    with open(path) as f:
        assert f.read() == "typed in a browser, written before\n"


def test_its_terminal_runs_a_command(code):
    code.keyboard.press("Control+Shift+`")
    terminal = code.locator(".terminal.xterm .xterm-helper-textarea")
    expect(terminal).to_be_focused()
    code.keyboard.type("echo $((6 * 7)) > answer.txt\n")
    expect(open_file(code, "answer.txt")).to_contain_text("42")
