"""Each wrong use is told in one clear sentence, when the program is read and not when something runs."""

import os

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
        (lambda i: i.from_dockerfile(__file__, add_python="3.12"), "adit has no add_python="),
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
