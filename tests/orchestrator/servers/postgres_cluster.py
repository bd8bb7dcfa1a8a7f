"""A throw-away PostgreSQL cluster on loopback, with a password."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path


def process_group(group):
    """The living processes of a process group: their ids, and where ``/proc`` tells about them."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of = (path / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state != "Z":
            found[int(path.name)] = path
    return found


class PostgresCluster:
    """`uri` holds its password, `bare` does not; PostgreSQL refuses to run as root, so root lends it another user."""

    def __init__(self, port):
        self.password, self.port = secrets.token_hex(), port
        self._folder = Path(tempfile.mkdtemp(prefix="ravel-postgres-"))
        self._folder.chmod(0o711)
        self._data = self._folder / "data"
        self._data.mkdir(mode=0o700)
        file = self._folder / "password"
        file.write_text(self.password)
        self._as = {"cwd": "/"}
        if os.geteuid() == 0:
            user = next(each for name in ("postgres", "nobody") if (each := _user(name)))
            os.chown(self._data, user.pw_uid, user.pw_gid)
            os.chown(file, user.pw_uid, user.pw_gid)
            self._as |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        options = ["-U", "ravel", "--auth=scram-sha-256", f"--pwfile={file}", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(["initdb", "-D", str(self._data), *options], check=True, capture_output=True, **self._as)
        self._process = None
        self.start()

    @property
    def bare(self):
        return f"postgresql://ravel@127.0.0.1:{self.port}/postgres"

    @property
    def uri(self):
        return self.bare.replace("ravel@", f"ravel:{self.password}@")

    def start(self):
        import psycopg

        quick = ["-c", "fsync=off", "-c", "full_page_writes=off"]  # a crash of PostgreSQL alone loses nothing by these
        listening = ["-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._data)]
        with (self._folder / "log").open("a") as log:
            command = ["postgres", "-D", str(self._data), *listening, *quick]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as)
        for _ in range(100):
            try:
                psycopg.connect(self.uri, connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError((self._folder / "log").read_text())

    def stop(self, how=signal.SIGINT):
        """SIGINT breaks every connection; SIGQUIT is a crash, recovered from at the next start."""
        self._process.send_signal(how)
        self._process.wait(30)

    def kill(self):
        """Kill the server; its processes for connections end with it."""
        left = [int(pid) for pid in self._children()]
        self.stop(signal.SIGKILL)
        while any(Path(f"/proc/{pid}").exists() for pid in left):
            time.sleep(0.05)

    def _children(self):
        pid = self._process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def remove(self):
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _user(name):
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
