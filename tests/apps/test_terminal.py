"""examples/terminal.py: a shell in the browser."""
import os

from appkit.example import node_bin


def test_a_command_is_typed_and_its_output_seen(example, browser):
    running = example("terminal.py", path=[node_bin("wetty")])
    url = running.url()
    running.printed("Server started")
    page = browser().page(url)
    sees(page, "#")                         # root's prompt
    page.keyboard.type("echo $((6 * 7)) is the answer\n")
    sees(page, "42 is the answer")
    page.keyboard.type("echo waiting; sleep 1000\n")
    sees(page, "\nwaiting")
    page.keyboard.press("Control+c")
    page.keyboard.type("echo status $?\n")
    sees(page, "\nstatus 130")
    page.keyboard.type("seq 100000\n")      # more than half a megabyte through the WebSocket
    sees(page, "\n99999\n100000\n")


def test_without_its_path_nothing_is_found(example, curl):
    running = example("terminal.py", path=[node_bin("wetty")])
    url = running.url()
    running.printed("Server started")
    origin, _, path = url.rpartition("/")
    follow = ("--location", "--output", os.devnull, "--write-out", "%{http_code}")
    assert curl(origin)(*follow, path="/" + path).stdout == b"200"
    for wrong in ("/", "/wetty", f"/{path[:-1]}", "/socket.io/?EIO=4&transport=polling",
                  "/wetty/socket.io/?EIO=4&transport=polling"):
        assert curl(origin)(*follow, path=wrong).stdout == b"404", wrong


def sees(page, text):
    """Waits until the text stands in the terminal, which paints it on a canvas."""
    page.wait_for_function(
        """text => {
        const buffer = window.wetty_term?.buffer.active
        const line = (_, y) => buffer.getLine(y).translateToString(true)
        return buffer && Array.from({length: buffer.length}, line).join("\\n").includes(text)
    }""",
        arg=text,
    )
