"""HTTP proxies from Debian's packages, where they may not be installed, in a network that lets nothing else out."""
import os
import shutil
import subprocess

from .distance import Place, cable
from .nginx import ROOT, found
from .process import LIBC

CACHE = os.path.join(ROOT, ".cache/root")
LIBRARIES = os.path.join(CACHE, "usr/lib/x86_64-linux-gnu")
USER = "agent"
PASSWORDS = {"tinyproxy": "password", "squid": "p@ss:word%"}     # tinyproxy's own file does not take every character


class Walled:
    """inside has an agent and its app, and a cable to gate, where the proxy is; gate has one to the world, with a relay
    and visitors. Nothing is passed on from one to the other: gate's firewall lets `inside` talk to the proxy's port and
    to nothing else."""

    INSIDE, GATE, GATE_OUT, WORLD = "10.91.1.1", "10.91.1.2", "10.91.2.1", "10.91.2.2"

    def __init__(self, box, port=3128):
        self.box, self.port = box, port
        self.inside, self.gate, self.world = (Place(box) for _ in range(3))
        cable(box, self.inside, self.INSIDE, self.gate, self.GATE, 0)
        cable(box, self.gate, self.GATE_OUT, self.world, self.WORLD, 0)
        self.inside.run("ip", "route", "add", "default", "via", self.GATE)
        self.world.run("ip", "route", "add", "default", "via", self.GATE_OUT)
        rules = f"""table inet wall {{
          chain forward {{ type filter hook forward priority 0; policy drop; }}
          chain input {{ type filter hook input priority 0; policy accept;
            ip saddr {self.INSIDE} tcp dport != {port} drop; ip saddr {self.INSIDE} meta l4proto != tcp drop; }}
        }}"""
        wall = subprocess.run([*self.gate.prefix, found("usr/sbin/nft"), "-f", "-"], input=rules, text=True,
                              stderr=subprocess.PIPE,
                              env={**os.environ, "LD_LIBRARY_PATH": LIBRARIES})
        if wall.returncode != 0:         # a kernel without nf_tables: then there is no way through gate at least
            self.gate.run("sysctl", "-qw", "net.ipv4.ip_forward=0")

    @property
    def address(self):
        return f"{self.GATE}:{self.port}"

    def names(self, **names):
        """A prefix for programs at the gate, where these names are looked up (and squid leaves nothing behind in
        /dev/shm)."""
        hosts = self.box.file(self.box.unique("hosts"),
                              "127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for n, a in names.items()), mode=0o644)
        return [*self.gate.prefix, "unshare", "-m", "sh", "-c",
                f'mount --bind {hosts} /etc/hosts && mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"]


def _wait_listening(place, address, port, program):
    """A proxy says nothing when it is ready; the kernel's list of sockets does."""
    from .process import wait_until

    def listening():
        assert program.running, program.report()
        with open(f"/proc/{place.holder.pid}/net/tcp") as f:
            return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
                       for line in f.read().splitlines()[1:])
    wait_until(listening, f"nothing listens on {address}:{port}")


def tinyproxy(walled, auth=False, **names):
    box = walled.box
    conf = box.file(box.unique("tinyproxy"),
                    f"Port {walled.port}\nListen {walled.GATE}\nTimeout 600\nLogLevel Info\nMaxClients 200\n"
                    + (f"BasicAuth {USER} {PASSWORDS['tinyproxy']}\n" if auth else ""))
    program = box.start([*walled.names(**names), found("usr/bin/tinyproxy"), "-d", "-c", conf])
    _wait_listening(walled.gate, walled.GATE, walled.port, program)
    return program


def squid(walled, auth=False, tls=None, tls_options="", **names):
    """tls: files of a certificate and its key, for https://; tls_options: in squid's words."""
    box = walled.box
    folder = box.file(box.unique("squid"))
    os.mkdir(folder)
    os.chmod(box.path, 0o755)            # squid turns into nobody
    shutil.chown(folder, "nobody")
    port = f"{walled.GATE}:{walled.port}"
    basic = ""
    if auth:
        helper = box.file(box.unique("helper"), f"""#!/usr/bin/python3
import sys, urllib.parse
for line in sys.stdin:
    words = [urllib.parse.unquote(word) for word in line.split()]
    print("OK" if words == {[USER, PASSWORDS['squid']]} else "ERR", flush=True)
""", mode=0o755)
        basic = (f"auth_param basic program {helper}\nauth_param basic realm test\n"
                 "acl known proxy_auth REQUIRED\nhttp_access deny !known\n")
    share = next(p for p in ("/usr/share/squid", os.path.join(CACHE, "usr/share/squid")) if os.path.exists(p))
    conf = box.file(
        box.unique("squidconf"),
        (f"https_port {port} tls-cert={tls[0]} tls-key={tls[1]} {tls_options}\n" if tls else f"http_port {port}\n")
        + basic
        + f"http_access allow all\ncache deny all\naccess_log none\ncache_log /dev/null\npid_filename none\n"
        f"coredump_dir {folder}\nmime_table {share}/mime.conf\n"
        f"error_directory {share}/errors/en\nicon_directory {share}/icons\n"
        f"unlinkd_program {found('usr/lib/squid/unlinkd')}\nlogfile_daemon {found('usr/lib/squid/log_file_daemon')}\n"
        "logfile_rotate 0\nhosts_file /etc/hosts\ndns_nameservers 127.0.0.1\nshutdown_lifetime 0 seconds\n"
        "netdb_filename none\npinger_enable off\ncache_effective_user nobody\n"
        "visible_hostname gate\nmax_filedescriptors 4096\n",
    )
    program = box.start([*walled.names(**names), found("usr/sbin/squid"), "-N", "-f", conf],
                        env={"LD_LIBRARY_PATH": LIBRARIES})
    _wait_listening(walled.gate, walled.GATE, walled.port, program)
    return program
