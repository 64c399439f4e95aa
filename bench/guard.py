#!/usr/bin/env python3
"""Compares how many instructions what is done for every byte, message and visitor takes (bench/guard.c) with what was
recorded, and says what has grown by more than 3 %. Counted by valgrind, they are the same from run to run, but not from
compiler to compiler or with another OpenSSL: where none were recorded for what is here there is nothing to compare."""
import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GUARD = os.environ.get("ADIT_GUARD", os.path.join(ROOT, "build/bench/guard"))
RECORDED = os.path.join(ROOT, "bench/guard.json")
FEW, MORE, GROWTH = 2, 10, 1.03
LINE = re.compile(r"^\s*([\d,]+) \(.*?:measured_([a-z]+)(?:_begin|_end)?[. ]")


def run(*argv):
    done = subprocess.run(argv, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        sys.exit(f"guard: {' '.join(argv[:2])}: {done.stderr.strip()[-400:]}")
    return done.stdout


def count(times):
    """The surroundings, and instructions by what they are for."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="adit-guard-") as folder:
        out = os.path.join(folder, "out")
        surroundings = run("valgrind", "--tool=callgrind", "--toggle-collect=measured_*",
                           f"--callgrind-out-file={out}", GUARD, str(times)).strip()
        for line in run("callgrind_annotate", "--inclusive=yes", "--threshold=100", out).splitlines():
            if match := LINE.match(line):
                found[match[2]] = found.get(match[2], 0) + int(match[1].replace(",", ""))
    return f"{platform.machine()}, {surroundings}", found


def measure():
    surroundings, few = count(FEW)
    _, more = count(MORE)
    return surroundings, {name: round((more[name] - few[name]) / (MORE - FEW)) for name in sorted(more)}


def main():
    parser = argparse.ArgumentParser(description="Count instructions, and say what has grown.")
    parser.add_argument("--record", action="store_true", help="these are the counts from now on")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("skipped: valgrind is not here")
        return 0
    surroundings, now = measure()
    with open(RECORDED, encoding="ascii") as f:
        recorded = json.load(f)
    if options.record:
        recorded[surroundings] = now
        with open(RECORDED, "w", encoding="ascii") as f:
            json.dump(recorded, f, indent=2, sort_keys=True)
            f.write("\n")
    before = recorded.get(surroundings)
    if before is None:
        print(f"skipped: nothing is recorded for {surroundings} (bench/guard.py --record)")
        return 0
    grown = [name for name in now if now[name] > before.get(name, 0) * GROWTH]
    for name, n in now.items():
        print(f"{name}: {n} instructions, recorded {before.get(name, 0)}"
              f"{', GROWN (if it is meant: bench/guard.py --record)' if name in grown else ''}")
    print(f"{len(now) - len(grown)} passed, {len(grown)} failed")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
