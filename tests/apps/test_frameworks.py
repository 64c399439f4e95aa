"""docs/apps.md: the settings by which web frameworks and their servers are right behind a tunnel. Those that fail
without them are shown to, so that no setting is recommended that is not needed."""

import os
import shutil
import struct

import pytest
from playwright.sync_api import expect

from appkit.browser import PAGE_S
from appkit.example import CACHE, ROOT, START_S, node_bin
from appkit.served import FRAMEWORKS, Served
from kit.app import read_exactly

ASGI = {
    "uvicorn": ["uvicorn", "--loop", "asyncio", "--port={port}"],
    "uvicorn with uvloop": ["uvicorn", "--loop", "uvloop", "--http", "httptools", "--port={port}"],
    "hypercorn": ["hypercorn", "--bind=127.0.0.1:{port}"],
    "gunicorn": ["gunicorn", "--worker-class=asgi", "--bind=127.0.0.1:{port}"],
}
WSGI = {
    "gunicorn": ["gunicorn", "--workers=2", "--bind=127.0.0.1:{port}"],
    "gunicorn with threads": ["gunicorn", "--threads=4", "--bind=127.0.0.1:{port}"],
    "waitress": ["waitress-serve", "--listen=127.0.0.1:{port}"],
}
FORGED = [
    "--header",
    "X-Forwarded-For: 6.6.6.6",
    "--header",
    "X-Forwarded-Proto: http",
    "--header",
    "X-Forwarded-Host: evil.test",
]


@pytest.fixture
def served(box, relay):
    running = []

    def start(command, *options, proxied=False, plain=False, env=(), **more):
        env = {**dict(env), **({"PLAIN": "1"} if plain else {})}
        if proxied:
            options, command = (
                [*options, "--proxy-protocol"],
                ["sh", "-c", 'PROXY_PROTOCOL=$0 exec "$@"', "{port}", *command],
            )
        running.append(Served(box, relay, command, *options, env=env, **more))
        return running[-1]

    yield start
    for one in running:
        one.end()


def under(servers):
    return pytest.mark.parametrize("server", list(servers.values()), ids=list(servers))


def visits(app, forged=FORGED):
    """From another address than the agent's own."""
    return app.json("/where", "--interface", "127.0.0.77", *forged)


def log_in(browser, app, path="/login"):
    """With a form, as its visitor: what stands in the page afterwards."""
    page = browser().page(app.url + path)
    page.click("button")
    expect(page.locator("p")).to_have_text("alice")
    return page


@under(ASGI)
def test_fastapi(served, server):
    app = served([*server, "fastapi_app:app"], proxied=True)
    assert visits(app) == {"url": f"{app.url}/where", "secure": True, "visitor": "127.0.0.77"}
    assert app.answer("/folder") == (307, f"{app.url}/folder/")
    assert app.answer("/old") == (307, f"{app.url}/folder/")


def test_fastapi_in_a_browser(served, browser):
    app = served([*ASGI["uvicorn"], "fastapi_app:app"])
    page = browser().page(app.url + "/page")
    expect(page.locator("#said")).to_have_text("hello over wss")
    page.click("a")
    expect(page.locator("body")).to_contain_text("FastAPI()")


def test_fastapi_without_the_wrapper_leads_to_http(served):
    app = served([*ASGI["uvicorn"], "fastapi_app:app"], plain=True)
    assert app.answer("/folder")[1].startswith("http://")
    assert visits(app)["visitor"] == "6.6.6.6", "uvicorn believes what comes from 127.0.0.1"


@under({**WSGI, "flask run": ["flask", "--app", "flask_app", "run", "--port={port}"]})
def test_flask(served, server):
    words = server if server[0] == "flask" else [*server, "flask_app:app"]
    app = served(words, proxied=True)
    assert visits(app) == {"url": f"{app.url}/where", "secure": True, "visitor": "127.0.0.77"}
    assert app.answer("/folder") == (308, f"{app.url}/folder/")
    assert app.answer("/old") == (302, f"{app.url}/folder/")


def test_flask_in_a_browser(served, browser):
    log_in(browser, served(["flask", "--app", "flask_app", "run", "--port={port}"]))


def test_flask_without_the_wrapper_leads_to_http(served):
    app = served([*WSGI["waitress"], "flask_app:app"], plain=True)
    assert app.answer("/folder")[1].startswith("http://")


DJANGO = {
    "runserver": ["python", "django_app.py", "runserver", "--noreload", "127.0.0.1:{port}"],
    "runserver that reloads": ["python", "django_app.py", "runserver", "127.0.0.1:{port}"],
    "gunicorn": [*WSGI["gunicorn"], "django_app:application"],
    "uvicorn": [*ASGI["uvicorn"], "django_app:asgi"],
}


@under(DJANGO)
def test_django(served, server):
    app = served(server, proxied=True)
    assert visits(app) == {"url": f"{app.url}/where", "secure": True, "visitor": "127.0.0.77"}
    assert app.answer("/folder") == (301, "/folder/")


def test_django_takes_a_form_from_a_browser(served, browser):
    log_in(browser, served(DJANGO["runserver"]), "/form")


def test_django_without_the_wrapper_refuses_the_form(served, browser):
    app = served(DJANGO["runserver"], plain=True)
    page = browser().page(app.url + "/form")
    page.click("button")
    expect(page.locator("body")).to_contain_text("CSRF verification failed")


def test_gradio_in_a_browser(served, browser, box):
    app = served(["sh", "-c", 'GRADIO_ROOT_PATH=$ADIT_URL exec python gradio_app.py "$0"', "{port}"])
    page = browser().page(app.url)
    page.get_by_label("text").fill("hello")
    page.locator("input[type=file]").first.set_input_files(box.file("words.txt", "from a file"))
    expect(page.locator("[aria-label='words.txt']")).to_be_visible()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_label("loud")).to_have_value("HELLO FROM A FILE")
    link = page.locator("a[download='answer.txt']")
    assert link.get_attribute("href").startswith(app.url), "file links lead to the tunnel"
    with page.expect_download() as download:
        link.click()
    with open(download.value.path()) as f:
        assert f.read() == "HELLO FROM A FILE"


def test_gradio_without_the_setting_makes_links_to_http(served):
    app = served(["python", "gradio_app.py", "{port}"])
    assert f"http://{app.host}" in app.get("/config")


def test_streamlit_in_a_browser(served, browser, box):
    app = served(
        [
            "streamlit",
            "run",
            "streamlit_app.py",
            "--server.headless=true",
            "--server.address=127.0.0.1",
            "--server.port={port}",
            "--browser.gatherUsageStats=false",
        ]
    )
    page = browser().page(app.url)
    page.get_by_role("button", name="one more").click()
    expect(page.get_by_text("pressed 1 times")).to_be_visible()
    page.locator("input[type=file]").set_input_files(box.file("words.txt", "hello"))
    expect(page.get_by_text("it says hello")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="take it back").click()
    with open(download.value.path()) as f:
        assert f.read() == "HELLO"


def node(name):
    return {
        "path": [node_bin(name)],
        "env": {"NODE_PATH": node_bin(name).removesuffix("/.bin"), "NEXT_TELEMETRY_DISABLED": "1"},
    }


def test_express(served, browser):
    app = served(["node", "express_app.js", "{port}"], **node("express"))
    assert visits(app) == {"url": f"{app.url}/where", "secure": True, "visitor": "127.0.0.1"}
    page = log_in(browser, app)
    assert (
        page.evaluate("""() => new Promise((done, failed) => {
        const socket = new WebSocket(location.origin.replace("http", "ws"));
        socket.onopen = () => socket.send("hello");
        socket.onmessage = (message) => done(message.data);
        socket.onerror = failed;
    })""")
        == "hello back"
    )


def test_express_without_the_setting_keeps_no_session(served, browser):
    app = served(["node", "express_app.js", "{port}"], plain=True, **node("express"))
    page = browser().page(app.url + "/login")
    with page.expect_navigation():
        page.click("button")
    expect(page.locator("p")).to_have_text("nobody")


def test_webpack_dev_server_shows_changes(served, browser):
    app = served(["node", "dev.js", "{port}"], copy=["webpack"], **node("webpack"))
    chromium = browser()
    page = chromium.page(app.url)
    expect(page.locator("h1")).to_have_text("Hello")
    with open(f"{app.folder}/index.js", "w") as f:
        f.write('document.querySelector("h1").textContent = "Good morning";')
    expect(page.locator("h1")).to_have_text("Good morning")
    assert any(event.startswith(f"websocket {app.url.replace('https', 'wss')}") for event in chromium.events), (
        chromium.events
    )


def test_webpack_dev_server_without_the_setting_refuses_the_name(served):
    app = served(["node", "dev.js", "{port}"], copy=["webpack"], plain=True, **node("webpack"))
    assert "Invalid Host" in app.curl().stdout.decode()


def test_rails(served, browser):
    app = served(["puma", "--bind=tcp://127.0.0.1:{port}"], copy=["rails"], env={"RAILS_ENV": "development"})
    assert visits(app, FORGED[:4]) == {"url": f"{app.url}/where", "secure": True, "visitor": "127.0.0.1"}
    assert app.answer("/old") == (302, f"{app.url}/where")
    log_in(browser, app)


def test_rails_without_the_setting_refuses_the_form(served, browser):
    app = served(
        ["puma", "--bind=tcp://127.0.0.1:{port}"], copy=["rails"], env={"RAILS_ENV": "development"}, plain=True
    )
    assert app.answer("/old")[1].startswith("http://")
    page = browser().page(app.url + "/login")
    page.click("button")
    expect(page.locator("body")).to_have_text("refused")


SPRING = ["java", "-jar", f"{CACHE}/spring/target/app.jar", "--server.address=127.0.0.1", "--server.port={port}"]


def test_spring_boot(served, browser):
    app = served(SPRING)
    assert visits(app) == {"url": f"{app.url}/where", "secure": True, "visitor": "127.0.0.1"}
    assert app.answer("/old") == (302, f"{app.url}/where")
    page = browser().page(app.url + "/private")
    assert page.url == f"{app.url}/login"
    page.fill("[name=username]", "alice")
    page.fill("[name=password]", "sesame")
    page.click("button")
    expect(page.locator("p")).to_have_text("alice")
    assert all(cookie["secure"] for cookie in page.context.cookies())


def test_spring_boot_without_the_setting_leads_to_http(served):
    app = served(SPRING, plain=True)
    assert app.answer("/old")[1].startswith("http://")


@pytest.fixture
def next_project():
    """Beside its modules: it takes none from elsewhere."""
    folder = os.path.join(CACHE, "node", "next", "project")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.join(FRAMEWORKS, "next"), folder)
    yield folder
    shutil.rmtree(folder)


def next_dev(project):
    return ["sh", "-c", 'cd "$0" && exec next dev --hostname 127.0.0.1 --port "$1"', project, "{port}"]


def save_until_shown(path, old, new, shown):
    """Edits a source until the page shows it: with a tunnel or without, Next forgets a change that comes just when the
    page begins to ask for them."""
    with open(path) as f:
        source = f.read()
    for attempt in range(6):
        with open(path, "w") as f:
            f.write(source.replace(old, f"{new} {attempt}"))
        try:
            expect(shown).to_contain_text(new, timeout=PAGE_S * 1000 / 6)
            return
        except AssertionError:
            pass
    raise AssertionError(f"{new!r} does not show")


def test_next(served, browser, next_project):
    app = served(next_dev(next_project), **node("next"))
    chromium = browser()
    page = chromium.page(app.url)
    button = page.get_by_role("button", name="pressed")
    button.click()
    expect(button).to_have_text("pressed 1 times")
    save_until_shown(os.path.join(next_project, "app", "page.js"), "Hello", "Good morning", page.locator("h1"))
    expect(button).to_have_text("pressed 1 times")
    assert app.answer("/old") == (307, "/form")
    assert app.answer("/old?absolute") == (302, f"{app.url}/form")
    log_in(browser, app, "/form")


def test_next_without_the_setting_follows_no_changes(served, browser, next_project):
    app = served(next_dev(next_project), plain=True, **node("next"))
    browser().page(app.url)
    app.err.wait(lambda line: "allowedDevOrigins" in line, START_S)
    assert app.answer("/old?absolute")[1].startswith("http://localhost:")


def rfb(connection):
    """A VNC server (RFC 6143) that asks for no password and has one black point to show."""
    connection.sendall(b"RFB 003.008\n")
    read_exactly(connection, 12)
    connection.sendall(b"\1\1")  # one kind of security: none
    read_exactly(connection, 1)
    connection.sendall(bytes(4))
    read_exactly(connection, 1)
    name = b"the desktop"
    pixels = struct.pack("!BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
    connection.sendall(struct.pack("!HH", 1, 1) + pixels + struct.pack("!I", len(name)) + name)
    while connection.recv(1024):
        pass


def test_novnc_needs_no_setting(served, browser, app):
    web = next(
        path for path in ("/usr/share/novnc", os.path.join(ROOT, ".cache/root/usr/share/novnc")) if os.path.exists(path)
    )
    desktop = served(["websockify", f"--web={web}", "127.0.0.1:{port}", f"127.0.0.1:{app(rfb).port}"])
    chromium = browser()
    page = chromium.page(desktop.url + "/vnc_lite.html")
    expect(page.locator("#status")).to_have_text("Connected to the desktop")
    assert any(event.startswith("websocket wss://") for event in chromium.events), chromium.events


@pytest.mark.parametrize("plain", [False, True], ids=["with the setting", "without"])
def test_vite_by_its_configuration(served, plain):
    app = served(["vite", "--host=127.0.0.1", "--port={port}"], copy=["vite"], plain=plain, **node("vite"))
    assert ("Hello" in app.curl().stdout.decode()) is not plain
