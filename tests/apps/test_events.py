"""examples/events.py: server-sent events."""
import subprocess

from playwright.sync_api import expect


def test_each_event_is_seen_before_the_next_is_sent(example, browser, curl, box):
    running = example("events.py", stdin=subprocess.PIPE)
    url = running.url()
    page = browser().page(url)
    request = curl(url)
    plain = box.start([*request.prefix, "--no-buffer", f"{url}/events"])
    for n in range(1, 21):
        line = f"line {n} <b>&amp; ünïcode"
        running.program.popen.stdin.write(f"{line}\n".encode())
        running.program.popen.stdin.flush()
        plain.out.wait(lambda got: got == f"data: {line}")
        expect(page.locator("li")).to_have_count(n)
        expect(page.locator("li").last).to_have_text(line)


def test_the_end_of_the_input_ends_it_and_its_visitors(example, curl, box):
    running = example("events.py", stdin=subprocess.PIPE)
    url = running.url()
    visitor = box.start([*curl(url).prefix, "--no-buffer", f"{url}/events"])
    running.program.popen.stdin.write(b"first and last\n")
    running.program.popen.stdin.flush()
    visitor.out.wait(lambda got: got == "data: first and last")
    running.program.popen.stdin.close()
    assert running.program.wait() == 0
    visitor.wait()
