"""`adit serve`: web endpoints, and their reload."""
import shutil
import signal

import pytest
from conftest import BUILD_S, PROGRAMS

SERVED = ("hello", "pages", "old", "files", "Model.answer", "Model.pages", "shown")


@pytest.fixture
def served(adit, box):
    file = box.file("web.py")
    shutil.copy(f"{PROGRAMS}/web.py", file)
    program = adit("serve", file)
    program.file = file
    return program


def rewrite(program, old, new):
    with open(program.file) as file:
        text = file.read()
    with open(program.file, "w") as file:
        file.write(text.replace(old, new))


def test_every_kind_of_web_function_answers_at_its_url(served, adit, url_of, visit, nothing_stays):
    urls = {name: url_of(served, name) for name in SERVED}
    assert len(set(urls.values())) == len(SERVED)
    assert visit(urls["hello"] + "/?name=me").body == b'{"hello":"me","version":1}'
    assert visit(urls["hello"], method="POST").status == 405
    assert visit(urls["hello"] + "/docs").status == 404
    assert visit(urls["pages"] + "/deep/page").body == b'{"page":"deep"}'
    assert visit(urls["old"] + "/x/y").body == b"wsgi /x/y"
    assert b"debian" in visit(urls["files"] + "/os-release").body
    assert [visit(urls["Model.answer"] + f"/?word={word}").body for word in "ab"] == [b'["a"]', b'["a","b"]']
    assert visit(urls["Model.pages"] + "/count").body == b'["me"]'
    origin = {"Origin": "https://other.example"}
    for name, seen in (("hello", None), ("shown", "*")):
        headers = visit(urls[name], headers=origin).headers
        assert headers["Access-Control-Allow-Origin"] == seen and not headers["Access-Control-Allow-Credentials"]
    assert b"swagger" in visit(urls["shown"] + "/docs").body
    served.kill(signal.SIGINT)
    assert served.wait(60) == 130
    nothing_stays(0.1)
    again = adit("serve", served.file)
    assert url_of(again, "shown").partition(".")[0] == urls["shown"].partition(".")[0]
    again.kill(signal.SIGINT)
    assert again.wait(60) == 130


def test_an_edit_is_served_at_the_same_url_and_a_wrong_one_is_not(served, url_of, visit):
    url = url_of(served, "hello")
    rewrite(served, '"version": 1', '"version": 2')
    served.err.wait(lambda line: "Reloaded" in line, BUILD_S)
    assert visit(url).body == b'{"hello":"you","version":2}'
    rewrite(served, '"version": 2', '"version": 3 oh')
    served.err.wait(lambda line: "SyntaxError" in line, BUILD_S)
    assert visit(url).body == b'{"hello":"you","version":2}'
    rewrite(served, '"version": 3 oh', '"version": 4')
    served.err.wait_until(lambda lines: sum("Reloaded" in line for line in lines) == 2, "no second reload", BUILD_S)
    assert visit(url).body == b'{"hello":"you","version":4}'
