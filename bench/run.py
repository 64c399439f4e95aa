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
import statistics
import subprocess
import sys

from box import ADIT, EC, EC384, LOAD, ROOT, Box, Failed
from subject import Subject
from table import cell, print_table, progress_printer
from tunnel import DOMAIN, NAME, Relay, start_app, start_nginx, start_tunnel, why_no_nginx

VENV = os.path.join(ROOT, ".cache/bench/venv")
FORWARD = os.path.join(ROOT, "bench/forward.py")


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
    root = box.certificate("root", ["rsa:4096"], "bench root")
    middle = box.certificate("middle", EC384, "bench intermediate", root,
                             "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n")
    leaf = box.certificate("leaf", EC, DOMAIN, middle, f"subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}\n")
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


def bench(box, quick):
    progress, load = progress_printer(), os.getloadavg()[0]
    progress("installing the Python package")
    python, why_no_python = install_package()
    progress("starting")
    ca = box.certificate("authority", EC, "bench authority")
    cert, key = box.certificate("direct", EC, NAME, ca, f"subjectAltName=DNS:{NAME}\n")
    app = start_app(box, "app")[0]
    direct = Subject("direct TLS", ("127.0.0.1", start_app(box, "app-tls", "--cert", cert, "--key", key)[0]), NAME,
                     ca[0], {})
    nginx, why_not = None, why_no_nginx()
    if why_not is None:
        port, process = start_nginx(box, "nginx", f"127.0.0.1:{app}", cert, key)
        nginx = Subject("nginx, TLS termination", ("127.0.0.1", port), NAME, ca[0], {"front": [process.pid]})
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
