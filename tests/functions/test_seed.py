"""JupyterLab in a container, for whoever runs it and for whoever asks: programs that were written for Modal, with
another import."""
import json
import signal
import time

from conftest import BUILD_S

TRY_S = 120


def notebook(visit, url):
    """The page of a JupyterLab that may not listen yet, once it does."""
    end = time.monotonic() + TRY_S
    while True:
        try:
            return visit(url.replace("/?", "/lab?"))
        except OSError:
            assert time.monotonic() < end


def test_jupyter_opens_at_the_url_that_the_function_prints(adit, visit, nothing_stays):
    run = adit("run", "jupyter.py")
    url = run.out.wait(lambda line: line.startswith("Starting Jupyter at "), BUILD_S).split()[-1]
    page = notebook(visit, url)
    assert page.status == 200 and b"JupyterLab" in page.body
    token = url.partition("token=")[2]
    status = visit(url.partition("/?")[0] + "/api/status", headers={"Authorization": f"token {token}"})
    assert json.loads(status.body)["kernels"] == 0
    assert visit(url.partition("/?")[0] + "/api/contents").status == 403
    run.kill(signal.SIGINT)
    assert run.wait(60) == 130
    nothing_stays(0.1)


def test_a_hub_gives_everyone_who_asks_a_notebook_in_a_container_of_their_own(adit, visit, url_of, engine,
                                                                              nothing_stays):
    served = adit("serve", "hub.py")
    hub = url_of(served, "jupyter_hub")
    assert f"jupyter_hub => POST {hub}" in served.out.text()
    assert visit(hub, method="POST").status == 401
    assert visit(hub).status == 405
    found = []
    for _ in range(2):
        answer = visit(hub, method="POST", headers={"Authorization": "Bearer sesame"})
        assert answer.status == 303
        found.append(answer.headers["Location"])
    assert len({url.partition("/?")[0] for url in found}) == 2
    assert [notebook(visit, url).status for url in found] == [200, 200]
    assert sum("run-jupyter" in c["Names"][0] for c in engine.containers()) == 2
    served.kill(signal.SIGINT)
    assert served.wait(60) == 130
    nothing_stays(0.1)
