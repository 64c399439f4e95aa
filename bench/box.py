"""The scratch folder and the programs of one run; all of it ends with the run."""
import json
import os
import signal
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ADIT = os.path.abspath(os.environ.get("ADIT", os.path.join(ROOT, "build/adit")))
LOAD = os.path.abspath(os.environ.get("ADIT_LOAD", os.path.join(ROOT, "build/bench/load")))
UNPACKED = os.path.join(ROOT, ".cache/root")
READY_S = 10
EC = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
EC384 = ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]


class Failed(Exception):
    pass


def found(path):
    """A file of Debian's, installed or unpacked below .cache."""
    return next((p for p in ("/" + path, os.path.join(UNPACKED, path)) if os.path.exists(p)), None)


class Box:
    def __init__(self, stack):
        self.path = stack.enter_context(tempfile.TemporaryDirectory(prefix="adit-bench-"))
        self.stack, self.used = stack, 0
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.path, "LANG": "C.UTF-8"}

    def file(self, name, text=None):
        path = os.path.join(self.path, name)
        if text is not None:
            with open(path, "w", encoding="ascii") as f:
                f.write(text)
        return path

    def unique(self, stem):
        self.used += 1
        return f"{stem}-{self.used}"

    def start(self, name, argv, env=None, **options):
        with open(self.file(f"{name}.log"), "ab") as log:
            process = subprocess.Popen(argv, env={**self.env, **(env or {})}, stderr=log, text=True,
                                       **{"stdin": subprocess.DEVNULL, **options})
        self.stack.callback(self.stop, process)
        return process

    def stop(self, process):
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def run(self, *argv, env=None, seconds=None):
        try:
            done = subprocess.run(argv, env={**self.env, **(env or {})}, text=True, capture_output=True,
                                  stdin=subprocess.DEVNULL, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(argv[:3])}: takes more than {seconds} s") from None
        if done.returncode == -signal.SIGALRM:
            raise Failed(f"{' '.join(argv[:3])}: does not end")
        if done.returncode != 0:
            raise Failed(f"{' '.join(argv[:3])}: {done.stderr.strip()}")
        return done.stdout.strip()

    def log(self, name):
        with open(self.file(f"{name}.log"), encoding="utf-8", errors="replace") as log:
            return log.read().strip()

    def first_line(self, process, name):
        line = process.stdout.readline()
        if not line:
            raise Failed(f"{name} ended early: {self.log(name)}")
        return json.loads(line)

    def certificate(self, stem, key, subject, issuer=None, extensions=""):
        """Makes a key and a certificate; returns the paths of both."""
        cert, key_file = self.file(f"{stem}.pem"), self.file(f"{stem}.key")
        request = ["openssl", "req", "-x509" if issuer is None else "-new", "-nodes", "-newkey", *key, "-subj",
                   f"/CN={subject}", "-keyout", key_file]
        if issuer is None:
            self.run(*request, "-days", "30", "-out", cert)
            return cert, key_file
        self.run(*request, "-out", self.file(f"{stem}.csr"))
        self.run("openssl", "x509", "-req", "-in", self.file(f"{stem}.csr"), "-CA", issuer[0], "-CAkey", issuer[1],
                 "-days", "30", "-out", cert, "-extfile", self.file(f"{stem}.ext", extensions))
        return cert, key_file
