"""Each wrong use is told in one clear sentence, when the program is read and not when something runs."""

import os
import pathlib
import typing

import pytest

from adit.exception import InvalidError

VOLUME = object()  # stands for one, as the package is imported by tests only


def plain():
    """What is decorated here."""


def image(how):
    from adit import Image

    return how(Image.debian_slim())


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["six"]\n')
    (tmp_path / "bare.toml").write_text("[tool.x]\n")
    (tmp_path / "wrong.toml").write_text("[project\n")
    return tmp_path


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda i: i.conda_install("x"), r"adit has no Image.conda_install yet \(use pip_install"),
        (lambda i: i.pip_instal("x"), "no such name .did you mean pip_install?"),
        (lambda i: type(i).micromamba(), "adit has no Image.micromamba yet"),
        (lambda i: type(i).debian_slimm(), "did you mean debian_slim?"),
        (lambda i: i.dockerfile_commands("RUN x"), "use run_commands"),
        (lambda i: i.from_dockerfile("/nonexistent/Dockerfile"), "no such file"),
        (lambda i: i.from_dockerfile(__file__, context_dir="/nonexistent"), "no such folder"),
        (lambda i: i.from_dockerfile(__file__, add_python="3.12"), "adit has no add_python= .the image has to bring"),
        (lambda i: i.from_registry("x", add_python="3.12"), "Image.from_registry: adit has no add_python="),
        (lambda i: i.from_registry(""), "'' is no image's name"),
        (lambda i: i.from_registry("a b"), "'a b' is no image's name"),
        (lambda i: i.debian_slim("3"), "'3' is no version from 3.10 on"),
        (lambda i: i.debian_slim("3.9"), "'3.9' is no version from 3.10 on"),
        (lambda i: i.debian_slim("3.12.1"), "'3.12.1' is no version"),
        (lambda i: i.debian_slim(3.12), "3.12 is no string"),
        (lambda i: i.debian_slim(python_versio="3.12"), "adit has no python_versio= .did you mean python_version"),
        (lambda i: i.pip_install("x", gpu="any"), "Image.pip_install: adit has no gpu= .it has none while it is built"),
        (lambda i: i.pip_install("x", secrets=[]), "adit has no secrets= .your own settings of pip"),
        (lambda i: i.apt_install("x", forc_build=True), "did you mean force_build"),
        (lambda i: i.apt_install(3), "names of packages .such as apt_install.'git'"),
        (lambda i: i.run_commands(3), "lines of shell .such as run_commands"),
        (lambda i: i.workdir("srv"), "'srv' is no full path"),
        (lambda i: i.workdir(3), "3 is no full path"),
        (lambda i: i.env("A=1"), "env: 'A=1' is no dict"),
        (lambda i: i.env({"A=": "1"}), "env: 'A=' cannot be a variable"),
        (lambda i: i.from_dockerfile(__file__, build_args={"A": 1}), "names and values are strings"),
        (lambda i: i.copy_local_file("/nonexistent"), "copy_local_file: /nonexistent: there is no such file"),
        (lambda i: i.add_local_dir("/nonexistent", "/x"), "add_local_dir: /nonexistent: there is no such folder"),
        (lambda i: i.copy_local_dir("/", ignore="*.pyc"), "ignore= is a list of patterns"),
        (lambda i: i.pip_install_from_requirements("/nonexistent"), "/nonexistent: No such file"),
        (lambda i: i.pip_install_from_pyproject("/nonexistent"), "/nonexistent: No such file"),
        (lambda i: i.pip_install(3), "not names of packages"),
        (lambda i: i.run_function("download"), "'download' is no function"),
        (lambda i: i.run_function(lambda: None), "move it to the top"),
        (lambda i: i.run_commands("x", secrets=["x"]), "'x' is no adit.Secret"),
        (lambda i: i.env({"A": 1}), "names and values are strings"),
        (lambda i: type(i)("debian"), "no constructor"),
    ],
)
def test_of_images(how, said):
    with pytest.raises(InvalidError, match=said):
        image(how)


@pytest.mark.parametrize(
    ("file", "extras", "said"),
    [("bare.toml", [], "no .project. table"), ("wrong.toml", [], "wrong.toml: "), ("pyproject.toml", "dev", "none")],
)
def test_of_projects(project, file, extras, said):
    with pytest.raises(InvalidError, match=said):
        image(lambda i: i.pip_install_from_pyproject(os.fspath(project / file), extras))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gpu": 1}, "plain: gpu: 1 is no GPU"),
        ({"gpu": "H100:0"}, "at most 16"),
        ({"gpu": "H100:17"}, "at most 16"),
        ({"gpu": "H100:x"}, "is no GPU .such as 'any'"),
        ({"gpu": ["H100", ""]}, "'' is no GPU"),
        ({"gpu": True}, "True is no GPU"),
        ({"gpuu": "any"}, "did you mean gpu"),
        ({"gpu": []}, "plain: gpu: the list is empty"),
        ({"cpu": float("nan")}, "cpu: nan is neither"),
        ({"cpu": (1, float("inf"))}, "cpu: .* is neither"),
        ({"keep_warm": 51}, "keep_warm=51 is more than the 50 containers of an app"),
        ({"keep_warm": 1, "min_containers": 2}, "keep_warm and min_containers are one option"),
        ({"max_inputs": 3, "single_use_containers": True}, "single_use_containers is max_inputs=1"),
        ({"name": 3}, "its name is a string"),
        ({"name": ""}, "'' is no name"),
        ({"name": "x" * 65}, "is no name .up to 64"),
        ({"name": "a\nb"}, "is no name .up to 64"),
        ({"env": ["A"]}, r"plain: env: \['A'\] is no dict"),
        ({"env": {"A=B": "x"}}, "plain: env: 'A=B' cannot be a variable"),
        ({"env": {"A": "x\0"}}, "plain: env: 'A' cannot be a variable"),
        ({"secrets": 3}, "plain: secrets: 3 is no adit.Secret"),
        ({"mounts": 3}, "plain: mounts: 3 is no adit.Mount"),
        ({"buffer_containers": 1}, "a spare container waits anyway"),
        ({"experimental_options": {}}, "not on your own machines: remove it"),
        ({"ephemeral_disk": 9}, "what a function writes is in memory: use volumes"),
        ({"interactive": True}, "use adit shell"),
        ({"is_generator": "yes"}, "is_generator: 'yes' is neither True nor False"),
        ({"network": []}, r"network: \[\] is neither True, False nor a list of hosts"),
        ({"network": "example.com"}, "network: 'example.com' is neither True, False nor a list"),
        ({"network": ["https://example.com"]}, "network: 'https://example.com': .*such as"),
        ({"network": ["example.com:"]}, "network: 'example.com:': its port is missing"),
        ({"network": ["example.com:http"]}, "network: 'example.com:http': http is no port"),
        ({"network": ["example.com:70000"]}, "network: 'example.com:70000': 70000 is no port"),
        ({"network": ["10.0.0.1/8"]}, "network: '10.0.0.1/8': .*has host bits set"),
        ({"network": ["10.0.0"]}, "network: '10.0.0': "),
        ({"network": ["*"]}, r"network: '\*': "),
        ({"network": ["a b"]}, "network: 'a b': it is no name of a host"),
        ({"network": ["a.example"], "block_network": True}, "network= and block_network=True exclude each other"),
        ({"allow_concurrent_inputs": 0}, "no whole number from 1..256"),
        ({"allow_concurrent_inputs": 257}, "no whole number from 1..256"),
        ({"allow_concurrent_inputs": 1.5}, "no whole number from 1..256"),
        ({"volumes": ["/data"]}, "plain: volumes: it is a dict"),
        ({"volumes": {"/data": "data"}}, "'data' is no adit.Volume"),
        ({"volumes": {"data": VOLUME}}, "'data' is no full path"),
        ({"volumes": {3: VOLUME}}, "3 is no full path"),
        ({"volumes": {"/": VOLUME}}, "/: that is no place for one"),
        ({"volumes": {"/proc/x": VOLUME}}, "/proc/x: that is no place"),
        ({"volumes": {"/run/adit": VOLUME}}, "/run/adit: that is no place"),
        ({"volumes": {"/tmp/": VOLUME}}, "/tmp: that is no place"),
        ({"volumes": {"/a": VOLUME, "/a/b": VOLUME}}, "/a/b and /a: one is inside of the other"),
        ({"volumes": {"/a": VOLUME}, "network_file_systems": {"/a/": VOLUME}}, "one is inside of the other"),
        ({"mounts": ["x"]}, "'x' is no adit.Mount"),
    ],
)
def test_of_options(options, said):
    from adit import App, Volume

    for places in (options.get("volumes"), options.get("network_file_systems")):
        for path in places if isinstance(places, dict) else ():
            places[path] = Volume.from_name("data") if places[path] is VOLUME else places[path]

    with pytest.raises(InvalidError, match=said):
        App().function(**options)(plain)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda a: a.Volume(), "no constructor"),
        (lambda a: a.Volume.from_name("a/b"), "'a/b' is no name"),
        (lambda a: a.Volume.from_name(""), "'' is no name"),
        (lambda a: a.Volume.from_nam("x"), "did you mean from_name?"),
        (lambda a: a.Volume.persisted("x"), "use Volume.from_name"),
        (lambda a: a.Volume.from_name("x").listdir("/"), "mount it into a function"),
        (lambda a: a.NetworkFileSystem.lookup("x"), "use Volume.from_name"),
        (lambda a: a.Mount(), "no constructor"),
        (lambda a: a.Mount.from_local_dir("/nonexistent"), "/nonexistent: there is no such folder"),
        (lambda a: a.Mount.from_local_file("/nonexistent"), "/nonexistent: there is no such file"),
        (lambda a: a.Mount.from_local_python_packages("nothing_here"), "nothing_here: it is not installed"),
        (lambda a: a.App(volumes={"/data": 3}), "App: volumes: 3 is no adit.Volume"),
        (lambda a: a.App(mounts=[3]), "App: mounts: 3 is no adit.Mount"),
        (lambda a: a.App(secrets=[3]), "App: secrets: 3 is no adit.Secret"),
        (lambda a: a.App(3), "its name is a string"),
        (lambda a: a.App(""), "'' is no name"),
        (lambda a: a.App(nam="x"), "App: adit has no nam= .did you mean name"),
        (lambda a: a.App(trusted="no"), "trusted: 'no' is neither True nor False"),
        (lambda a: a.App(mounts=3), "App: mounts: 3 is no adit.Mount"),
        (lambda a: a.App().include("x"), "'x' is no adit.App"),
        (lambda a: a.App().local_entrypoint()(3), "3 is no function"),
        (lambda a: a.functions.deploying.deploy(None, a.App(), "a\nb", None), "is no name"),
        (lambda a: a.Retries(max_retrys=1), "Retries: adit has no max_retrys= .did you mean max_retries"),
        (lambda a: a.Retries(max_retries=None), "max_retries: it is missing"),
        (lambda a: a.Retries(max_retries=1, initial_delay="a"), "are numbers"),
        (lambda a: a.Retries(max_retries=1, backoff_coefficient=float("nan")), "are numbers"),
        (lambda a: a.Period(day=1), "Period: adit has no day= .did you mean days"),
        (lambda a: a.Cron("* * * * *", timezon="UTC"), "Cron: adit has no timezon= .did you mean timezone"),
        (lambda a: a.Queue.ephemeral(maxsize=-1), "maxsize: -1 is no whole number from 0"),
        (lambda a: a.Queue.from_name("x", maxsize="1"), "maxsize: '1' is no whole number from 0"),
        (lambda a: a.Queue.from_name("x", environment_name="main"), "adit has no environment_name= .remove it"),
        (lambda a: a.Dict.ephemeral("x"), "Dict: 'x' is no dict"),
        (lambda a: a.Secret.from_dict("x"), "Secret.from_dict: 'x' is no dict"),
        (lambda a: a.Secret.from_dict({"A": 1}), "names and values are strings"),
        (lambda a: a.Secret.from_dict({"A=": "1"}), "'A=' cannot be a variable"),
        (lambda a: a.Secret.from_dotenv("/nonexistent"), "Secret.from_dotenv: /nonexistent: No such file or directory"),
        (lambda a: a.Volume.from_name("x", version=2), "adit has no version= .remove it"),
        (lambda a: a.FunctionCall.from_id(3), "3 is no id"),
        (lambda a: a.gather([]), r"gather: \[\] is no FunctionCall"),
        (lambda a: a.Sandbox.create("ls"), "adit has no Sandbox yet .have a function start it with subprocess.run"),
        (lambda a: a.concurrent(max_inputs=3), "adit has no concurrent yet .use @app.function.allow_concurrent_inputs"),
        (lambda a: a.interact(), "adit has no interact yet .use adit shell"),
    ],
)
def test_of_names(how, said):
    import adit

    with pytest.raises(InvalidError, match=said):
        how(adit)


def test_a_mount_leaves_out_what_its_condition_does_not_fit(tmp_path):
    from adit import Mount
    from adit.functions.image import local_files

    for path in ("a.py", "b.txt", "only/c.txt", "some/d.txt", "some/e.py", "some/[x].txt", "some/x.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()

    def found(**options):
        [step] = Mount.from_local_dir(tmp_path, remote_path="/m", **options).steps
        return [remote for _, remote in local_files(step)]

    assert found(condition=lambda path: path.endswith((".py", "/x.txt"))) == [
        *("/m/a.py", "/m/some", "/m/some/e.py", "/m/some/x.txt")
    ]
    assert found(recursive=False) == ["/m/a.py", "/m/b.txt"]
    assert len(found()) == 9


class Class:
    """What is decorated here, too."""

    def function(self):
        """One of a class."""


def one(self, x=1):
    """A function of one's own argument."""


def needs(self, x):
    """One that cannot do without an argument."""


def gen(self):
    yield self


def of(**functions):
    return type("Class", (), {"__module__": __name__, "__qualname__": "Class", **functions})


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda a: a.App().cls(Class), "@app.cls: it needs parentheses"),
        (lambda a: a.App().cls()(plain), "is no class .use @app.function"),
        (lambda a: a.App().function()(Class), "is no function .use @app.cls"),
        (lambda a: a.App().cls()(of()), "Class: it has no methods to be called .put @method.. above one"),
        (lambda a: a.App().cls(gpuu="any"), "@app.cls..: gpuu: no such option .did you mean gpu"),
        (lambda a: a.App().cls(serialized=True), "adit has no serialized= for classes yet"),
        (lambda a: a.App().function()(Class.function), "put @app.cls.. above Class, and @method.. above it"),
        (lambda a: a.method(plain), "@method: it needs parentheses"),
        (lambda a: a.enter(plain), "@enter: it needs parentheses"),
        (lambda a: a.exit()("x"), "@exit..: 'x' is no function of a class"),
        (lambda a: of(f=a.method()(plain))().f, "@method.. is for classes with @app.cls.. above them"),
        (lambda a: a.method()(a.web_endpoint()(plain)), "@method..: a web endpoint has the web's visitors .leave @met"),
        (
            lambda a: a.App().cls()(of(__init__=needs, g=a.web_endpoint()(one))),
            "Class.g: its visitors give .* no argum",
        ),
        (lambda a: a.App().cls()(of(g=a.web_endpoint()(gen))), "Class.g: a web endpoint cannot be a gen"),
        (lambda a: a.App().cls()(of(g=a.web_endpoint()(one))).g.remote(), "Class.g.remote: it is a web endpoint"),
        (lambda a: a.App.lookup("x"), "adit has no App.lookup yet .run its file"),
        (lambda a: a.App().functio(), "did you mean function?"),
        (lambda a: a.FunctionCall.from_id("x").get_gen(), "use remote_gen"),
        (lambda a: a.Function.from_name("", "f"), "'' is no app's name"),
        (lambda a: a.App().function()(plain).spawn_map([1]), "adit has no Function.spawn_map yet"),
        (lambda a: a.App().function()(plain).remot(), "did you mean remote?"),
        (lambda a: a.App().function(name="f")(plain).map([1]), "it does not run"),
    ],
)
def test_of_classes_and_functions(how, said):
    import adit

    with pytest.raises((InvalidError, AttributeError), match=said):
        result = how(adit)
        list(result)


def gives(app):
    """One that asks for something."""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda a: a.web_endpoint(metod="GET"), "web_endpoint: adit has no metod= .did you mean method"),
        (lambda a: a.web_endpoint(custom_domains=[]), "adit has no custom_domains= .a relay's --domain"),
        (lambda a: a.web_endpoint(requires_proxy_auth=True), "have the function check who asks"),
        (lambda a: a.web_endpoint(method=3), "method: 3 is none of GET"),
        (lambda a: a.web_endpoint(docs=3), "docs: 3 is neither True nor False"),
        (lambda a: a.web_endpoint(cors="*"), r"cors: '\*' is neither True nor False"),
        (lambda a: a.web_endpoint(label=3), "web_endpoint: label: 3 is no name"),
        (lambda a: a.asgi_app(label=""), "asgi_app: label: '' is no name"),
        (lambda a: a.web_server(8000, startup_timeout=0), "startup_timeout: 0 is no number of seconds above 0"),
        (lambda a: a.web_server(8000, startup_timeout="1"), "startup_timeout: '1' is no number"),
        (lambda a: a.App().function()(a.asgi_app()(gives)), "gives: it gets no arguments: missing .*returns an applic"),
        (lambda a: a.App().function()(a.web_server(80)(gives)), "gives: it gets no arguments: .*starts a server"),
        (lambda a: a.App().function()(a.wsgi_app()(gen)), "gen: it cannot be a generator: it returns an application"),
        (lambda a: a.App().cls()(of(g=a.asgi_app()(needs))), "Class.g: it gets no arguments: missing .*'x'"),
        (lambda a: a.web_endpoint()(plain).remote(), "plain.remote: it is of no app yet .put @app.function.. above"),
    ],
)
def test_of_the_web(how, said):
    import adit

    with pytest.raises(InvalidError, match=said):
        how(adit)


def test_right_uses_are_none_of_them():
    from adit import App, Image, asgi_app, web_endpoint

    app = App("of a shop/1", image=Image.debian_slim("3.13").env({"A": ""}).workdir("/srv"))
    app.function(keep_warm=20)(web_endpoint(method="get", label="shop")(plain))
    app.cls()(of(g=asgi_app()(one)))
    assert app._spec().functions["plain"].concurrency_limit == 20


@pytest.mark.parametrize(
    ("hints", "words", "found"),
    [
        ("n: int", ["--n", "3"], {"n": 3}),
        ("n: int | None = None", ["--n", "3"], {"n": 3}),
        ("n: 'int | None' = None", ["--n=3"], {"n": 3}),
        ("n: typing.Optional[float] = None", ["--n", "3"], {"n": 3.0}),
        ("n: typing.Literal[1, 2] = 1", ["--n", "2"], {"n": 2}),
        ("path: pathlib.Path", ["--path", "/x"], {"path": pathlib.Path("/x")}),
        ("n: 'int' = 1, other: 'Unknown' = None", ["--n", "3"], {"n": 3}),
        ("a_b=1.5, c='x', d=None", ["--a-b", "2", "--d", "y"], {"a_b": 2.0, "c": "x", "d": "y"}),
        ("on: bool = True", ["--on", "no"], {"on": False}),
        ("some: list = []", [], {}),
    ],
)
def test_words_of_the_command_line_become_what_parameters_are_said_to_be(hints, words, found):
    from adit.functions import cli

    names = {"typing": typing, "pathlib": pathlib}
    exec(f"def f({hints}): pass", names)  # the annotations are the subject
    assert cli.parse_arguments("f", names["f"], "x.py::f", words) == found


@pytest.mark.parametrize(
    ("hints", "words", "said"),
    [
        ("count: int", ["--cuont", "3"], "adit: f: --cuont: no such option (did you mean --count?) (see adit run"),
        ("count: int", [], "adit: the following arguments are required: --count (see adit run x.py::f --help)"),
        (
            "count: int",
            ["--count", "x"],
            "adit: argument --count: invalid int value: 'x' (see adit run x.py::f",
        ),
        ("", ["--count", "x"], "adit: f: --count: no such option (it takes none) (see adit run x.py::f --help)"),
        ("", ["3"], "adit: unrecognized arguments: 3 (see adit run x.py::f --help)"),
    ],
)
def test_words_that_a_function_does_not_take_are_told_in_a_line(hints, words, said, capsys):
    from adit.functions import cli

    names = {}
    exec(f"def f({hints}): pass", names)
    with pytest.raises(SystemExit) as end:
        cli.parse_arguments("f", names["f"], "x.py::f", words)
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.startswith(said) and told.count("\n") == 1


def test_what_no_word_can_be_is_said():
    from adit.functions import cli

    def f(some: list[int]):
        pass

    with pytest.raises(InvalidError, match=r"f: some: no word can be a list\[int\] .call it from an @app.local_ent"):
        cli.parse_arguments("f", f, "x.py::f", [])


def test_words_for_gpus_are_strings():
    from adit import gpu

    assert [gpu.Any(), gpu.A100(count=2, size="80GB"), gpu.H100()] == ["any:1", "A100-80GB:2", "H100:1"]
    with pytest.raises(InvalidError, match="write gpu='B200'"):
        _ = gpu.B200


def test_what_is_not_there_is_no_attribute_for_those_who_ask():
    image(lambda i: (_ for _ in ()).throw(AssertionError) if hasattr(i, "conda") or hasattr(i, "__x__") else None)


def test_options_of_pip_stand_before_the_packages():
    made = image(
        lambda i: i.pip_install(
            "b", ["a"], find_links="/w", index_url="u", extra_index_url="e", pre=True, extra_options="-v --no-deps"
        )
    )
    assert made._spec.steps == [
        {
            "kind": "pip",
            "arguments": [
                *("--find-links", "/w", "--index-url", "u", "--extra-index-url", "e", "--pre", "-v", "--no-deps"),
                *("a", "b"),
            ],
        }
    ]


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        (["*.pyc"], "a.pyc", True),
        (["*.pyc"], "x/a.pyc", False),
        (["**/*.pyc"], "a.pyc", True),
        (["**/*.pyc"], "x/y/a.pyc", True),
        (["/x"], "x/y", True),
        (["x/"], "x/y/z", True),
        (["x"], "xy", False),
        (["x/**"], "x/y/z", True),
        (["*", "!keep"], "keep/this", False),
        (["*", "!keep", "keep/not"], "keep/not/this", True),
        (["a?c[0-9]"], "abc7", True),
        (["a?c[^0-9]"], "abc7", False),
        (["# a"], "# a", False),
        ([r"\#a"], "#a", True),
        (["./x"], "x", True),
        (["a.b"], "axb", False),
        ([""], "x", False),
        (["."], "x", False),
    ],
)
def test_patterns_leave_out_what_docker_leaves_out(patterns, path, ignored):
    from adit.functions.ignore import Ignore

    assert Ignore(patterns)(path) is ignored


def test_an_app_has_what_another_has_and_tells_what_it_has():
    from adit import App, method, web_endpoint

    first, second = App("first"), App("second")
    first.function(name="f")(plain)
    made = first.cls()(of(f=method()(one), g=web_endpoint()(one)))
    assert second.include(first) is second
    for app in (first, second):
        assert sorted(app.registered_functions) == ["Class.g", "f"] and app.registered_classes == {"Class": made}
        assert sorted(app._spec().functions) == ["Class", "Class.g", "f"]
    assert second.registered_functions["Class.g"].web_url is None
    other = App("third")
    other.function(name="f")(gen)
    with pytest.raises(InvalidError, match="f: this app has a function of that name already"):
        other.include(first)
