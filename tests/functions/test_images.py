"""Images: steps, and what stays of them."""
import asyncio
import os

from adit.functions.engine.docker import Docker
from conftest import BASE, BUILD_S

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
    file = program("bad.py", "from adit import App, Image\n"
                             "app = App(image=Image.debian_slim().run_commands('echo oh dear; exit 7'))\n"
                   "@app.function()\ndef f(): pass\n")
    run = adit("run", file)
    assert run.wait(400) == 1
    assert "this step failed (status 7): echo oh dear; exit 7\noh dear" in run.err.text(), run.report()
    nothing_stays()


def test_layers_are_made_once(adit, program):
    text = ("from adit import App, Image\napp = App(image=Image.debian_slim().run_commands('true # once'))\n"
            "@app.function()\ndef f(): pass\n")
    file = program("once.py", text)
    first, second = adit("run", file), None
    assert first.wait(400) == 0
    second = adit("run", file)
    assert second.wait(400) == 0
    assert "step:" in first.err.text() and "step:" not in second.err.text()


def test_settings_of_pip_are_used_and_leave_no_trace(adit, program, engine):
    secret = "pass" + os.urandom(8).hex()
    file = program("private.py", "from adit import App, Image\n"
                                 "app = App(image=Image.debian_slim().pip_install('nothing-of-that-name')"
                   ")\n@app.function()\ndef f(): pass\n")
    index = f"http://user:{secret}@127.0.0.1:9/simple"
    run = adit("run", file, env={"PIP_INDEX_URL": index, "PIP_RETRIES": "0", "PIP_FIND_LINKS": "", "PIP_NO_INDEX": "0"})
    assert run.wait(400) == 1
    assert "127.0.0.1" in run.err.text() and secret not in run.err.text(), run.report()

    install = f"Image.debian_slim().run_commands('true || echo {index}').pip_install('six', extra_index_url='{index}')"
    file = program("traces.py", f"from adit import App, Image\napp = App(image={install})\n@app.function()\n"
                                "def f(): pass\n")
    run = adit("run", file, env={"PIP_EXTRA_INDEX_URL": index, "PIP_RETRIES": "0"})
    assert run.wait(400) == 0, run.report()
    newest = max((i for i in engine.json("/images/json") if any("adit/layer" in t for t in i["RepoTags"] or [])),
                 key=lambda i: i["Created"])
    assert secret.encode() not in engine.ask("GET", f"/images/{newest['Id']}/get")


def test_a_base_that_cannot_be_had_is_told(adit, program):
    file = program("base.py", "from adit import App, Image\n"
                              "app = App(image=Image.from_registry('127.0.0.1:9/nowhere:1'))\n"
                   "@app.function()\ndef f(): pass\n")
    run = adit("run", file)
    assert run.wait(400) == 1
    assert "127.0.0.1:9" in run.err.text() and "Traceback" not in run.err.text(), run.report()


FROM_FILE = """
from adit import App, Image
app = App(image=Image.from_dockerfile("{file}", build_args={{"WORD": "given"}}))
@app.function()
def f():
    import os
    return [sorted(os.listdir("/srv/kept")), open("/srv/word").read(), os.environ["SAID"]]
"""


def test_a_dockerfile_is_built_by_the_engine_without_what_it_ignores(adit, program, box):
    os.makedirs(box.file("context/kept"))
    box.file("context/kept/one.txt", "1")
    box.file("context/kept/two.pyc", "2")
    box.file("context/kept/three.pyc", "3")
    box.file("context/.dockerignore", "# not these\n**/*.pyc\n!kept/three.pyc\n")
    file = box.file("context/Dockerfile",
                    "FROM adit-base:test\nARG WORD\nENV SAID=hello\nRUN mkdir /srv/more && echo $WORD >/srv/word\n"
                    "COPY kept /srv/kept\n")
    text = program("docker.py", FROM_FILE.format(file=file))
    run = adit("run", "-q", text)
    assert run.wait(400) == 0, run.report()
    assert run.out.lines == ["[['one.txt', 'three.pyc'], 'given\\n', 'hello']"]
    again = adit("run", text)
    assert again.wait(400) == 0
    assert "step:" not in again.err.text()
    box.file("context/Dockerfile", "FROM adit-base:test\nRUN echo oh dear && exit 9\n")
    wrong = adit("run", text)
    assert wrong.wait(400) == 1
    assert all(words in wrong.err.text() for words in ("oh dear", "9", "context/Dockerfile")), wrong.report()


STEP_OF_OWN = """
import os
from adit import App, Image, Secret, is_local
import beside

def download(name, times=1, own="{own}"):
    assert not is_local() and os.getuid() == 0
    with open("/srv/model", "w") as file:
        file.write(beside.WORD + name * times + os.environ["LETTER"])

image = Image.debian_slim().run_function(download, args=("m",), kwargs={{"times": {times}}},
                                         secrets=[Secret.from_dict({{"LETTER": "ß"}})])
app = App(image=image)
@app.function()
def f():
    return open("/srv/model").read()
"""


def test_a_function_of_the_program_may_be_a_step(adit, program, engine):
    program("beside.py", "WORD = 'beside '\n")
    own = os.urandom(8).hex()      # an engine that is there already has what was made before
    run = adit("run", program("step.py", STEP_OF_OWN.format(times=2, own=own)))
    assert run.wait(400) == 0, run.report()
    assert run.out.lines == ["beside mmß"] and "step: download" in run.err.text()
    again = adit("run", program("step.py", STEP_OF_OWN.format(times=2, own=own) + "# another line\n"))
    assert again.wait(400) == 0 and "step:" not in again.err.text()
    other = adit("run", program("step.py", STEP_OF_OWN.format(times=3, own=own)))
    assert other.wait(400) == 0 and other.out.lines == ["beside mmmß"]


COPIES = """
import os
from adit import App, Image
image = Image.debian_slim().copy_local_dir("{folder}", "/srv/all", ignore=["*.tmp"])
image = image.add_local_file("{folder}/a.txt", "/srv/b.txt")
app = App(image=image.copy_local_file("{folder}/a.txt").pip_install_from_pyproject("{folder}/pyproject.toml", ["more"]))
with image.imports():
    import nothing_of_that_name_here
@app.function()
def f():
    import six
    return [sorted(os.listdir("/srv/all")), open("/srv/b.txt").read(), open("/root/a.txt").read()]
"""


def test_files_are_copied_as_everybody_can_read_them(adit, program, box):
    os.mkdir(box.file("folder"))
    box.file("folder/a.txt", "text")
    box.file("folder/b.tmp", "text")
    box.file("folder/pyproject.toml",
             '[project]\nname = "x"\ndependencies = []\noptional-dependencies.more = ["six"]\n')
    text = COPIES.format(folder=box.file("folder"))
    run = adit("run", "-q", program("copies.py", text))
    assert run.wait(400) == 1 and "No module named 'nothing_of_that_name_here'" in run.err.text(), run.report()
    run = adit("run", "-q", program("copies.py", text.replace("nothing_of_that_name_here", "six")))
    assert run.wait(400) == 0, run.report()
    assert run.out.lines == ["[['a.txt', 'pyproject.toml'], 'text', 'text']"]


def test_the_container_that_an_image_is_derived_in_is_its_makers_and_not_that_of_whoever_made_the_one_before(
        engine, monkeypatch):
    async def derive():
        docker = await Docker.connect(engine.host)
        try:
            tag = f"adit-test:{os.urandom(4).hex()}"
            await docker.derive(BASE, tag, ['LABEL adit.owner="of before"'], {}, {})
            commit = docker.commit

            async def look(idle, *args):
                left = await docker.leftovers("adit.owner")
                owners.extend(labels for container, labels in left if container.id == idle.id)
                return await commit(idle, *args)

            monkeypatch.setattr(docker, "commit", look)
            await docker.derive(tag, tag, [], {}, {"adit.owner": "of now"})
            engine.ask("DELETE", f"/images/{tag}")
        finally:
            await docker.close()

    owners = []
    asyncio.run(derive())
    assert [labels["adit.owner"] for labels in owners] == ["of now"]


def test_of_a_python_that_the_base_has_not_it_says_which_it_has(adit, program):
    file = program("python.py", "from adit import App, Image\napp = App(image=Image.debian_slim('3.99'))\n"
                                "@app.function()\ndef f(): pass\n")
    run = adit("run", file)
    assert run.wait(BUILD_S) == 1
    assert "adit: image: python_version: there is no 3.99 in adit-base:test, but 3." in run.err.text(), run.report()
    assert "Building the image: step: Python 3.99" in run.err.lines
