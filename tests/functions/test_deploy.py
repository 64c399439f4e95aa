"""Apps that stay: `adit foreman`, `adit deploy`, `adit app`, `adit run --detach`."""
import json
import os
import signal
import socket
import sys

import pytest
from kit.process import wait_until
from own_foreman import BUILD_S

APP = """
import os
from adit import App, Queue, web_endpoint
app = App("shop")
@app.function(container_idle_timeout=IDLE)
@web_endpoint()
def page():
    return {"version": VERSION, "host": os.uname().nodename}
@app.function(container_idle_timeout=IDLE)
def version():
    print("asked for", VERSION, flush=True)
    return VERSION
@app.function()
def count(n):
    yield from range(n)
@app.function()
def hold():
    print("holding", flush=True)
    return VERSION, Queue.from_name("go", create_if_missing=True).get()
"""


def text_of(version=1, idle=60):
    return APP.replace("VERSION", str(version)).replace("IDLE", str(idle))


def test_without_a_foreman_the_commands_say_how_to_start_one(adit, box, program):
    file = program("shop.py", text_of())
    for words in (("deploy", file), ("app", "list"), ("run", "--detach", f"{file}::version")):
        done = adit(*words, env={"XDG_RUNTIME_DIR": box.file("run")})
        assert done.wait(60) == 1
        assert done.err.text() == "adit: foreman: none runs (start one: adit foreman)"


def test_a_foreman_tells_systemd_keeps_others_away_and_ends_well(adit, box):
    env = {"XDG_RUNTIME_DIR": box.file("run"), "NOTIFY_SOCKET": box.file("notify")}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(env["NOTIFY_SOCKET"])
        notify.settimeout(60)
        first = adit("foreman", env=env)
        assert notify.recv(100) == b"READY=1"
        path = os.path.join(env["XDG_RUNTIME_DIR"], "adit/foreman/caller.sock")
        assert os.stat(path).st_mode & 0o777 == 0o600
        second = adit("foreman", env=env)
        assert second.wait(60) == 1
        assert f"one listens at {path} already" in second.err.text()
        first.kill(signal.SIGTERM)
        assert notify.recv(100) == b"STOPPING=1"
        assert first.wait(60) == 0
    assert not os.path.exists(path)


def test_a_deployed_app_is_served_and_called_until_it_is_stopped(service, program, page):
    file = program("shop.py", text_of())
    url = service.deploy(file)["page"]
    assert page(service, url)["version"] == 1
    found = service.python("""
from adit import Function
print(Function.lookup("shop", "version").remote(), Function.from_name("shop", "version").spawn().get())
print(list(Function.from_name("shop", "count").remote_gen(3)), Function.from_name("shop", "page").web_url)
""")
    assert found.wait(60) == 0, found.report()
    assert found.out.lines == ["1 1", f"[0, 1, 2] {url}"]
    shop = service.apps()["shop"]
    assert (shop["state"], shop["version"], shop["urls"]) == ("deployed", 1, {"page": url})
    assert service.done("app", "logs", "shop").out.lines.count("asked for 1") == 2
    table = service.done("app", "list").out.lines
    assert table[0].split()[:3] == ["NAME", "ID", "STATE"] and table[1].split()[:3] == ["shop", shop["app"], "deployed"]
    service.done("app", "stop", "shop")
    assert service.apps() == {}
    missing = service.python("from adit import Function\nFunction.lookup('shop', 'version')")
    assert missing.wait(60) == 1 and "app shop: there is none of that name" in missing.err.text()
    assert "there is none of that name" in service.done("app", "stop", "shop", status=1).err.text()


def test_a_new_version_takes_over_and_the_one_before_finishes_what_it_has(service, program, page):
    file = program("shop.py", text_of())
    url = service.deploy(file)["page"]
    held = service.python("""
from adit import Function, Queue
go, version = Queue.from_name("go", create_if_missing=True), Function.lookup("shop", "version")
held = Function.lookup("shop", "hold").spawn()
print("spawned", flush=True)
while version.remote() == 1:
    pass
print("new", flush=True)
go.put("go")
print(held.get())
""")
    logs = service.adit("app", "logs", "-f", "shop")
    logs.out.wait(lambda line: "holding" in line, 60)
    program("shop.py", text_of(2))
    assert service.deploy(file)["page"] == url
    assert page(service, url)["version"] == 2
    assert held.wait(60) == 0, held.report()
    assert held.out.lines == ["spawned", "new", "(1, 'go')"]
    assert service.apps()["shop"]["version"] == 2


def test_a_version_that_cannot_be_imported_is_refused_and_the_one_before_goes_on(service, program, page):
    file = program("shop.py", text_of())
    url = service.deploy(file)["page"]
    program("shop.py", text_of(2) + "oh no")
    assert "SyntaxError" in service.done("deploy", file, status=1).err.text()
    program("shop.py", text_of(2) + "from adit import is_local\nassert is_local(), 'not in containers'\n")
    assert "not in containers" in service.done("deploy", file, status=1).err.text()
    assert page(service, url)["version"] == 1
    assert service.apps()["shop"]["version"] == 1


def test_what_is_stopped_while_it_is_deployed_does_not_come_up(service, program):
    file = program("slow.py", f"from adit import App, Image\napp = App('slow', image=Image.debian_slim().run_commands("
                   f"'echo {os.urandom(4).hex()}; sleep 250'))\n@app.function()\ndef f():\n    return 1\n")
    deploying = service.adit("deploy", file)
    wait_until(service.containers, "nothing is built", 60)
    service.done("app", "stop", "slow")
    assert deploying.wait(60) == 1
    assert "app slow: it was stopped" in deploying.err.text()
    service.nothing_stays()
    assert service.apps() == {}


def test_a_version_has_the_files_of_its_time_also_after_a_restart(service, program, box):
    data = box.file("data.txt", "one")
    file = program("m.py", "from adit import App, Mount\n"
                           f"app = App('m', mounts=[Mount.from_local_file({data!r}, '/root/data.txt')])\n"
                   "@app.function()\ndef f():\n    return open('/root/data.txt').read()\n")

    def said():
        asked = service.python("from adit import Function\nprint(Function.lookup('m', 'f').remote())")
        assert asked.wait(60) == 0, asked.report()
        return asked.out.text()

    service.deploy(file)
    assert said() == "one"
    box.file("data.txt", "two")
    service.deploy(file)
    assert said() == "two"
    os.unlink(data)
    service.program.kill(signal.SIGKILL)
    service.program.wait(60)
    service.start()
    assert said() == "two"


def test_functions_alone_are_imported_before_they_are_deployed(service, program):
    file = program("sums.py", "import sys\nfrom adit import App, is_local\napp = App()\nif not is_local():\n"
                              "    import nowhere\n"
                   "@app.function()\ndef f():\n    return 1\n")
    assert "has no name" in service.done("deploy", file, status=1).err.text()
    assert "No module named 'nowhere'" in service.done("deploy", file, "--name", "sums", status=1).err.text()
    assert service.apps() == {}


def test_an_idle_app_has_no_containers_and_a_visitor_starts_one(service, program, page):
    url = service.deploy(program("shop.py", text_of(idle=1)))["page"]
    wait_until(lambda: service.apps()["shop"]["containers"] == 0, "its containers stay", 60)
    service.nothing_stays()     # nor do spares
    assert page(service, url)["version"] == 1


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_foreman_that_comes_back_has_its_apps_at_their_urls(service, program, page, end):
    url = service.deploy(program("shop.py", text_of()))["page"]
    before = service.apps()["shop"]
    service.program.kill(end)
    service.program.wait(60)
    service.start()
    assert page(service, url)["version"] == 1
    after = service.apps()["shop"]
    assert (after["app"], after["version"], after["urls"]) == (before["app"], 1, {"page": url})
    assert service.python("from adit import Function\n"
                          "assert Function.lookup('shop', 'version').remote() == 1").wait(60) == 0


def test_a_detached_run_goes_on_without_its_caller(service, program):
    file = program("shop.py", text_of())
    done = service.done("run", "--detach", f"{file}::version")
    identity = next(line for line in done.err.lines if "It goes on as" in line).split()[5]
    logs = service.adit("app", "logs", "-f", identity)
    assert logs.wait(BUILD_S) == 0
    assert logs.out.lines == ["asked for 1"]
    assert service.apps() == {}


def test_an_app_of_a_caller_that_was_killed_ends(service, program):
    file = program("wait.py", "from adit import App\napp = App()\n@app.function()\ndef f():\n"
                              "    print('here', flush=True)\n"
                   "    import time\n    time.sleep(250)\n")
    run = service._adit("run", file, env={**service.env, "ADIT_FOREMAN": service.socket})
    run.out.wait(lambda line: line == "here", BUILD_S)
    assert service.apps()["wait"]["state"] == "run"
    run.kill(signal.SIGKILL)
    service.nothing_stays(30)
    assert service.apps() == {}


def test_deploy_is_in_python_too(service, program):
    file = program("py.py", "from adit import App\napp = App('py')\n@app.function()\ndef f():\n    return 5\n"
                   "if __name__ == '__main__':\n    app.deploy(show_progress=False)\n")
    done = service.box.start([sys.executable, file], env={**service.env, "HOME": service.box.home})
    assert done.wait(BUILD_S) == 0, done.report()
    assert service.apps()["py"]["state"] == "deployed"
