"""What a run was made on, and with which versions: so that a reader can tell his figures from these."""
import os
import platform
import time

from . import programs
from .ways import WAYS

PROGRAMS = ("adit", "openssl", "nginx", "haproxy", "frps", "rathole", "bore", "chisel", "sish", "ssh", "wrk", "h2load")


def first_line(path, start=""):
    try:
        with open(path, encoding="utf-8") as f:
            return next(line.strip() for line in f if line.startswith(start))
    except (OSError, StopIteration):
        return "unknown"


def about(run, command, seconds, load_before):
    processor = first_line("/proc/cpuinfo", "model name").split(":")[-1].strip()
    system = first_line("/etc/os-release", "PRETTY_NAME=").removeprefix("PRETTY_NAME=").strip('"')
    congestion = first_line("/proc/sys/net/ipv4/tcp_congestion_control")
    return {
        "date": time.strftime("%Y-%m-%d"), "command": command, "seconds": round(seconds), "rounds": run.rounds,
        "took_s": {name: round(s, 1) for name, s in run.took.items()},
        "cores": os.cpu_count(), "measurement_s": run.seconds, "load_before": round(load_before, 1),
        "machine": f"{os.cpu_count()} cores ({processor}), Linux {platform.release().split('-')[0]}, {system}, TCP "
                   f"with {congestion}, all on loopback",
        "versions": {name: version for name in PROGRAMS if (version := programs.version(name))},
        "configurations": {way.name: way.config for way in WAYS},
    }
