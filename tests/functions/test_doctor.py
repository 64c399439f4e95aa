"""`adit doctor`: what there is, what is missing, and what to type."""
import json


def findings(done):
    return {f["what"]: f for f in json.loads(done.out.text())["findings"]}


def test_where_all_is_there_it_has_run_a_container_and_ends_with_0(adit, engine, nothing_stays):
    run = adit("doctor", "--json")
    assert run.wait(60) == 0, run.report()
    assert json.loads(run.out.text())["ready"] is True
    found = findings(run)
    assert all(f["state"] != "missing" for f in found.values())
    assert engine.host in found["engine"]["text"] and found["engine"]["text"].endswith("(DOCKER_HOST)")
    assert found["container"]["text"].startswith("ran Python 3.")
    assert {"cgroups", "storage", "runtime", "GPUs", "disk", "memory", "base image", "pip", "relay", "adit",
            "Python"} <= set(found)
    nothing_stays(0.1)
    lines = adit("doctor")
    assert lines.wait(60) == 0
    assert lines.out.lines[-1] == "Functions can run here: adit run FILE"


def test_without_an_engine_it_says_what_to_type_and_ends_with_1(adit, box):
    nowhere = {"DOCKER_HOST": f"unix://{box.file('nowhere.sock')}"}
    run = adit("doctor", env=nowhere)
    assert run.wait(60) == 1
    assert "engine" in run.out.lines[-1] and any(line.strip().startswith("-> ") for line in run.out.lines)
    run = adit("run", "start_app.py", env=nowhere)
    assert run.wait(60) == 1
    assert "No such file or directory" in run.err.text() and "adit doctor tells more" in run.err.text()
    assert "Traceback" not in run.err.text()


def test_a_base_image_that_cannot_be_had_is_missing_and_how_to_make_one_is_told(adit):
    env = {"ADIT_BASE_IMAGE": "127.0.0.1:1/nobody/nothing:7"}
    run = adit("doctor", "--json", env=env)
    assert run.wait(60) == 1
    found = findings(run)["base image"]
    assert found["state"] == "missing" and "mmdebstrap" in found["do"]
    run = adit("run", "start_app.py", env=env)
    assert run.wait(60) == 1
    assert "127.0.0.1:1/nobody/nothing:7" in run.err.text() and "adit doctor" in run.err.text()


def test_no_secret_of_pips_settings_is_shown(adit):
    run = adit("doctor", "--json", env={"PIP_INDEX_URL": "https://me:sesame@packages.example.com/simple"})
    run.wait(60)
    assert "packages.example.com" in findings(run)["pip"]["text"]
    assert "sesame" not in run.out.text()


def test_a_relay_that_is_forbidden_is_missing(adit):
    run = adit("doctor", "--json", env={"ADIT_EMBEDDED": "0"})
    assert run.wait(60) == 1
    assert findings(run)["relay"]["do"] == "adit login"
