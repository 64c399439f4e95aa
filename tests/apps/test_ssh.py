"""examples/ssh.py: logins and copies over the raw port, and over TLS."""
import os
import re
import shlex
import subprocess

import pytest

from kit import data
from kit.process import scaled
from kit.sshd import sshd_command

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="sshd wants root to log a user in")


@pytest.fixture
def start(example, box, elsewhere):
    """start(...) runs the example and returns run(way, program, change=...), which runs one of the commands that it prints, on a visitor's
    machine."""
    def start(*args):
        folder = os.path.dirname(box.file("sshd"))
        box.file("sshd", f'#!/bin/sh\nexec {shlex.join(sshd_command(box))} "$@"\n', mode=0o755)
        running = example("ssh.py", *args, path=[folder])
        running.err.wait(lambda line: "Server listening on 127.0.0.1 port 2222" in line)
        raw_ssh, raw_scp, tls_ssh, tls_scp = running.out.lines
        commands = {("raw", "ssh"): raw_ssh, ("raw", "scp"): raw_scp, ("tls", "ssh"): tls_ssh, ("tls", "scp"): tls_scp}

        def run(way, program, change=lambda command: command):
            command = commands[way, program]
            host = command.rsplit("@", 1)[1].rstrip(":")
            return elsewhere(change(command), host, seconds=100)
        run.known_hosts = re.search(r"UserKnownHostsFile=(\S+)", raw_ssh).group(1)
        return run
    return start


@pytest.mark.parametrize("way", ["raw", "tls"])
def test_a_person_logs_in_and_runs_a_command(start, way):
    done = start()(way, "ssh", lambda command: f"{command} 'echo out; echo err >&2; exit 7'")
    assert (done.returncode, done.stdout) == (7, "out\n") and "err" in done.stderr, done


@pytest.mark.parametrize("way", ["raw", "tls"])
def test_a_file_is_copied_both_ways(start, way, box):
    run, total = start(), scaled(64 << 20)
    here, there, back = box.file("here", data.body(total)), box.file("there"), box.file("back")

    def to(command):
        return command.replace(" FILE ", f" {here} ") + there

    def fro(command):
        command, _, remote = command.rpartition(" FILE ")
        return f"{command} {remote}{there} {back}"
    for change in (to, fro):
        done = run(way, "scp", change)
        assert done.returncode == 0, done
    with open(back, "rb") as f:
        assert data.digest_stream(f.read) == (total, data.digest(total))


def test_a_key_that_is_given_is_the_one_that_logs_in(start, box):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", box.file("mine")], check=True)
    run = start(box.file("mine.pub"))
    done = run("tls", "ssh", lambda command: f"{command.replace('ssh ', 'ssh -i ' + box.file('mine') + ' ', 1)} echo in")
    assert (done.returncode, done.stdout) == (0, "in\n"), done
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", box.file("other")], check=True)
    done = run("raw", "ssh", lambda command: f"{command.replace('ssh ', 'ssh -o IdentitiesOnly=yes -i ' + box.file('other') + ' ', 1)} echo in")
    assert done.returncode == 255 and "Permission denied" in done.stderr, done


def test_another_host_key_is_refused(start, box):
    run = start()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", box.file("other")], check=True)
    with open(box.file("other.pub")) as key, open(run.known_hosts, "w") as known:
        known.write(f"adit-ssh {key.read()}")
    for way in ("raw", "tls"):
        done = run(way, "ssh", lambda command: f"{command} echo in")
        assert done.returncode == 255 and "Host key verification failed" in done.stderr, done
