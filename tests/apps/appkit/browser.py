"""Debian's Chromium, driven by Playwright, in a home of its own.

The hard thing is trust: a relay's own authority is made for each test, and Chromium must believe it as it would on a
person's machine, through the NSS database of its user. Certificate errors are never ignored; test_trust.py shows that
they are not."""
import os
import subprocess

from playwright.sync_api import expect

from kit.process import DEADLINE_S

CHROMIUM = "/usr/bin/chromium"
# for what a page does: JupyterLab and VS Code load megabytes of script, here on two busy cores
PAGE_S = 60
QUIET = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync")

expect.set_options(timeout=PAGE_S * 1000)


class Browser:
    """One Chromium: domain and what is below it lead to this machine; authorities are the certificates that it trusts
    besides the public ones."""

    def __init__(self, playwright, box, domain=None, authorities=()):
        self.pages, self.events = [], []
        home = box.file(box.unique("browser"))
        nss = os.path.join(home, ".pki", "nssdb")
        os.makedirs(nss)
        self._certutil(nss, "-N", "--empty-password")
        for i, authority in enumerate(authorities):
            self._certutil(nss, "-A", "-n", f"adit {i}", "-t", "C,,", "-i", authority)
        rules = [f"--host-resolver-rules=MAP {domain} 127.0.0.1, MAP *.{domain} 127.0.0.1"] if domain else []
        self.browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *rules],
                                                  env={**box.env, "HOME": home})
        self.context = self.browser.new_context(viewport={"width": 1280, "height": 900})
        self.context.set_default_timeout(PAGE_S * 1000)

    @staticmethod
    def _certutil(nss, *args):
        subprocess.run(["certutil", "-d", f"sql:{nss}", *args], check=True, timeout=DEADLINE_S)

    def page(self, url=None):
        """A new tab; what happens in it is kept for the report of a failed test."""
        page = self.context.new_page()
        self.pages.append(page)
        note = self.events.append
        page.on("console", lambda m: note(f"console {m.type}: {m.text}"))
        page.on("pageerror", lambda e: note(f"page error: {e}"))
        page.on("requestfailed", lambda r: note(f"request failed: {r.method} {r.url}: {r.failure}"))
        page.on("response", lambda r: note(f"{r.status} {r.request.method} {r.url}") if r.status >= 400 else None)
        page.on("websocket",
                lambda s: (note(f"websocket {s.url}"), s.on("close", lambda s: note(f"websocket closed {s.url}"))))
        if url:
            page.goto(url)
        return page

    def report(self, folder):
        """Leaves each page's picture and text in the folder, and returns what happened in them."""
        for i, page in enumerate(self.pages):
            if page.is_closed():
                continue
            os.makedirs(folder, exist_ok=True)
            try:
                page.screenshot(path=os.path.join(folder, f"page-{i}.png"), timeout=10000)
                with open(os.path.join(folder, f"page-{i}.html"), "w") as f:
                    f.write(page.content())
            except Exception as e:          # a page that hangs; the events below are still worth having
                self.events.append(f"no picture of page {i} ({page.url}): {e}")
        return f"--- browser (pictures in {folder})\n" + "\n".join(self.events[-200:])

    def close(self):
        self.browser.close()
