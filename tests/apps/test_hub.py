"""examples/hub.py: servers that are started by a request."""
import concurrent.futures
import json
import os
import re
import shlex
import urllib.parse

from playwright.sync_api import expect

from appkit.example import marked


class Hub:
    """The running example, seen by its users."""

    def __init__(self, example, curl, elsewhere, *options):
        self.curl, self.elsewhere = curl, elsewhere
        self.running = example("hub.py", *options, "alice", "bob")
        self.commands = {user: self.running.printed(rf"^{user}: (.*)$").group(1) for user in ("alice", "bob")}
        self.url = shlex.split(self.commands["alice"])[-1]
        self.host = urllib.parse.urlsplit(self.url).hostname
        self.running.err.wait(lambda line: "Uvicorn running" in line)

    def ask(self, user):
        """Runs the command that is printed for a user: the URL that it prints."""
        done = self.elsewhere(self.commands[user], self.host, seconds=100)
        assert done.returncode == 0 and done.stdout.startswith("https://"), done
        return done.stdout.strip()

    def status(self, *options):
        return self.curl(self.url)("--output", os.devnull, "--write-out", "%{http_code}", *options).stdout

    def api(self, url, path, *options):
        """What a user's server answers to the holder of its URL."""
        password = re.search(r"token=(.*)", url).group(1)
        done = self.curl(url)("--fail", "--header", f"Authorization: token {password}", *options, path=path)
        assert done.returncode == 0, done
        return json.loads(done.stdout or "null")


def test_a_post_with_a_token_redirects_to_a_server_that_answers(example, curl, elsewhere, browser):
    hub = Hub(example, curl, elsewhere)
    token = re.search(r"Bearer ([^']+)", hub.commands["alice"]).group(0)
    got = curl(hub.url)("--include", "--request", "POST", "--header", f"Authorization: {token}").stdout.decode()
    assert got.startswith("HTTP/1.1 303 "), got
    url = re.search(r"(?im)^location: (\S+)", got).group(1)
    page = browser().page(url)
    expect(page.locator("#jp-main-dock-panel")).to_be_visible()


def test_the_command_works_as_printed_with_an_embedded_relay(example, box):
    running = example("hub.py", "alice", embedded=True)
    command = running.printed("^alice: (.*)$").group(1)
    running.err.wait(lambda line: "Uvicorn running" in line)
    done = box.run("sh", "-c", command, seconds=100)
    assert re.fullmatch(r"https://\w+\.adit\.localhost:\d+/lab\?token=\S+\n", done.stdout), done
    done = box.run("sh", "-c", re.sub(r"--cacert \S+ ", "", command))
    assert done.returncode != 0 and "certificate" in done.stderr, "what is wrong is told"


def test_without_a_valid_token_it_answers_401(example, curl, elsewhere):
    hub = Hub(example, curl, elsewhere)
    token = re.search(r"Bearer ([^']+)", hub.commands["alice"]).group(1)
    for given in ([], ["Bearer"], ["Bearer " + token[:-1]], ["Bearer " + token + "x"], ["Bearer "], ["Basic " + token],
                  ["Bearer \xe4"], [token]):
        headers = [argument for value in given for argument in ("--header", f"Authorization: {value}")]
        assert hub.status("--request", "POST", *headers) == b"401", given
    assert hub.status() == b"405"


def test_users_get_a_server_each_and_the_same_one_again(example, curl, elsewhere):
    hub = Hub(example, curl, elsewhere)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        alice, again, bob = pool.map(hub.ask, ("alice", "alice", "bob"))
    assert (
        alice == again == hub.ask("alice")
        and urllib.parse.urlsplit(alice).hostname != urllib.parse.urlsplit(bob).hostname
    )
    hub.api(alice, "/api/contents/hers.txt", "--request", "PUT", "--data",
            json.dumps({"type": "file", "format": "text", "content": "a"}))
    assert [entry["name"] for entry in hub.api(alice, "/api/contents")["content"]] == ["hers.txt"]
    assert hub.api(bob, "/api/contents")["content"] == []
    hub.api(alice, "/api/kernels", "--request", "POST")         # ended with the hub, as the end of the test sees to
    swapped = f"{bob.partition('?')[0]}?{alice.partition('?')[2]}"
    got = curl(swapped)("--output", os.devnull, "--write-out", "%{http_code}",
                        path=f"/api/contents?{alice.partition('?')[2]}")
    assert got.stdout == b"403", "her token does not open his server"


def test_a_server_that_its_user_shuts_down_is_started_anew(example, curl, elsewhere):
    hub = Hub(example, curl, elsewhere)
    first = hub.ask("alice")
    hub.api(first, "/api/shutdown", "--request", "POST")
    hub.running.printed("^alice's server has ended")
    second = hub.ask("alice")
    assert urllib.parse.urlsplit(first).hostname != urllib.parse.urlsplit(second).hostname
    assert hub.api(second, "/api/contents")["content"] == []


def test_a_server_ends_after_its_time_and_leaves_nothing_running(example, curl, elsewhere):
    hub = Hub(example, curl, elsewhere, "--minutes=0.05")
    before = marked(hub.running.mark)
    url = hub.ask("alice")
    hub.running.printed("^alice's server has ended")
    assert curl(url)(path="/api").returncode != 0
    assert marked(hub.running.mark) == before
