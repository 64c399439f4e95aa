"""Images: steps, and what stays of them."""
import os

PROGRAM = """
import os
from adit import App, Image
app = App()
app.image = (Image.debian_slim().pip_install("six", pre=True).env({{"LEVEL": "3 4"}}).workdir("/srv")
             .copy_local_file("{file}", "/srv/data/").run_commands("echo made > /srv/made"))
@app.function()
def f():
    import six
    return [six.__name__, os.environ["LEVEL"], os.getcwd(), open("data/given.txt").read(), open("made").read()]
"""


def test_each_kind_of_step_shows_in_the_container(adit, program, box):
    file = program("steps.py", PROGRAM.format(file=box.file("given.txt", "given")))
    run = adit("run", "-q", file)
    assert run.wait(400) == 0, run.report()
    assert run.out.lines == ["['six', '3 4', '/srv', 'given', 'made\\n']"]


def test_a_step_that_fails_is_told_with_its_command_and_last_lines(adit, program, nothing_stays):
    file = program("bad.py", "from adit import App, Image\napp = App(image=Image.debian_slim().run_commands('echo oh dear; exit 7'))\n"
                   "@app.function()\ndef f(): pass\n")
    run = adit("run", file)
    assert run.wait(400) == 1
    assert "this step failed (status 7): echo oh dear; exit 7\noh dear" in run.err.text(), run.report()
    nothing_stays()


def test_layers_are_made_once(adit, program):
    text = "from adit import App, Image\napp = App(image=Image.debian_slim().run_commands('true # once'))\n@app.function()\ndef f(): pass\n"
    file = program("once.py", text)
    first, second = adit("run", file), None
    assert first.wait(400) == 0
    second = adit("run", file)
    assert second.wait(400) == 0
    assert "step:" in first.err.text() and "step:" not in second.err.text()


def test_settings_of_pip_are_used_and_leave_no_trace(adit, program, engine):
    secret = "pass" + os.urandom(8).hex()
    file = program("private.py", "from adit import App, Image\napp = App(image=Image.debian_slim().pip_install('nothing-of-that-name')"
                   ")\n@app.function()\ndef f(): pass\n")
    index = f"http://user:{secret}@127.0.0.1:9/simple"
    run = adit("run", file, env={"PIP_INDEX_URL": index, "PIP_RETRIES": "0", "PIP_FIND_LINKS": "", "PIP_NO_INDEX": "0"})
    assert run.wait(400) == 1
    assert "127.0.0.1" in run.err.text() and secret not in run.err.text(), run.report()

    install = "Image.debian_slim().run_commands('true').pip_install('six')"
    file = program("traces.py", f"from adit import App, Image\napp = App(image={install})\n@app.function()\ndef f(): pass\n")
    run = adit("run", file, env={"PIP_EXTRA_INDEX_URL": index, "PIP_RETRIES": "0"})
    assert run.wait(400) == 0, run.report()
    newest = max((i for i in engine.json("/images/json") if any("adit/layer" in t for t in i["RepoTags"] or [])), key=lambda i: i["Created"])
    assert secret.encode() not in engine.ask("GET", f"/images/{newest['Id']}/get")


def test_a_base_that_cannot_be_had_is_told(adit, program):
    file = program("base.py", "from adit import App, Image\napp = App(image=Image.from_registry('127.0.0.1:9/nowhere:1'))\n"
                   "@app.function()\ndef f(): pass\n")
    run = adit("run", file)
    assert run.wait(400) == 1
    assert "127.0.0.1:9" in run.err.text() and "Traceback" not in run.err.text(), run.report()
