"""examples/vite.py: a page that changes when its sources do."""
import os
import shutil

import pytest
from playwright.sync_api import expect

from appkit.example import ROOT, node_bin


@pytest.fixture
def project(box):
    """A copy of the example's own project."""
    return shutil.copytree(os.path.join(ROOT, "examples", "vite"), box.file("project"))


def test_an_edited_file_shows_in_the_page_without_a_reload(example, project, browser):
    running = example("vite.py", project, path=[node_bin("vite")])
    url = running.url()
    running.printed("ready in")
    chromium = browser()
    page = chromium.page(url)
    expect(page.locator("h1")).to_have_text("Hello")
    page.click("button")
    expect(page.locator("span")).to_have_text("1")

    # Module and style sheet change in the page that stands: it has still been clicked once.
    edit(project, "greeting.js", "Hello", "Good morning")
    expect(page.locator("h1")).to_have_text("Good morning")
    edit(project, "style.css", "darkgreen", "rgb(1, 2, 3)")
    expect(page.locator("h1")).to_have_css("color", "rgb(1, 2, 3)")
    expect(page.locator("span")).to_have_text("1")

    # The page itself is loaded anew, as Vite does by itself.
    edit(project, "index.html", "clicked", "pressed")
    expect(page.locator("button")).to_have_text("pressed 0 times")
    sockets = [event for event in chromium.events if event.startswith("websocket wss://")]
    assert sockets and all(url.replace("https:", "wss:") in event for event in sockets), chromium.events


def test_other_names_than_the_tunnels_are_refused(example, project, curl):
    running = example("vite.py", project, path=[node_bin("vite")])
    url = running.url()
    running.printed("ready in")
    assert b"<h1>" in curl(url)().stdout
    assert b"not allowed" in curl(url)("--header", "Host: other.example").stdout


def edit(project, name, old, new):
    with open(os.path.join(project, name), "r+") as file:
        text = file.read()
        assert old in text
        file.seek(0)
        file.write(text.replace(old, new))
        file.truncate()
