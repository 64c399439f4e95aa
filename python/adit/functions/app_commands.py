"""``adit deploy`` and ``adit app``: what the foreman that runs as a service keeps."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..exception import ClosedError
from . import bundle, session
from .command_line import Parser
from .deploying import deploy as give
from .output import Output
from .remote import AGAIN_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .remote import Channel
    from .spec import AppSpec
    from .wire import Meta

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


def show_urls(spec: AppSpec, urls: dict[str, str]) -> None:
    """A line for each endpoint."""
    for name, url in urls.items():
        web = spec.functions[name].web
        print(f"{name} => {web.method + ' ' if web and web.kind == 'endpoint' else ''}{url}", flush=True)


def _show_schedules(app: str, schedules: dict[str, dict[str, Any]]) -> None:
    for name, job in schedules.items():
        when = datetime.fromtimestamp(job["next"]).astimezone().isoformat(" ", "seconds")
        print(f"{app}{name} runs next at {when}, by {job['schedule']}", flush=True)


def deploy(words: list[str]) -> int:
    """``adit deploy FILE``."""
    from .cli import find_app

    parser = Parser(
        "deploy",
        "Has the foreman (adit foreman) keep an app: its endpoints are served, and its functions can be called,\n"
        "until adit app stop. Deployed again, the new version takes over once it is up, at the same URLs, and the one\n"
        "before finishes what it has.",
        "adit deploy hub.py                          # App('hub') has a name",
        "adit deploy hub.py --name try               # another one of the same program",
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--name", help="what the app is called (that of the App, if it has one)")
    parser.takes_spare()
    given = parser.parse_args(words)
    channel = session.service()
    app = find_app(bundle.load(given.file), given.file)
    with Output(failures=True) as output:
        done = give(channel, app, given.name, output)
        output.say(f"\u2713 {done.name} is deployed (version {done.version})")
        show_urls(done.spec, done.urls)
        _show_schedules("", done.schedules)
        if done.ca_file and done.urls:
            output.say(f"These addresses work on this machine only (curl --cacert {done.ca_file} ...)")
    return 0


def _age(seconds: float) -> str:
    for size, unit in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _list(given: argparse.Namespace) -> None:
    apps: list[dict[str, Any]] = session.service().ask("app_list")[0]["apps"]
    if given.json:
        print(json.dumps(apps, indent=2))
        return
    rows = [("NAME", "ID", "STATE", "VERSION", "FOR", "CONTAINERS", "CALLS")]
    for app in apps:
        numbers = (
            str(app["version"] or "-"),
            _age(time.time() - app["since"]),
            str(app["containers"]),
            str(app["calls"]),
        )
        rows.append((app["name"], app["app"], app["state"], *numbers))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for app in apps:
        for name, url in app["urls"].items():
            print(f"{app['name']}: {name} => {url}")
        _show_schedules(f"{app['name']}: ", app.get("schedules", {}))


def _follow(channel: Channel, app: str) -> Iterator[Meta]:
    """Until the app ends; a foreman that ends before is waited for, whose successor has what was told last, too."""
    last = 0.0
    while True:
        channel.ask("app_find", {"app": app})
        seen = last
        with contextlib.suppress(ClosedError):
            for news in channel.listen("app_news", {"app": app}):
                if news["at"] > seen:
                    seen, last = 0.0, news["at"]
                    yield news
                if news["kind"] == "ended":
                    return
        time.sleep(AGAIN_S)


def _logs(given: argparse.Namespace) -> None:
    channel = session.service()
    app = channel.ask("app_find", {"app": given.app})[0]["app"]
    there = _follow(channel, app) if given.follow else channel.listen("app_news", {"app": app, "follow": False})
    with Output(failures=True) as output:
        for news in there:
            if news["kind"] in ("output", "failed"):
                output.show(news)
        output.flush()


def _stop(given: argparse.Namespace) -> None:
    session.service().ask("app_close", {"app": given.app, "must": True})
    print(f"\u2713 {given.app} is stopped", file=sys.stderr)


def app(words: list[str]) -> int:
    """``adit app list``, ``logs``, ``stop``."""
    parser = Parser(
        "app",
        "Shows and ends what the foreman (adit foreman) keeps.",
        "adit app list                               # --json for programs",
        "adit app logs -f hub",
        "adit app stop hub",
    )
    commands = parser.add_subparsers(required=True, metavar="list|logs|stop", parser_class=argparse.ArgumentParser)
    listing = commands.add_parser("list", help="the apps that there are")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(do=_list)
    logs = commands.add_parser("logs", help="what an app's containers wrote")
    logs.add_argument("app", metavar="APP", help="its name, or its id")
    logs.add_argument("-f", "--follow", action="store_true", help="and what they write from now on")
    logs.set_defaults(do=_logs)
    stop = commands.add_parser("stop", help="ends an app with its containers and URLs")
    stop.add_argument("app", metavar="APP", help="its name, or its id")
    stop.set_defaults(do=_stop)
    given = parser.parse_args(words)
    given.do(given)
    return 0
