"""`adit shell`: a person at a terminal, in a container of a function's."""
import signal
import subprocess

import pexpect
import pytest
from conftest import BUILD_S

SHELLS = """
from adit import App, Image, Secret, web_endpoint
app = App(image=Image.debian_slim().env({"OF_IMAGE": "yes"}))
WORD = "mine"
@app.function(memory=(64, 256), secrets=[Secret.from_dict({"OF_SECRET": "sesame"})])
def f():
    pass
@app.function()
@web_endpoint()
def page():
    return {}
"""


@pytest.fixture
def file(program):
    return program("shells.py", SHELLS)


def ends_with(child, status):
    child.expect(pexpect.EOF)
    child.close()
    return (child.exitstatus, child.signalstatus) == (status, None)


def test_a_shell_has_what_the_function_would_have_and_a_terminal_of_our_size(terminal, file, nothing_stays):
    shell = terminal("shell", f"{file}::f")
    shell.expect(r"f:\S+\$ ", BUILD_S)
    shell.sendline("echo $OF_IMAGE/$OF_SECRET/$(id -u | grep -c '^[2-5]....$'); stty size")
    shell.expect("yes/sesame/1\r\n20 70\r\n")
    shell.setwinsize(33, 99)
    shell.sendline("until [ \"$(stty size)\" = '33 99' ]; do sleep 0.1; done; python3 -c 'import shells; "
                   "print(shells.WORD)'")
    shell.expect("\rmine\r\n")
    shell.sendline("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null")
    shell.expect(f"\r{256 << 20}\r\n")
    shell.sendline("exit 3")
    assert ends_with(shell, 3)
    nothing_stays()


def test_ctrl_c_is_for_what_runs_in_the_container(terminal, file):
    shell = terminal("shell", f"{file}::f")
    shell.expect(r"f:\S+\$ ", BUILD_S)
    shell.sendline("echo be''gun; sleep 600")
    shell.expect("begun\r\n")
    shell.sendintr()
    shell.expect(r"f:\S+\$ ")
    shell.sendline("echo status $?")
    shell.expect("status 130\r\n")
    shell.sendeof()
    assert ends_with(shell, 0)


def test_the_terminal_is_as_before_when_the_command_is_ended_from_elsewhere(terminal, file, nothing_stays):
    shell = terminal("shell", f"{file}::page", "--", "cat")
    shell.expect("page started", BUILD_S)
    shell.sendline("and back")
    shell.expect("and back\r\nand back\r\n")
    shell.kill(signal.SIGTERM)
    assert ends_with(shell, 130)
    nothing_stays(0.1)


def test_without_a_terminal_it_is_a_command_of_a_pipeline(adit, file):
    run = adit("shell", f"{file}::f", "--", "sh", "-c", "tr a-z A-Z; echo to stderr >&2; exit 5", stdin=subprocess.PIPE)
    run.popen.stdin.write(b"some words\n")
    run.popen.stdin.close()
    assert run.wait(BUILD_S) == 5, run.report()
    assert run.out.lines == ["SOME WORDS", "to stderr"] and run.err.lines == []


def test_what_cannot_be_run_and_what_dies_is_told(adit, file):
    run = adit("shell", f"{file}::f", "--", "nonsense")
    assert run.wait(BUILD_S) == 127 and run.out.lines == ["adit: nonsense: No such file or directory"]
    run = adit("shell", f"{file}::f", "--", "sh", "-c", "kill -9 $PPID")
    assert run.wait(BUILD_S) == 1 and "its container" in run.err.text()
    run = adit("shell", file)
    assert run.wait(BUILD_S) == 1 and f"adit shell {file}::page" in run.err.text()
