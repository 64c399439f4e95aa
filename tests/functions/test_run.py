"""`adit run`: a function of a file in a container."""
import os
import signal
import sys

from conftest import BUILD_S
from kit.process import wait_until
from kit.roles import Relay

START_APP = "start_app.py"


def test_runs_the_only_function_streams_its_output_and_leaves_nothing_behind(adit, nothing_stays):
    run = adit("run", START_APP)
    assert run.wait(BUILD_S) == 0, run.report()
    assert run.out.lines[0].startswith("tunnel.url        = https://")
    assert run.out.lines[1].startswith("tunnel.tls_socket = ('")
    assert "\u2713 start_app started" in run.err.text()
    nothing_stays()


def test_with_a_token_the_addresses_are_those_of_its_relay(adit, box, visit):
    relay = Relay(box)
    serve = adit("serve", "web.py", env={"ADIT_TOKEN": relay.token()})
    url = serve.out.wait(lambda line: line.startswith("pages => "), BUILD_S).split()[-1]
    assert f".{relay.domain}" in url
    assert visit(f"{url}/deep/page", trust=relay.authority).status == 200
    run = adit("run", START_APP, env={"ADIT_TOKEN": relay.token()})
    assert run.wait(BUILD_S) == 0
    assert f".{relay.domain}" in run.out.lines[0]


def test_options_of_the_command_line_are_the_arguments(adit, program):
    file = program("sums.py", "from adit import App\napp = App()\n@app.function()\ndef add(a: int, b: float = 0.5):\n"
                              "    return a + b\n")
    run = adit("run", "-q", f"{file}::add", "--a", "2")
    assert run.wait(BUILD_S) == 0, run.report()
    assert run.out.lines == ["2.5"]
    assert run.err.lines == []


def test_a_local_entrypoint_runs_here_and_its_calls_in_containers(adit, program):
    file = program("entry.py", """
from adit import App, is_local
app = App()
@app.function()
def where():
    return is_local()
@app.local_entrypoint()
def main(word: str = "x"):
    print(word, is_local(), where.remote())
""")
    run = adit("run", "-q", file, "--word", "hello")
    assert run.wait(BUILD_S) == 0, run.report()
    assert run.out.lines == ["hello True False"]


def test_an_exception_shows_the_lines_of_the_user_and_no_others(adit, program):
    file = program("wrong.py", "from adit import App\napp = App()\n@app.function()\ndef f():\n    return 1 / 0\n")
    run = adit("run", "-q", file)
    assert run.wait(BUILD_S) == 1
    text = run.err.text()
    assert "ZeroDivisionError: division by zero" in text and 'wrong.py", line 5, in f' in text
    assert "adit/functions" not in text


def test_of_an_exception_that_came_through_several_each_shows_its_line(adit, program):
    file = program("through.py", """
from adit import App
app = App()
class OfTwo(Exception):
    def __init__(self, one, two):
        super().__init__(one)
@app.function()
def inner():
    raise OfTwo("one", "two")    # which cannot be made anew of what str() says
@app.function()
def outer():
    return inner.remote()
@app.function()
def needs(a):
    pass
@app.local_entrypoint()
def main(lacks: bool = False):
    (needs if lacks else outer).remote()
""")
    run = adit("run", "-q", file)
    assert run.wait(BUILD_S) == 1
    text = run.err.text()
    for line in ("line 9, in inner\n", "through.OfTwo: one\n", "line 12, in outer\n", "line 18, in main\n"):
        assert text.count(line) == 1, text
    assert text.rstrip().endswith("ExecutionError: inner: OfTwo: one") and "adit/functions" not in text
    run = adit("run", "-q", file, "--lacks", "yes")
    assert run.wait(BUILD_S) == 1
    text = run.err.text()
    assert "line 18, in main" in text and text.rstrip().endswith("required positional argument: 'a'")
    assert "adit/functions" not in text


def test_what_an_image_lacks_is_said_with_where_it_would_come_from(adit, program):
    here = program("only_here.py", "")
    package = os.path.join(os.path.dirname(here), "site-packages")
    os.makedirs(package)
    os.rename(here, os.path.join(package, "only_here.py"))
    file = program("lacks.py", "import only_here\nfrom adit import App\napp = App()\n@app.function()\ndef f(): pass\n")
    run = adit("run", "-q", file, env={"PYTHONPATH": package})
    assert run.wait(BUILD_S) == 1
    assert "adit: f: its image has no only_here (install what has it: image.pip_install(...))" in run.err.text()
    assert "adit/functions" not in run.err.text() and "importlib" not in run.err.text()


def test_interrupted_it_ends_with_130_and_leaves_nothing_behind(adit, program, nothing_stays):
    file = program("long.py", "import time\nfrom adit import App\napp = App()\n@app.function()\ndef f():\n"
                              "    print('up')\n    time.sleep(600)\n")
    run = adit("run", file)
    run.out.wait(lambda line: line == "up", BUILD_S)
    run.kill(signal.SIGINT)
    assert run.wait() == 130, run.report()
    nothing_stays(0.1)


def test_a_function_hears_of_the_interrupt_and_may_clean_up(adit, program):
    file = program("clean.py", """
import time
from adit import App
app = App()
@app.function()
def f():
    try:
        print("up")
        time.sleep(600)
    finally:
        print("cleaned")
""")
    run = adit("run", file)
    run.out.wait(lambda line: line == "up", BUILD_S)
    run.kill(signal.SIGINT)
    assert run.wait() == 130
    assert "cleaned" in run.out.text()


def test_interrupted_while_an_image_is_built_nothing_stays_either(adit, program, nothing_stays):
    file = program("slow.py", "from adit import App, Image\n"
                              "app = App(image=Image.debian_slim().run_commands('sleep 601'))\n"
                   "@app.function()\ndef f():\n    pass\n")
    run = adit("run", file)
    run.err.wait(lambda line: "sleep 601" in line, BUILD_S)
    run.kill(signal.SIGINT)
    assert run.wait(60) == 130, run.report()
    assert "Traceback" not in run.err.text()
    nothing_stays(0.1)


def test_the_containers_of_a_caller_that_is_killed_end_at_once(adit, program, nothing_stays):
    file = program("long.py", "import time\nfrom adit import App\napp = App()\n@app.function()\ndef f():\n"
                              "    print('up')\n    time.sleep(600)\n")
    run = adit("run", file)
    run.out.wait(lambda line: line == "up", BUILD_S)
    run.kill(signal.SIGKILL)
    nothing_stays(20)


def test_a_step_under_way_ends_with_a_caller_that_is_killed(adit, program, engine, nothing_stays, tmp_path):
    file = program("build.py", "from adit import App, Image\n"
                               "app = App(image=Image.debian_slim().run_commands('echo up; sleep 600'))\n"
                   "@app.function()\ndef f():\n    pass\n")
    folders = {"TMPDIR": str(tmp_path)}
    run = adit("run", file, env=folders)
    run.err.wait(lambda line: "sleep 600" in line, BUILD_S)

    def building():
        return [c for c in engine.containers() if f" {run.pid} " in c["Labels"].get("adit.owner", "")
                and c["State"] == "running"]
    wait_until(building, "the step does not run", BUILD_S)
    run.kill(signal.SIGKILL)
    wait_until(lambda: not building(), "the step goes on", 20)
    again = adit("run", START_APP, env=folders)
    assert again.wait(BUILD_S) == 0
    nothing_stays()
    assert not os.listdir(tmp_path)     # among it the settings of pip that the step had


def test_what_is_asked_for_wrongly_is_said_in_a_sentence(adit, program):
    two = program("two.py", "from adit import App\napp = App()\n@app.function()\ndef f(): pass\n@app.function()\n"
                            "def g(): pass\n")
    web = program("only_web.py", "from adit import App, web_endpoint\napp = App()\n@app.function()\n@web_endpoint()\n"
                                 "def w(): pass\n")
    for words, said in (
        (["run", two], f"adit run {two}::g"),
        (["run", f"{two}::h"], "there is no such function (there are: f, g)"),
        (["run", web], f"use: adit serve {web}"),
        (["run", "/nowhere/x.py"], "there is no such file"),
        (["serve", two], "it has no web endpoints"),
        (["shell", two], f"adit shell {two}::g"),
    ):
        run = adit(*words)
        assert run.wait(60) != 0
        assert said in run.err.text() and "Traceback" not in run.err.text(), run.report()


def test_without_an_engine_it_says_what_to_do(adit):
    run = adit("run", START_APP, env={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert run.wait(60) == 1
    assert run.err.text().startswith("adit: engine unix:///nowhere/docker.sock:")
    assert "adit doctor tells more" in run.err.text()


def test_folders_of_callers_that_died_are_removed_by_the_next(adit, settings, tmp_path):
    folders = {"TMPDIR": str(tmp_path)}
    run = adit("serve", "web.py", env=folders)
    run.out.wait(lambda line: line.startswith("hello"), BUILD_S)
    left = set(os.listdir(tmp_path))
    run.kill(signal.SIGKILL)
    run.wait()
    assert left
    assert adit("run", START_APP, env=folders).wait(BUILD_S) == 0
    assert not left & set(os.listdir(tmp_path))


def test_a_program_may_run_its_app_itself(box, settings, program, nothing_stays):
    file = program("itself.py", """
from adit import App
app = App()
class Own:
    pass
@app.function()
def make(n):
    own = Own()
    own.n = n * n
    return own
if __name__ == "__main__":
    with app.run(show_progress=False):
        made = list(make.map(range(3)))
    print([own.n for own in made], all(isinstance(own, Own) for own in made))
""")
    run = box.start([sys.executable, file], env=settings)
    assert run.wait(BUILD_S) == 0, run.report()
    assert run.out.lines == ["[0, 1, 4] True"]
    assert run.err.lines == []
    nothing_stays()
