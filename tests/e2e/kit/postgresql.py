"""A PostgreSQL server of Debian's package: in a scratch folder, at a unix socket alone, as a user without rights, which
it insists on."""
import glob
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile

import psycopg
from kit.process import die_with_parent, wait_until

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
UNPACKED = os.path.join(ROOT, ".cache", "root")
START_S = 60


class Postgresql:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="adit-pg-", dir="/tmp")      # a socket's path is short
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        self._databases = itertools.count()
        self._bin = self._programs()
        if self._user:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self.data = os.path.join(self.folder, "data")
        self._run("initdb", "-D", self.data, "-U", "owner", "--auth=scram-sha-256", f"--pwfile={self._password_file()}",
                  "--encoding=UTF8", "--locale=C", "--no-sync")
        self.start()

    def _programs(self):
        """Where they are, for that user, too: what was unpacked may be in a folder that is closed to it."""
        there = glob.glob("/usr/lib/postgresql/*/bin/postgres")
        if there:
            return os.path.dirname(max(there))
        for part in ("usr/lib/postgresql", "usr/share/postgresql"):
            shutil.copytree(os.path.join(UNPACKED, part), os.path.join(self.folder, part), symlinks=True)
        return os.path.dirname(max(glob.glob(os.path.join(self.folder, "usr/lib/postgresql/*/bin/postgres"))))

    def _password_file(self):
        path = os.path.join(self.folder, "password")
        with open(path, "w") as file:
            file.write("sesame")
        os.chmod(path, 0o644)
        return path

    def _options(self):
        as_user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        return {"cwd": self.folder, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, "stdin": subprocess.DEVNULL,
                **as_user}

    def _run(self, program, *words):
        done = subprocess.run([os.path.join(self._bin, program), *words], capture_output=True, text=True,
                              **self._options())
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self):
        settings = {"unix_socket_directories": self.folder, "listen_addresses": "", "fsync": "off",
                    "max_connections": "30",
                    "dynamic_shared_memory_type": "mmap", "log_min_messages": "log", "log_statement": "all"}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self._server = subprocess.Popen([os.path.join(self._bin, "postgres"), "-D", self.data, *words], stdout=log,
                                            stderr=log,
                                            preexec_fn=die_with_parent, **self._options())
        wait_until(self._is_up, "PostgreSQL does not start", START_S)

    def _is_up(self):
        assert self._server.poll() is None, self.log()
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def database(self):
        """The URL of a new one."""
        name = f"store_{next(self._databases)}"
        self.do(f"CREATE DATABASE {name}")
        return self.url(name)

    def do(self, sql, url=None):
        with psycopg.connect(url or self.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else None

    def log(self):
        with open(os.path.join(self.folder, "log"), errors="replace") as file:
            return file.read()[-5000:]

    def url(self, database, user="owner", password="sesame"):
        return f"postgresql://{user}:{password}@/{database}?host={self.folder}"

    def stop(self, number=2):
        """SIGINT: those who are connected are cut off."""
        self._server.send_signal(number)
        self._server.wait(START_S)

    def close(self):
        self.stop(3)
        shutil.rmtree(self.folder, ignore_errors=True)
