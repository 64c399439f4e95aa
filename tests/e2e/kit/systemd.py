"""A machine on which systemd is process 1: all files of this one below a layer that is thrown away with it, and
processes, mounts, names, network and control groups of its own. It starts nothing but the journal and what a test
enables."""
import ctypes
import itertools
import os
import re
import signal
import tempfile
import threading

from .process import LIBC, wait_until

CLONE_NEWNET = 0x40000000

# In mounts of its own: makes a control group, boots inside it, and removes it when all of that has ended.
HOST = r"""
set -eu
folder=$1 boot=$2
shift 2
mkdir "$folder/groups" "$folder/root"
mount -t cgroup2 cgroup2 "$folder/groups"
group=$folder/groups/adit-test-$$
mkdir "$group"
status=0
sh -euc 'echo 0 >"$1/cgroup.procs"; shift; exec setpriv --pdeathsig KILL "$@"' - "$group" \
  unshare --cgroup --uts --ipc --net --mount --pid --fork --kill-child \
  sh -euc "$boot" - "$folder/root" "$@" || status=$?
find "$group" -depth -type d -exec rmdir '{}' ';'
exit $status
"""

# The first process of the new machine. It tells its number by the processes of this one, which /proc still has.
BOOT = r"""
read -r pid rest </proc/self/stat
mount -t tmpfs tmpfs "$1"
new=$1/new
mkdir "$1/upper" "$1/work" "$new"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$new"
cd "$new"
rm -rf etc/adit etc/fstab etc/systemd/system lib/systemd/system/*.wants var/lib/adit* var/lib/private var/log/journal
mkdir -p etc/systemd/system etc/adit usr/local/bin usr/local/share/adit var/lib var/log var/tmp
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for folder in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs $folder; done
chmod 1777 tmp
shift
while [ $# != 0 ]; do mkdir -p ".$2"; mount --bind "$1" ".$2"; shift 2; done
for device in null zero full random urandom tty; do : >dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/pts dev/shm
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
cat >etc/systemd/system/test.target <<'END'
[Unit]
Requires=systemd-journald.service
After=systemd-journald.service
END
: >etc/machine-id
echo '127.0.0.1 localhost r1.test' >etc/hosts
ip link set lo up
hostname machine
mkdir before
pivot_root . before
umount --lazy before
mount --make-rshared /
echo "process $pid"
exec env -i container=adit PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=test.target --show-status=no --log-target=journal
"""


class Machine:
    def __init__(self, box, shown=()):
        """shown: pairs of a folder of this machine and where it is in that one."""
        assert os.geteuid() == 0, "booting systemd wants root"
        self.box, self.folder = box, tempfile.mkdtemp(prefix="systemd-", dir=box.path)
        self.host = box.start(["unshare", "--mount", "sh", "-c", HOST, "-", self.folder, BOOT,
                               *itertools.chain(*shown)])
        try:
            self.pid = int(self.host.out.wait(lambda line: line.startswith("process ")).split()[1])
        except AssertionError as e:
            self.host.wait()
            raise AssertionError(f"this machine does not let a systemd boot:\n{self.host.err.text()}") from e
        box.closers.append(self.close)
        wait_until(lambda: self.run("systemctl", "is-system-running").stdout == "running\n", "systemd does not boot")

    def inside(self, *argv):
        return ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root",
                "--wd", "env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *argv]

    def run(self, *argv, **options):
        return self.box.run(*self.inside(*argv), **options)

    def done(self, *argv, **options):
        """What it says that worked."""
        done = self.run(*argv, **options)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *argv):
        return self.box.start(self.inside(*argv))

    def journal(self, *options):
        return self.run("journalctl", "--quiet", "--no-pager", "--output=cat", *options).stdout

    def property(self, unit, name):
        return self.done("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def exposure(self, unit):
        """systemd's own measure of what a service could do, from 0 to 10."""
        told = self.done("systemd-analyze", "--no-pager", "security", unit)
        return float(re.search(r"exposure level for \S+: (\d+\.\d)", told).group(1))

    def path(self, path):
        return f"/proc/{self.pid}/root{path}"

    def write(self, path, text, mode=0o644):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(os.open(self.path(path), os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode), "w") as f:
            f.write(text)

    def connected(self, call):
        """call() by a thread in this machine's network: the sockets that it makes are there."""
        results = []

        def run():
            fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
            try:
                assert LIBC.setns(fd, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
                results.append(call())
            except BaseException as e:
                results.append(e)
            finally:
                os.close(fd)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    def close(self):
        print(self.journal())
        os.kill(self.pid, signal.SIGKILL)
        self.host.wait()
