"""Installing from sources: archives that lost links and modes, source distributions, Pythons that are too old."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT
from test_package import WHEEL, with_wheel

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
LEFT_OUT = (".git", ".cache", "build", "subprojects", "__pycache__")


def run(*argv, **options):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)


@pytest.fixture
def archive(box):
    """The repository, unpacked by something that knows neither links nor modes."""
    folder = box.file("archive")
    for path, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(LEFT_OUT)]
        there = os.path.join(folder, os.path.relpath(path, ROOT))
        os.makedirs(there)
        for name in [*names, *(f for f in folders if os.path.islink(os.path.join(path, f)))]:
            source, target = os.path.join(path, name), os.path.join(there, name)
            if os.path.islink(source):
                with open(target, "w") as f:
                    f.write(os.readlink(source))
            elif os.path.isfile(source):
                shutil.copyfile(source, target)
    return folder


def test_a_link_that_became_a_text_is_made_again(archive):
    os.mkdir(os.path.join(archive, "python", "subprojects"))
    with open(os.path.join(archive, "python", "subprojects", "adit"), "w") as f:
        f.write("../..")
    assert run("sh", os.path.join(archive, "python", "backend", "core")).returncode == 0
    assert os.path.samefile(os.path.join(archive, "python", "subprojects", "adit"), archive)


def files(wheel):
    return sorted(name for name in wheel.namelist() if not name.endswith("/"))


@with_wheel
def test_an_archive_s_source_distribution_makes_the_whole_package(archive, box):
    """As pip does it: in an environment of the build's own."""
    done = run(sys.executable, "-m", "build", "--sdist", "--outdir", box.path, os.path.join(archive, "python"))
    assert done.returncode == 0, done.stdout
    (sdist,) = [os.path.join(box.path, name) for name in os.listdir(box.path) if name.endswith(".tar.gz")]
    with tarfile.open(sdist) as tar:
        assert all(member.isfile() for member in tar)
    done = run(*PIP, "wheel", "--no-deps", "-w", box.path, "--config-settings=setup-args=-Doptimization=0", sdist)
    assert done.returncode == 0, done.stdout
    (wheel,) = [os.path.join(box.path, name) for name in os.listdir(box.path) if name.endswith(".whl")]
    with zipfile.ZipFile(wheel) as z, zipfile.ZipFile(WHEEL) as ours:
        assert files(z) == files(ours)
    os.mkdir(os.path.join(box.path, "target"))
    done = run(*PIP, "install", "--no-deps", "--target", os.path.join(box.path, "target"), wheel)
    assert done.returncode == 0, done.stdout
    program = "import adit; adit.Client('adit1_wrong')"
    assert "ConfigError" in run(sys.executable, "-c", program, cwd=os.path.join(box.path, "target")).stdout


def test_the_folder_without_the_repository_says_so(box):
    shutil.copytree(os.path.join(ROOT, "python"), box.file("copy"), ignore=shutil.ignore_patterns("subprojects"))
    done = run("sh", os.path.join(box.file("copy"), "backend", "core"))
    assert done.returncode == 1
    assert "without the rest of the repository" in done.stdout and "upgrade pip" in done.stdout


AGED = (
    "import collections, platform, sys; "
    "sys.version_info = collections.namedtuple('V', 'major minor micro releaselevel serial')(3, 8, 18, 'final', 0); "
    "platform.python_version = lambda: '3.8.18'; "
    "platform.python_version_tuple = lambda: ('3', '8', '18')\n"
)


@pytest.fixture
def aged(box):
    """A Python that takes itself for 3.8, as do those that it starts."""
    assert run(sys.executable, "-m", "venv", "--without-pip", box.file("aged")).returncode == 0
    folder = os.path.join(box.file("aged"), "lib", "python{}.{}".format(*sys.version_info), "site-packages")
    with open(os.path.join(folder, "aged.pth"), "w") as f:
        f.write(AGED)
    return os.path.join(box.file("aged"), "bin", "python")


@pytest.mark.parametrize("how", [["install"], ["wheel"], ["install", "-e"]])
def test_pip_of_a_python_that_is_too_old_says_which_it_needs(aged, how):
    done = run(*PIP, "--python", aged, *how, os.path.join(ROOT, "python"), cwd=os.path.dirname(aged))
    assert done.returncode == 1
    assert "adit' requires a different Python: 3.8.18 not in '>=3.9'" in done.stdout
    assert "Traceback" not in done.stdout and "limited" not in done.stdout


@pytest.mark.parametrize("hook", ["build_wheel", "build_sdist", "build_editable"])
def test_whatever_builds_with_a_python_that_is_too_old_is_told_so(aged, hook, box):
    code = f"import sys; sys.path.insert(0, '.'); import backend; backend.{hook}({box.path!r})"
    done = run(aged, "-c", code, cwd=os.path.join(ROOT, "python"))
    assert done.returncode == 1
    assert done.stdout == "adit: Python 3.8 is too old (it needs Python >=3.9)\n"


def test_a_pip_that_knows_setup_py_only_hears_the_same(aged):
    done = run(aged, "setup.py", "egg_info", cwd=os.path.join(ROOT, "python"))
    assert done.returncode == 1
    assert done.stdout == "adit: Python 3.8 is too old (it needs Python >=3.9)\n"
    done = run(sys.executable, "setup.py", "egg_info", cwd=os.path.join(ROOT, "python"))
    assert done.returncode == 1
    assert "this pip is too old" in done.stdout and "pip install --upgrade pip" in done.stdout
