#!/usr/bin/env python3
"""Measures the tunnel against direct TLS and against nginx terminating TLS, all on loopback and in one run, and prints
tables.

The rounds alternate between the subjects, so that whatever else the machine does meets all of them; what is printed is
the median of the rounds. CPU seconds are user + system time of the named processes' threads over the same transfers.
Everything lives in a scratch folder and ends with this program."""
import argparse
import contextlib
import glob
import hashlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ADIT = os.environ.get("ADIT", os.path.join(ROOT, "build/adit"))
LOAD = os.environ.get("ADIT_LOAD", os.path.join(ROOT, "build/bench/load"))
UNPACKED = os.path.join(ROOT, ".cache/root")
VENV = os.path.join(ROOT, ".cache/bench/venv")
FORWARD = os.path.join(ROOT, "bench/forward.py")
NGINX_MODULE = "usr/lib/nginx/modules/ngx_stream_module.so"
NAME, DOMAIN = "direct.bench.test", "relay.bench.test"
READY_S, TICKS = 10, os.sysconf("SC_CLK_TCK")

NGINX_CONF = """
{user} {module}
worker_processes auto;
daemon off;
pid {scratch}/nginx.pid;
error_log {scratch}/nginx.log warn;
events {{ worker_connections 1024; }}
stream {{
  server {{
    listen 127.0.0.1:{port} ssl reuseport;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    proxy_pass 127.0.0.1:{app};
  }}
}}
"""


class Failed(Exception):
    pass


def found(path):
    """A file of Debian's, installed or unpacked below .cache."""
    return next((p for p in ("/" + path, os.path.join(UNPACKED, path)) if os.path.exists(p)), None)


class Box:
    """The scratch folder and the programs of one run."""

    def __init__(self, stack):
        self.path = stack.enter_context(tempfile.TemporaryDirectory(prefix="adit-bench-"))
        self.stack = stack
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.path, "LANG": "C.UTF-8"}

    def file(self, name, text=None):
        path = os.path.join(self.path, name)
        if text is not None:
            with open(path, "w", encoding="ascii") as f:
                f.write(text)
        return path

    def start(self, name, argv, env=None, **options):
        with open(self.file(f"{name}.log"), "ab") as log:
            process = subprocess.Popen(argv, env={**self.env, **(env or {})}, stderr=log, stdin=subprocess.DEVNULL,
                                       text=True, **options)
        self.stack.callback(self.stop, process)
        return process

    def stop(self, process):
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def run(self, *argv, env=None):
        done = subprocess.run(argv, env={**self.env, **(env or {})}, text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise Failed(f"{' '.join(argv[:3])}: {done.stderr.strip()}")
        return done.stdout.strip()

    def first_line(self, process, name):
        line = process.stdout.readline()
        if not line:
            with open(self.file(f"{name}.log"), encoding="utf-8", errors="replace") as log:
                raise Failed(f"{name} ended early: {log.read().strip()}")
        return json.loads(line)


def certificate(box, stem, key, subject, issuer=None, extensions=""):
    """Makes a key and a certificate; returns the paths of both."""
    cert, key_file = box.file(f"{stem}.pem"), box.file(f"{stem}.key")
    request = ["openssl", "req", "-x509" if issuer is None else "-new", "-nodes", "-newkey", *key, "-subj",
               f"/CN={subject}", "-keyout", key_file]
    if issuer is None:
        box.run(*request, "-days", "30", "-out", cert)
        return cert, key_file
    box.run(*request, "-out", box.file(f"{stem}.csr"))
    box.run("openssl", "x509", "-req", "-in", box.file(f"{stem}.csr"), "-CA", issuer[0], "-CAkey", issuer[1], "-days",
            "30", "-out", cert,
            "-extfile", box.file(f"{stem}.ext", extensions))
    return cert, key_file


EC = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
EC384 = ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]


class Relay:
    def __init__(self, box, name, *options):
        self.state, path = box.file(f"{name}-state"), box.file(f"{name}-notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(READY_S)
            self.process = box.start(name,
                                     [ADIT, "relay", "--domain", DOMAIN, "--listen", "127.0.0.1:0", "--tcp-listen",
                                      "127.0.0.1",
                                            "--state", self.state, *options], env={"NOTIFY_SOCKET": path})
            try:
                notes = dict(line.split("=", 1) for line in notify.recv(4096).decode().splitlines() if "=" in line)
            except TimeoutError:
                with open(box.file(f"{name}.log"), encoding="utf-8") as log:
                    raise Failed(f"{name} does not become ready: {log.read().strip()}") from None
        self.dial = f"127.0.0.1:{notes['X_ADIT_PORT']}"
        self.token = box.run(ADIT, "token", "create", "bench", "--state", self.state, "--relay", self.dial)


class Subject:
    """What a visitor reaches: an address, and the processes whose time counts, by role."""

    def __init__(self, title, address, sni, ca, processes):
        self.title, self.ca, self.processes, self.sni = title, ca, processes, sni
        self.host, self.port = address
        self.results = {}

    def cpu_s(self):
        return {role: sum(cpu_seconds(pid) for pid in pids) for role, pids in self.processes.items()}

    def measure(self, box, what, *options):
        before = self.cpu_s()
        try:
            result = json.loads(box.run(LOAD, what, "--host", self.host, "--port", str(self.port), "--sni", self.sni,
                                        "--ca", self.ca, *options))
        except Failed as failure:
            raise Failed(f"{self.title}: {failure}") from None
        after = self.cpu_s()
        for role in before if "bytes" in result else ():
            result[f"{role}_s_per_gb"] = (after[role] - before[role]) / (result["bytes"] / 1e9)
        return result

    def keep(self, name, result):
        self.results.setdefault(name, []).append(result)

    def median(self, name, field):
        values = [r[field] for r in self.results.get(name, []) if field in r]
        return statistics.median(values) if values else None


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def workers_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def start_app(box, name, *options):
    return box.first_line(box.start(name, [LOAD, "app", "--streams", "2", *options], stdout=subprocess.PIPE),
                          name)["port"]


def start_nginx(box, app, cert, key, ca):
    nginx, module = found("usr/sbin/nginx"), found(NGINX_MODULE)
    if nginx is None:
        return None, "nginx is not here (tools/deps bench unpacks it)"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    conf = box.file("nginx.conf",
                    NGINX_CONF.format(user="user root;" if os.getuid() == 0 else "", port=port, app=app, cert=cert,
                                      key=key,
                                                    module=f"load_module {module};" if module else "",
                                                    scratch=box.path))
    process = box.start("nginx", [nginx, "-p", box.path, "-c", conf], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return Subject("nginx, TLS termination", ("127.0.0.1", port), NAME, ca,
                           {"front": workers_of(process.pid)}), None
        time.sleep(0.02)
    with open(box.file("nginx.log"), encoding="utf-8", errors="replace") as log:
        return None, f"nginx with its stream module does not start (package libnginx-mod-stream): {log.read().strip()}"


def start_tunnel(box, app, pump, title, *agent):
    relay = Relay(box, f"relay-{title}", "--pump", pump)
    agent = box.start(f"agent-{title}", [*agent, str(app)], env={"ADIT_TOKEN": relay.token}, stdout=subprocess.PIPE)
    line = box.first_line(agent, f"agent-{title}")
    host = line["url"].split("://", 1)[1].split(":")[0].strip("/")
    port = int(relay.dial.rsplit(":", 1)[1])
    return Subject(f"tunnel, {title}", ("127.0.0.1", port), host, os.path.join(relay.state, "authority.pem"),
                   {"front": [relay.process.pid], "agent": [agent.pid]}), relay


def install_package():
    """The package as it is in this tree, in an environment of its own. Installed anew when its sources have changed:
    the path of a Python that has it, or why there is none."""
    python, stamp = os.path.join(VENV, "bin/python"), os.path.join(VENV, "stamp")
    digest = hashlib.sha256(sys.version.encode())
    for folder in ("python", "src", "include"):
        for path in sorted(glob.glob(os.path.join(ROOT, folder, "**/*.*"), recursive=True)):
            if os.path.isfile(path) and not path.endswith(".pyc") and "/subprojects/" not in path:
                with open(path, "rb") as f:
                    digest.update(f.read())
    with contextlib.suppress(OSError), open(stamp, encoding="ascii") as f:
        if f.read() == digest.hexdigest():
            return python, None
    for argv in ([sys.executable, "-m", "venv", "--clear", VENV],
                 [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                  os.path.join(ROOT, "python")]):
        done = subprocess.run(argv, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            return None, f"the Python package cannot be installed: {(done.stderr or done.stdout).strip()[-400:]}"
    with open(stamp, "w", encoding="ascii") as f:
        f.write(digest.hexdigest())
    return python, None


def start_public_relay(box):
    """A relay whose chain has the shape that public authorities give: an RSA-4096 root, a P-384 intermediate, a P-256
    leaf. The system's authorities stand beside that root in a folder of hashed links, as on any Debian machine."""
    root = certificate(box, "root", ["rsa:4096"], "bench root")
    middle = certificate(box, "middle", EC384, "bench intermediate", root,
                         "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n")
    leaf = certificate(box, "leaf", EC, DOMAIN, middle, f"subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}\n")
    with open(leaf[0], "a", encoding="ascii") as chain, open(middle[0], encoding="ascii") as more:
        chain.write(more.read())
    folder = box.file("authorities")
    os.mkdir(folder)
    shutil.copy(root[0], os.path.join(folder, box.run("openssl", "x509", "-in", root[0], "-noout", "-hash") + ".0"))
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/etc/ssl/certs"):
            if name.endswith(".0") and not os.path.exists(os.path.join(folder, name)):
                os.symlink(os.path.join("/etc/ssl/certs", name), os.path.join(folder, name))
    return Relay(box, "relay-public", "--cert", leaf[0], "--key", leaf[1]), folder


def measure_rounds(box, subjects, rounds, size, counts, progress):
    transfer = ["--streams", "8", "--bytes", str(size)]
    # everybody's first pages, caches and warm connections
    for subject in subjects:
        subject.measure(box, "down", "--streams", "8", "--bytes", str(32 << 20))
        subject.measure(box, "connect", "--streams", "8", "--count", "64")
    steps = (("down", transfer), ("up", transfer), ("ping", ["--count", str(counts[0])]),
             ("connect", ["--streams", "8", "--count", str(counts[1])]), ("connect", ["--count", str(counts[2])]))
    for n in range(rounds):
        for what, options in steps:
            progress(f"round {n + 1} of {rounds}: {what}")
            for subject in subjects:
                subject.keep(what if "--streams" in options or what == "ping" else "first byte",
                             subject.measure(box, what, *options))


def cell(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def print_table(head, rows):
    rows = [head, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for n, row in enumerate(rows):
        print("| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w)
                                for i, (c, w) in enumerate(zip(row, widths))) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|")
    print()


def print_results(subjects):
    print_table(["", "down GB/s", "up GB/s", "ping p50 us", "ping p99 us", "new conn/s", "first byte us"],
                [[s.title, cell(s.median("down", "gb_per_s"), 2), cell(s.median("up", "gb_per_s"), 2),
                  cell(s.median("ping", "p50_us"), 0),
                  cell(s.median("ping", "p99_us"), 0), cell(s.median("connect", "per_s"), 0),
                  cell(s.median("first byte", "p50_us"), 0)]
                 for s in subjects])
    print_table(["CPU s/GB", "relay or nginx, down", "up", "agent, down", "up"],
                [[s.title,
                  *(cell(s.median(what, f"{role}_s_per_gb"), 3) for role in ("front", "agent")
                    for what in ("down", "up"))]
                 for s in subjects if s.processes])


def print_ratios(nginx, tunnels):
    rows = []
    for s in tunnels:
        front = [sum(x.median(what, "front_s_per_gb") for what in ("down", "up")) for x in (s, nginx)]
        speed = [s.median(what, "gb_per_s") / nginx.median(what, "gb_per_s") for what in ("down", "up")]
        rows.append([s.title, cell(front[0] / front[1], 2), cell(speed[0], 2), cell(speed[1], 2)])
    print_table(["against nginx", "relay CPU per GB (expected <= 0.35)", "down (>= 1)", "up (>= 1)"], rows)


def print_opening(box, app, pinned, public, authorities, count):
    rows = []
    for title, token, env in (("pinned authority", pinned.token, {}),
                              ("public authorities", public.token, {"SSL_CERT_DIR": authorities})):
        box.env.update(env)
        result = json.loads(box.run(LOAD, "open", "--count", str(count), "--", ADIT, "forward", str(app), "--json",
                                    "--token", token))
        rows.append([title, cell(result["p50_us"] / 1e3, 2), cell(result["p99_us"] / 1e3, 2)])
    print_table([f"process start to open line ({count} runs)", "median ms (expected <= 10)", "p99 ms"], rows)


def print_forward(box, python, app, relay, processes, count):
    runs = [json.loads(box.run(python, FORWARD, "time", str(app), str(count), env={"ADIT_TOKEN": relay.token}))
            for _ in range(processes)]
    rows = []
    for title, times in (("first of a process, which connects", [r["first_us"] for r in runs]),
                         (f"next {count}, over its link", [us for r in runs for us in r["next_us"]])):
        rows.append([title, cell(statistics.median(times) / 1e3, 2),
                     cell(statistics.quantiles(times, n=100, method="inclusive")[98] / 1e3, 2)])
    print_table([f"forward() to tunnel ({processes} processes)", "median ms (expected <= 5)", "p99 ms"], rows)


def progress_printer():
    start, terminal = time.monotonic(), sys.stderr.isatty()

    def progress(text):
        if terminal:
            print(f"\r\033[K{time.monotonic() - start:4.0f} s  {text}", end="" if text else "\r", file=sys.stderr,
                  flush=True)
    return progress


def bench(box, quick):
    progress, load = progress_printer(), os.getloadavg()[0]
    progress("installing the Python package")
    python, why_no_python = install_package()
    progress("starting")
    ca = certificate(box, "authority", EC, "bench authority")
    cert, key = certificate(box, "direct", EC, NAME, ca, f"subjectAltName=DNS:{NAME}\n")
    app = start_app(box, "app")
    direct = Subject("direct TLS", ("127.0.0.1", start_app(box, "app-tls", "--cert", cert, "--key", key)), NAME, ca[0],
                     {})
    nginx, why_not = start_nginx(box, app, cert, key, ca[0])
    agent = [ADIT, "forward", "--json"]
    (splice, relay), (copy, _) = start_tunnel(box, app, "splice", "splice", *agent), start_tunnel(box, app, "copy",
                                                                                                  "copy", *agent)
    forward = start_tunnel(box, app, "splice", "splice, Python", python, FORWARD, "hold")[0] if python else None
    subjects = [s for s in (direct, nginx, splice, copy, forward) if s is not None]
    measure_rounds(box, subjects, 1 if quick else 3, (256 << 20) if quick else (1 << 30),
                   (1000, 400, 100) if quick else (5000, 1600, 300), progress)
    public, authorities = start_public_relay(box)
    progress("opening")
    progress("")
    with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="ascii") as f:
        congestion = f.read().strip()
    print(
        f"Loopback ({congestion}), {os.cpu_count()} cores, load {load:.1f} before; TLS_AES_128_GCM_SHA256, "
        f"X25519, P-256 certificates; "
        f"8 streams, 64-byte pings, medians of {1 if quick else 3} rounds\n"
    )
    print_results(subjects)
    if nginx is not None:
        print_ratios(nginx, [splice, copy])
    else:
        print(f"{why_not}\n")
    print_opening(box, app, relay, public, authorities, 10 if quick else 50)
    if python:
        print_forward(box, python, app, relay, 10 if quick else 50, 10)
    else:
        print(why_no_python)


def main():
    parser = argparse.ArgumentParser(description="Compare the tunnel with direct TLS and with nginx, on loopback.")
    parser.add_argument("--quick", action="store_true", help="about 20 s instead of two minutes, and rougher")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for program in (ADIT, LOAD):
        if not os.access(program, os.X_OK):
            sys.exit(f"bench: {program}: not built (run make)")
    try:
        with contextlib.ExitStack() as stack:
            bench(Box(stack), options.quick)
    except Failed as failure:
        sys.exit(f"bench: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
