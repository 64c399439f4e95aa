"""Secrets that have names: the command that keeps them, and what finds them. No value is ever shown."""

import os
import stat
import subprocess
import sys

import pytest

from adit.exception import ConfigError, InvalidError, NotFoundError


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "adit" / "secrets"


def secret(*words, **options):
    command = [sys.executable, "-m", "adit", "secret", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_a_secret_is_kept_for_its_user_alone_and_its_values_are_not_shown(configuration):
    from adit import Secret

    made = secret("create", "open.ai", "API_KEY=s3cr=et", "ORG", input="mine\n")
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    assert stat.S_IMODE(os.stat(configuration / "open.ai.json").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(configuration).st_mode) == 0o700
    assert secret("list").stdout == "open.ai: API_KEY, ORG\n"
    found = Secret.from_name("open.ai", required_keys=["ORG"])
    assert found.values == {"API_KEY": "s3cr=et", "ORG": "mine"} and "s3cr" not in repr(found)
    assert "force" in secret("create", "open.ai", "API_KEY=new").stderr
    assert secret("create", "open.ai", "API_KEY=new", "--force").returncode == 0
    assert Secret.from_name("open.ai").values == {"API_KEY": "new"}
    assert secret("delete", "open.ai").returncode == 0
    assert os.listdir(configuration) == [] and secret("list").stdout == ""


def test_a_file_of_variables_may_be_a_secret(tmp_path):
    from adit import Secret

    (tmp_path / ".env").write_text("A=1\nexport B='2'\n")
    assert secret("create", "x", "C=3", "--from-dotenv", str(tmp_path / ".env")).returncode == 0
    assert Secret.from_name("x").values == {"A": "1", "B": "2", "C": "3"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "a/b", "K=v"], "'a/b' is no name"),
        (["create", "../a", "K=v"], "'../a' is no name"),
        (["create", "a"], "it has nothing in it"),
        (["create", "a", "1=x"], "'1' is no name of a variable"),
        (["create", "a", "K"], "standard input has no line for it"),
        (["create"], "secret create: it takes a name"),
        (["list", "a"], "secret list: it takes no name"),
        (["delete", "a"], "secret a: there is none of that name"),
        (["show", "a"], "invalid choice: 'show'"),
    ],
)
def test_wrong_words_are_told_in_one_sentence(words, said):
    done = secret(*words, stdin=subprocess.DEVNULL)
    assert done.returncode != 0 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_secret_may_be_what_a_file_or_the_environment_has(tmp_path, monkeypatch):
    from adit import Secret

    (tmp_path / ".env").write_text("# none=of it\nexport A=1\nB = 'two words' \nC=\"x=y\"\nno line\n")
    monkeypatch.chdir(tmp_path)
    found = {"A": "1", "B": "two words", "C": "x=y"}
    for path in (None, str(tmp_path), str(tmp_path / ".env")):
        assert Secret.from_dotenv(path).values == found
    with pytest.raises(InvalidError, match=r"Secret.from_dotenv: .*nothing"):
        Secret.from_dotenv("nothing")
    monkeypatch.setenv("D", "there")
    assert Secret.from_local_environ(["D"]).values == {"D": "there"}


def test_what_cannot_be_had_is_told(configuration):
    from adit import Secret

    with pytest.raises(NotFoundError, match="adit secret create nothing KEY=VALUE"):
        Secret.from_name("nothing")
    secret("create", "x", "A=1")
    with pytest.raises(InvalidError, match="x: it has no B, C"):
        Secret.from_name("x", required_keys=["A", "B", "C"])
    os.chmod(configuration / "x.json", 0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Secret.from_name("x")
