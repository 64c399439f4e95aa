"""What a function finds in its container, whatever the engine has installed."""
from conftest import BUILD_S


def test_the_engine_needs_no_init_for_orphans_to_be_taken_and_exit_statuses_to_be_told(adit, program):
    file = program("orphans.py", """
import os
import subprocess
import time
from adit import App
app = App()
@app.function()
def f():
    orphan = subprocess.run(["sh", "-c", "sleep 0.01 & echo $!"], stdout=subprocess.PIPE).stdout.decode().strip()
    end = time.monotonic() + 20
    while os.path.exists(f"/proc/{orphan}") and time.monotonic() < end:
        time.sleep(0.01)
    with open("/proc/1/cmdline") as first:
        print("adit.functions.runner" in first.read(), os.getpid() != 1, os.path.exists(f"/proc/{orphan}"), flush=True)
    os._exit(7)
""")
    run = adit("run", "-q", file)
    assert run.wait(BUILD_S) == 1
    assert run.out.lines == ["True True False"]
    assert "its container ended with status 7" in run.err.text()
