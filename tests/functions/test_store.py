"""A foreman whose store is PostgreSQL: what it keeps is there when it, or the server, was started again."""
import json
import signal

import pytest
from kit.process import wait_until
from kit.roles import Relay
from own_foreman import Service
from test_deploy import text_of


class Stored(Service):
    def __init__(self, url, *given):
        self.url = url
        super().__init__(*given)

    def start(self):
        super().start("--store", self.url)


@pytest.fixture
def service(adit, box, engine, postgresql):
    service = Stored(postgresql.database(), adit, box, Relay(box), engine)
    yield service
    service.done("app", "stop", "shop")
    service.program.stop()
    service.nothing_stays()


def test_apps_and_usage_outlive_foreman_and_server(service, program, page, postgresql):
    url = service.deploy(program("shop.py", text_of()))["page"]
    assert page(service, url)["version"] == 1
    postgresql.stop()
    service.program.kill(signal.SIGKILL)
    service.program.wait(60)
    assert "sesame" not in service.program.err.text()
    postgresql.start()
    service.start()
    assert page(service, url)["version"] == 1
    postgresql.stop()
    postgresql.start()
    assert service.deploy(program("shop.py", text_of(2)))["page"] == url
    assert page(service, url)["version"] == 2

    def is_written():
        used = json.loads(service.done("usage", "--store", service.url, "--json").out.text())
        return [row["app"] for row in used["rows"]][-1] == "shop" and used["total"]["core_hours"] > 0

    wait_until(is_written, "no usage is written down", 30)


def test_a_foreman_without_its_server_says_so_and_ends(adit, box, postgresql):
    env = {"XDG_RUNTIME_DIR": box.file("run"),
           "ADIT_STORE": f"postgresql://owner:sesame@/x?host={postgresql.folder}/nowhere"}
    foreman = adit("foreman", env=env)
    assert foreman.wait(60) == 1
    assert "adit: store: PostgreSQL (host=" in foreman.err.text()
    assert "sesame" not in foreman.out.text() + foreman.err.text()
