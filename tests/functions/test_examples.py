"""The programs of examples/functions, run by the commands that their docstrings tell; and ./try --hub."""
import json
import os
import signal

import pytest
from conftest import BUILD_S, ROOT
from kit.process import wait_until


@pytest.fixture
def example(adit):
    def start(command, name, *words, **options):
        return adit(command, os.path.join(ROOT, "examples", "functions", name), *words, **options)
    return start


def fetched(visit, url, **options):
    """Once it answers."""
    found = []

    def answers():
        try:
            found.append(visit(url, **options))
        except OSError:
            return False
        return True
    wait_until(answers, f"{url} does not answer", 120)
    return found[-1]


def test_a_thousand_inputs_are_spread_over_containers(example):
    run = example("run", "map.py")
    assert run.wait(BUILD_S) == 0, run.report()
    assert run.out.lines == ["106 of 1000 are prime, the last is 10993"]


def test_a_model_tells_digits(example, url_of, visit, nothing_stays):
    served = example("serve", "model.py")
    url = url_of(served, "digits")
    given = json.loads(visit(f"{url}/example?number=7").body)
    answer = visit(url, method="POST", headers={"Content-Type": "application/json"},
                   body=json.dumps({"pixels": given["pixels"]}))
    assert json.loads(answer.body)["digit"] == given["digit"]
    assert visit(url, method="POST", headers={"Content-Type": "application/json"}, body="{}").status == 422
    served.kill(signal.SIGINT)
    assert served.wait(60) == 130
    nothing_stays(0.1)


def test_a_jupyter_of_ones_own_and_one_for_each_who_asks(example, url_of, visit, nothing_stays):
    run = example("run", "jupyter.py")
    page = fetched(visit, run.out.wait(lambda line: line.startswith("https://"), BUILD_S))
    assert page.status == 200 and b"JupyterLab" in page.body
    run.kill(signal.SIGINT)
    assert run.wait(60) == 130
    served = example("serve", "hub.py", env={"HUB_TOKEN": "sesame"})
    hub = url_of(served, "jupyter_hub")
    assert visit(hub, method="POST", headers={"Authorization": "Bearer wrong"}).status == 401
    answer = visit(hub, method="POST", headers={"Authorization": "Bearer sesame"})
    assert answer.status == 303 and b"JupyterLab" in fetched(visit, answer.headers["Location"]).body
    served.kill(signal.SIGINT)
    assert served.wait(60) == 130
    nothing_stays(0.1)


def test_try_shows_a_hub_from_nothing_to_a_notebook_and_leaves_nothing(box, settings, nothing_stays):
    done = box.start([os.path.join(ROOT, "try"), "--hub"], env={**box.env, **settings})
    assert done.wait(BUILD_S) == 0, done.report()
    text = done.out.text()
    assert "without the token: HTTP 401" in text and "with it: HTTP 303" in text
    assert "HTTP 200, JupyterLab's page" in text
    nothing_stays(0.1)
