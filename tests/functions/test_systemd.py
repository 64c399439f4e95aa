"""service/adit-foreman.service under a real systemd."""
import json
import os
import shutil
import sys

import pytest
from conftest import BUILD_S, ROOT
from kit.process import wait_until
from kit.systemd import Machine

# Where the engine, which is not of that machine, finds it, too.
PLACED = """[Service]
ExecStart=
ExecStart=/usr/local/bin/adit foreman --socket {0}/caller.sock
BindPaths={0}
"""
APP = """
import os
from adit import App
app = App("shop")
@app.function()
def where(n):
    return n, os.uname().nodename
"""
CALL = "from adit import Function; print(*Function.lookup('shop', 'where').remote(7))"


@pytest.fixture
def machine(box, engine, settings):
    """With the package, where units find it that do not see /tmp, and with this engine, which sees of it what is in the
    test's own folder."""
    package = os.path.dirname(os.path.dirname(sys.executable))
    m = Machine(box, [(box.path, box.path), (package, package), (package, "/opt/adit"),
                      (os.path.dirname(engine.path), "/run/engine")])
    m.write("/usr/local/bin/adit", '#!/bin/sh\nexec /opt/adit/bin/python3 -m adit "$@"\n', mode=0o755)
    given = {k: v for k, v in settings.items() if k.startswith(("PIP_", "SSL_", "http", "ADIT_"))}
    m.write("/etc/adit/foreman.env", "".join(f"{name}={value}\n" for name, value in
                                             {**given, "DOCKER_HOST": "unix:///run/engine/docker.sock"}.items()))
    shutil.copy(f"{ROOT}/service/adit-foreman.service", m.path("/etc/systemd/system"))
    return m


def test_the_unit_is_up_when_it_answers_where_roots_commands_look_and_its_stop_is_no_failure(machine):
    machine.done("systemctl", "enable", "--now", "adit-foreman")
    assert json.loads(machine.done("adit", "app", "list", "--json")) == []
    assert os.stat(machine.path("/run/adit/foreman")).st_mode & 0o777 == 0o700
    machine.done("systemctl", "stop", "adit-foreman")
    assert machine.property("adit-foreman", "Result") == "success"
    assert "foreman: none runs" in machine.run("adit", "app", "list").stderr


def test_a_foreman_of_few_rights_has_functions_called_and_comes_back_to_them_when_it_is_killed(machine, box, program):
    m, place = machine, box.file("foreman")
    os.mkdir(place, 0o700)
    m.write("/etc/systemd/system/adit-foreman.service.d/place.conf", PLACED.format(place))
    m.done("systemctl", "enable", "--now", "adit-foreman")
    own = ["env", f"ADIT_FOREMAN={place}/caller.sock"]
    m.done(*own, "adit", "deploy", program("shop.py", APP), seconds=BUILD_S)
    try:
        before = m.done(*own, sys.executable, "-c", CALL, seconds=BUILD_S)
        m.done("systemctl", "kill", "--signal=KILL", "adit-foreman")
        wait_until(lambda: m.property("adit-foreman", "NRestarts") == "1", "systemd does not start it again")
        wait_until(lambda: m.property("adit-foreman", "ActiveState") == "active", "it does not come up again")
        assert m.done(*own, sys.executable, "-c", CALL) == before and before.startswith("7 ")
    finally:
        m.done(*own, "adit", "app", "stop", "shop")


def test_the_unit_leaves_the_foreman_little_to_do_beside_its_work(machine):
    machine.done("systemctl", "daemon-reload")
    assert machine.exposure("adit-foreman.service") < 3.0
