"""What a person at a terminal sees of `adit forward`."""
from kit.app import echo
from kit.process import ADIT
from kit.terminal import Terminal

LIVE = ("link up", "visitor", "to app", "from app", " B/s", "kB/s")


def live_rows(terminal):
    return [row for row in terminal.screen() if any(part in row for part in LIVE)]


def test_no_stale_line_stays_when_the_terminal_changes_its_width(relay, app, box):
    token = box.file("token", relay.token())
    terminal = Terminal(box, [ADIT, "forward", "--token-file", token, app(echo).port])
    terminal.wait_output("link up | 0 visitors")
    assert len(live_rows(terminal)) == 1
    for columns in (40, 118, 12, 25, 120):   # narrower by one row, by many; wider again, so that wrapped rows join
        terminal.resize(columns)
        terminal.wait_output("link up")
        rows = live_rows(terminal)
        assert len(rows) == 1 and rows[0].startswith("link up"), terminal.screen()
    assert any("https://" in row for row in terminal.screen()), "what stood above the line is left alone"
    terminal.keys("C-c")
    terminal.wait_exit(0)
    assert live_rows(terminal) == []
