"""A scheduled job: at two in the morning it looks at what the day has left, and keeps a report for a month.

    adit foreman                                     # in another terminal, or as a service
    adit deploy examples/functions/nightly.py        # it runs by itself from now on
    adit app list                                    # when it runs next
    adit app logs -f nightly
    adit run examples/functions/nightly.py           # once, now, and by hand

A night on which the machine was off is made up for, once, when it is on again.
"""

import pathlib
import time

from adit import App, Cron, Volume

app = App("nightly")
REPORTS = pathlib.Path("/reports")
KEPT_DAYS = 30


@app.function(
    schedule=Cron("0 2 * * *", timezone="Europe/Berlin"),
    volumes={str(REPORTS): Volume.from_name("nightly-reports", create_if_missing=True)},
    timeout=1800,
    retries=2,
)
def report():
    now = time.time()
    for old in REPORTS.glob("*.txt"):
        if now - old.stat().st_mtime > KEPT_DAYS * 86_400:
            old.unlink()
    path = REPORTS / time.strftime("%Y-%m-%d.txt", time.gmtime(now))
    with path.open("a") as file:
        print(time.strftime("%H:%M:%S UTC: all is well", time.gmtime(now)), file=file)
    print(f"{path.name} has {len(path.read_text().splitlines())} lines", flush=True)
