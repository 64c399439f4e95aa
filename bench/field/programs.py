"""Where the programs of others are, and of which version. Each is looked for in the folder that PEERS names, on PATH,
in what tools/deps unpacks, and in .cache/peers, where those are built that their registry has."""
import os
import re
import shutil
import subprocess

from box import ADIT, ROOT, UNPACKED, Failed

BUILT = os.path.join(ROOT, ".cache/peers")
CRATES = {"rathole": "rathole", "bore": "bore-cli"}
VERSIONS = {"nginx": ["-v"], "haproxy": ["-v"], "frps": ["--version"], "rathole": ["--version"], "bore": ["--version"],
            "chisel": ["--version"], "sish": ["--version"], "ssh": ["-V"], "sshd": ["-V"], "wrk": ["-v"],
            "h2load": ["--version"], "openssl": ["version"]}
UNPACKED_LIBRARIES = os.path.join(UNPACKED, "usr/lib", f"{os.uname().machine}-linux-gnu")
# Where there is no package of Debian's and no crate.
NOT_TO_BE_HAD = "not on PATH nor in the folder that PEERS names (who puts a release there gets its rows)"


class Missing(Failed):
    """Why something is not measured."""


def folders():
    return [*filter(None, [os.environ.get("PEERS")]), *os.environ.get("PATH", "").split(os.pathsep),
            "/usr/sbin", "/sbin", os.path.join(UNPACKED, "usr/sbin"), os.path.join(UNPACKED, "usr/bin"),
            os.path.join(BUILT, "bin")]


def look_for(name):
    return shutil.which(name, path=os.pathsep.join(folders()))


def build(name, progress):
    """By `cargo install`, once. A lock file as old as the crate may name what today's compilers refuse, so what it
    depends on is what its manifest allows."""
    if not shutil.which("cargo"):
        raise Missing(f"{name}: neither found nor built (cargo is not here)")
    progress(f"building {CRATES[name]}: minutes, once")
    done = subprocess.run(["cargo", "install", "--quiet", "--root", BUILT, CRATES[name]], text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise Missing(f"{name}: cargo install {CRATES[name]}: {done.stderr.strip()[-300:]}")


def need(name, progress=lambda text: None):
    """The program's path."""
    path = look_for(name)
    if path is None and name in CRATES:
        build(name, progress)
        path = look_for(name)
    if path is None:
        raise Missing(f"{name}: {NOT_TO_BE_HAD}")
    return os.path.abspath(path)


def environment(path):
    """What is unpacked finds its libraries beside it."""
    return {"LD_LIBRARY_PATH": UNPACKED_LIBRARIES} if path.startswith(UNPACKED) else {}


def version(name):
    path = ADIT if name == "adit" else look_for(name)
    if path is None:
        return None
    done = subprocess.run([path, *VERSIONS.get(name, ["--version"])], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
                          env={**os.environ, **environment(path)})
    found = re.search(r"(?<![\d.:-])\d+\.\d+(\.\d+)*(p\d+)?\b", done.stdout)
    return found.group(0) if found else done.stdout.strip().splitlines()[0]
