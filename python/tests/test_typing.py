"""A user's program, as mypy and pyright read it: nothing is wrong in typed/right.py, and each line that says so in
typed/wrong.py."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "typed")
BIN = os.path.dirname(sys.executable)


def mypy(path, cache):
    command = [f"{BIN}/mypy", "--strict", "--no-error-summary", "--config-file=", f"--cache-dir={cache}", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    return {int(m[1]): m[0] for m in re.finditer(r"\.py:([0-9]+): error.*", done.stdout)}, done


def pyright(path, cache):
    shutil.copy(path, cache)
    settings = {"typeCheckingMode": "strict", "reportUnusedExpression": False}
    (cache / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [f"{BIN}/pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cache)
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] == 1
    found = [d for d in told["generalDiagnostics"] if d["severity"] == "error"]
    return {d["range"]["start"]["line"] + 1: d["message"] for d in found}, done


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_users_program_has_nothing_wrong_in_it(checker, tmp_path):
    found, done = checker(os.path.join(HERE, "right.py"), tmp_path)
    assert found == {} and done.returncode == 0, done.stdout


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_what_is_wrong_is_found_and_nothing_else(checker, tmp_path):
    path = os.path.join(HERE, "wrong.py")
    with open(path) as file:
        wrong = {n for n, line in enumerate(file, 1) if line.endswith("# wrong\n")}
    found, done = checker(path, tmp_path)
    assert wrong - found.keys() == set() and found.keys() - wrong == set(), (found, done.stdout)
