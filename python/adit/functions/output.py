"""What a person sees: progress on stderr, the functions' output on stdout and stderr as it comes."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from .. import exception
from . import quantities
from .printable import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .remote import Channel
    from .wire import Meta

JOIN_S = 10.0


class Output:
    """Of one run."""

    def __init__(self, *, quiet: bool = False, failures: bool = False) -> None:
        self._quiet, self._failures = quiet, failures  # of containers that do not start: whoever calls is told them
        self._console: Any = None
        self._status: Any = None
        self._lock = threading.Lock()
        self._workers: dict[str, int] = {}
        self._streams: dict[tuple[str, int], tuple[Stream, str]] = {}
        self._building_since: float | None = None
        self._began = time.monotonic()
        self._last_failure = ""

    def __enter__(self) -> Output:
        if not self._quiet and sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from rich.console import Console

                self._console = Console(stderr=True, highlight=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_status()

    def _stop_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def say(self, text: str) -> None:
        """A line of our own."""
        if self._quiet:
            return
        if self._console is not None:
            self._console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def progress(self, text: str) -> None:
        """What goes on at the moment; each on a line of its own where there is no terminal."""
        if self._quiet:
            return
        if self._console is None:
            print(text, file=sys.stderr, flush=True)
        elif self._status is None:
            self._status = self._console.status(self._line(text), spinner="dots")
            self._status.start()
        else:
            self._status.update(self._line(text))

    def stopping(self) -> None:
        """It was told to end, which may take a moment."""
        self._stop_status()
        self.say("Stopping...")

    def done(self, used: Meta | None, *, succeeded: bool) -> None:
        """The end, and what it has come to."""
        took = quantities.duration(time.monotonic() - self._began)
        text = f"\u2713 Done in {took}." if succeeded else f"Ended after {took}."
        if used is not None and used["seconds"] > 0:
            text += " " + quantities.sentence(used)
        self.say(text)

    def _line(self, text: str) -> Any:
        """One line, in which nothing means anything to the terminal."""
        from rich.text import Text

        shown = "".join(c if c.isprintable() else " " for c in text)
        return Text(shown[: max(self._console.width - len("x  "), 1)], no_wrap=True)

    @contextlib.contextmanager
    def following(
        self, channel: Channel, app: str, *, version: int | None = None, to_end: bool = True
    ) -> Iterator[Callable[[], bool]]:
        """Shows the news of an app, with ``to_end`` to their end after the block; with ``version`` only those from now
        on, and of that version. What it gives tells whether there may be more."""
        left = threading.Event()
        args = (channel, {"app": app, "past": version is None, "holds": True}, version, left)
        thread = threading.Thread(target=self._follow, args=args, name="adit-output", daemon=True)
        thread.start()
        try:
            yield thread.is_alive
        finally:
            if not to_end:
                left.set()
            else:
                thread.join(JOIN_S)
            self._stop_status()

    def _follow(self, channel: Channel, meta: Meta, version: int | None, left: threading.Event) -> None:
        with contextlib.suppress(exception.Error):
            for news in channel.listen("app_news", meta):
                if left.is_set():
                    return
                with self._lock:
                    if version is None or news.get("version", version) == version:
                        self.show(news)
        self.flush()

    def flush(self) -> None:
        """Shows lines that have no end."""
        with self._lock:
            for (_, number), (held, name) in self._streams.items():
                self._write(number, held, b"", name, end=True)
            self._streams.clear()

    def show(self, news: Meta) -> None:
        kind = news["kind"]
        if kind == "output":
            self._stop_status()  # which would hold it back until then
            self._pass_on(news)
        elif kind == "image":
            self._building_since = self._building_since or time.monotonic()
            self.progress(f"Building the image: {news['text']}")
        elif kind == "build" and self._console is not None:
            self.progress(f"Building the image: {news['text']}")
        elif kind == "started":
            self._stop_status()
            if self._building_since is not None:
                self.say(f"\u2713 Image built in {time.monotonic() - self._building_since - news['seconds']:.0f} s")
                self._building_since = None
            self.say(f"\u2713 {news['function']} started ({news['seconds']:.1f} s)")
        elif kind == "note":
            self._stop_status()
            self.say(news["text"])
        elif kind == "failed" and self._failures and news["text"] != self._last_failure:
            self._stop_status()
            self._last_failure = news["text"]  # several functions may have one image
            self.say(f"adit: {news['text']}")

    def _pass_on(self, news: Meta) -> None:
        """As it is; with the container's name before each line when there are several."""
        worker, number = news["worker"], int(news["stream"])
        self._workers.setdefault(worker, len(self._workers))
        name = f"[{news['function']} {self._workers[worker] + 1}] " if len(self._workers) > 1 else ""
        held = self._streams.setdefault((worker, number), (Stream(), name))[0]
        self._streams[worker, number] = held, name
        self._write(number, held, news["data"].encode("latin-1"), name)

    def _write(self, number: int, held: Stream, data: bytes, name: str, end: bool = False) -> None:
        stream = sys.stdout if number == 1 else sys.stderr
        with contextlib.suppress(ValueError, OSError):
            stream.flush()
            shown = held.take(data, name=name.encode(), terminal=stream.isatty(), end=end)
            others = [other for (_, n), (other, _) in self._streams.items() if n == number and other is not held]
            if shown:
                shown = b"".join(other.cut() for other in others) + shown
            getattr(stream, "buffer", None) and stream.buffer.write(shown)
            stream.flush()
