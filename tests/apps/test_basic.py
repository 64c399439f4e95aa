"""examples/basic.py: a web server at a public address."""


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
