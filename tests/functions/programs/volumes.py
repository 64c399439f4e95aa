"""Functions that share files."""
import os
import sqlite3

from adit import App, Image, Mount, NetworkFileSystem, Queue, Volume

NAME = os.environ.get("TEST_VOLUME", "none")
shared = Volume.from_name(NAME, create_if_missing=True)
short = Volume.ephemeral()
here = os.path.dirname(os.path.abspath(__file__))
app = App("volumes")


@app.function(volumes={"/data": shared}, max_inputs=1)
def write(name, text):
    os.makedirs("/data/deep/folder", exist_ok=True)
    path = f"/data/deep/folder/{name}"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))     # its mode is nobody else's business
    with open(path, "a") as file:
        file.write(text)
    with sqlite3.connect("/data/table.db") as table:
        table.execute("CREATE TABLE IF NOT EXISTS t (x)")
        table.execute("INSERT INTO t VALUES (?)", (text,))
    shared.commit()
    return os.environ["ADIT_CONTAINER"]


@app.function(network_file_systems={"/root/.cache/model": NetworkFileSystem.from_name(NAME)}, max_inputs=1)
def read(name):
    shared.reload()
    model = "/root/.cache/model"
    with open(f"{model}/deep/folder/{name}") as file, sqlite3.connect(f"{model}/table.db") as table:
        return file.read(), table.execute("SELECT count(*) FROM t").fetchone()[0]


@app.function(volumes={"/data": shared, "/short": short})
def wait_for(path, go):
    found = go.get()
    with open(path) as file:
        return found, file.read()


@app.function(volumes={"/short": short}, max_inputs=1)
def note(text):
    before = os.listdir("/short")
    with open(f"/short/{text}", "w"):
        pass
    return before


@app.function()
def look():
    return os.path.exists("/data"), [m for m in open("/proc/mounts") if "/volumes/" in m], os.getuid()


@app.function(mounts=[Mount.from_local_dir(here, condition=lambda path: path.endswith("hub.py"), remote_path="/given"),
                      Mount.from_local_file(os.path.join(here, "web.py"), "own/web.py"),
                      Mount.from_local_python_packages("iniconfig")])
def mounted():
    import iniconfig
    return os.listdir("/given"), os.path.exists("own/web.py"), iniconfig.__file__


@app.function(image=Image.debian_slim().run_commands("mkdir /full && touch /full/x"), volumes={"/full": shared})
def full():
    """Whose image has files where its volume is to be."""
