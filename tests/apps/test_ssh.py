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


class Commands:
    """The running example, and the commands that it prints, for a visitor's machine."""

    def __init__(self, running, elsewhere):
        self.running, self.elsewhere = running, elsewhere
        running.err.wait(lambda line: "Server listening on 127.0.0.1 port 2222" in line)
        raw_ssh, raw_scp, tls_ssh, tls_scp = running.out.lines
        self.commands = {("raw", "ssh"): raw_ssh, ("raw", "scp"): raw_scp, ("tls", "ssh"): tls_ssh,
                         ("tls", "scp"): tls_scp}
        self.known_hosts = re.search(r"UserKnownHostsFile=(\S+)", raw_ssh).group(1)

    def ssh(self, way, remote, *options, run=None):
        command = self.commands[way, "ssh"]
        host = command.rpartition("@")[2]
        return (run
                or self.elsewhere)(command.replace("ssh ", shlex.join(["ssh", *options]) + " ",
                                                   1) + " " + shlex.quote(remote), host)

    def scp(self, way, edit):
        command, _, remote = self.commands[way, "scp"].partition(" FILE ")
        host = remote.rpartition("@")[2].rstrip(":")
        return self.elsewhere(f"{command} {edit('FILE ' + remote)}", host, seconds=100)


@pytest.fixture
def start(example, box, elsewhere):
    def start(*args, **options):
        folder = os.path.dirname(box.file("sshd", f'#!/bin/sh\nexec {shlex.join(sshd_command(box))} "$@"\n',
                                          mode=0o755))
        return Commands(example("ssh.py", *args, path=[folder], **options), elsewhere)
    return start


def test_without_sshd_it_says_what_to_install(example):
    if os.path.exists("/usr/sbin/sshd"):
        pytest.skip("sshd is installed")
    running = example("ssh.py")
    assert running.program.wait() == 1 and running.err.text() == "sshd: not found (apt-get install openssh-server)"


@pytest.mark.parametrize("way", ["raw", "tls"])
def test_the_commands_work_as_printed_with_an_embedded_relay(start, box, way):
    done = start(embedded=True).ssh(way, "echo in", run=lambda command, host: box.run("sh", "-c", command))
    assert (done.returncode, done.stdout) == (0, "in\n"), done


def make_key(box, name):
    """A key pair: the file of the private key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", box.file(name)], check=True)
    return box.file(name)


@pytest.mark.parametrize("way", ["raw", "tls"])
def test_a_person_logs_in_and_runs_a_command(start, way):
    done = start().ssh(way, "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n") and "err" in done.stderr, done


@pytest.mark.parametrize("way", ["raw", "tls"])
def test_a_file_is_copied_both_ways(start, way, box):
    commands, total = start(), scaled(64 << 20)
    here, there, back = box.file("here", data.body(total)), box.file("there"), box.file("back")
    done = commands.scp(way, lambda names: names.replace("FILE", here) + there)
    assert done.returncode == 0, done
    done = commands.scp(way, lambda names: names.replace("FILE ", "") + f"{there} {back}")
    assert done.returncode == 0, done
    with open(back, "rb") as f:
        assert data.digest_stream(f.read) == (total, data.digest(total))


@pytest.mark.parametrize("way", ["raw", "tls"])
def test_a_login_outlives_the_control_link_and_ends_with_the_tunnel(start, way, elsewhere, wire):
    commands = start(dial=wire.dial)
    login = commands.ssh(way, "cat", run=elsewhere.start)

    def say(line):
        login.popen.stdin.write(line + b"\n")
        login.popen.stdin.flush()
        login.out.wait(lambda got: got == line.decode())
    say(b"before")
    wire.cut_links()
    say(b"while the link is lost")
    wire.wait_links(1)
    say(b"and after")
    commands.running.end()
    assert login.wait() == 255, "ssh tells that the connection broke"


def test_a_key_that_is_given_is_the_one_that_logs_in(start, box):
    commands = start(make_key(box, "mine") + ".pub")
    done = commands.ssh("tls", "echo in", "-i", box.file("mine"))
    assert (done.returncode, done.stdout) == (0, "in\n"), done
    done = commands.ssh("raw", "echo in", "-o", "IdentitiesOnly=yes", "-i", make_key(box, "other"))
    assert done.returncode == 255 and "Permission denied" in done.stderr, done


def test_another_host_key_is_refused(start, box):
    commands = start()
    with open(make_key(box, "other") + ".pub") as key, open(commands.known_hosts, "w") as known:
        known.write(f"adit-ssh {key.read()}")
    for way in ("raw", "tls"):
        done = commands.ssh(way, "echo in")
        assert done.returncode == 255 and "Host key verification failed" in done.stderr, done
