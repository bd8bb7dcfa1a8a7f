"""A throw-away OpenStack Swift that speaks S3 on loopback: a real object store, which checks signatures.

    python swift_server.py FOLDER SECRET PORT PORT PORT PORT

Its four servers keep everything under FOLDER, which must allow extended attributes. When all answer, one line of JSON
says where; when standard input ends, as after the death of its parent, they are stopped. A FOLDER that has been used
is served again, on the same ports.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ACCESS = "ravel:admin"
STORES = ("account", "container", "object")
SERVERS = (*STORES, "proxy")
PIPELINE = "catch_errors gatekeeper healthcheck cache listing_formats s3api tempauth copy slo dlo symlink proxy-server"
PLAIN = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "copy", "dlo", "symlink")
CLUSTER = """
[swift-hash]
swift_hash_path_prefix = ravel
swift_hash_path_suffix = tests
[storage-policy:0]
name = gold
default = yes
[swift-constraints]
max_header_size = 16384
"""
PROXY = """
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_ravel_admin = {secret} .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
max_upload_part_num = 10000
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
[filter:cache]
paste.filter_factory = swift_server:local_cache
"""


class SwiftServer:
    """A running Swift: `kill` and `start` are a crash and the start after it, with the same objects and ports.

    Raises:
        RuntimeError: it does not start here.
    """

    def __init__(self, ports, secret):
        memory = Path("/dev/shm")  # noqa: S108 - a folder of our own in it; Swift flushes every file it writes
        parent = memory if os.access(memory, os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix="ravel-swift-", dir=parent))
        self._ports, self.secret = [str(port) for port in ports], secret
        self.start()

    def start(self):
        launcher = [sys.executable, __file__, str(self._folder), self.secret, *self._ports]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self._process = subprocess.Popen(launcher, start_new_session=True, **pipes)
        line = self._process.stdout.readline()
        if not line:
            error = self._process.communicate()[1].decode()[-500:]  # closes the pipes
            raise RuntimeError(f"OpenStack Swift does not start here: {error}")
        self.settings = json.loads(line) | {"secret": self.secret}

    def kill(self):
        """Kill the launcher and the four servers, each of which has a process group of its own."""
        pid = self._process.pid
        servers = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        self._process.kill()
        for server in servers:
            os.kill(server, signal.SIGKILL)
        self._process.communicate()
        while any(listens(int(port)) for port in self._ports):
            time.sleep(0.05)

    def remove(self):
        """Stop the servers, and remove what they keep."""
        self._process.communicate(timeout=20)
        shutil.rmtree(self._folder, ignore_errors=True)


class LocalCache:
    """Replacement of memcached for a proxy that is one process; entries live as long as it."""

    def __init__(self):
        self._entries = {}

    def get(self, key, raise_on_error=False):  # noqa: ARG002, FBT002 - Swift's interface, as all below
        value, end = self._entries.get(key, (None, 0))
        return value if not end or time.time() < end else None

    def set(self, key, value, serialize=True, time=0, **_):  # noqa: ARG002, FBT002
        self._entries[key] = value, _now() + time if time else 0

    def incr(self, key, delta=1, time=0):
        value = max((self.get(key) or 0) + delta, 0)
        self.set(key, value, time=time)
        return value

    def delete(self, key, server_key=None):  # noqa: ARG002
        self._entries.pop(key, None)


def _now():
    return time.time()


def local_cache(_global, **_):
    """The paste filter."""
    cache = LocalCache()

    def wrap(app):
        return lambda env, start: app({**env, "swift.cache": cache}, start)

    return wrap


def write_ring(root, name, port):
    from swift.common.ring import RingBuilder

    ring = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    place = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
    ring.add_dev({"region": 1, "zone": 1, "device": "d1", "weight": 100} | place)
    ring.rebalance()
    ring.get_ring().save(str(root / f"{name}.ring.gz"))


def write_configuration(root, ports, secret):
    def section(port):
        user = pwd.getpwuid(os.geteuid()).pw_name
        return (
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nuser = {user}\nworkers = 0\nlog_level = WARNING\n"
            f"swift_dir = {root}\ndevices = {root}/dev\nmount_check = false\nrecon_cache_path = {root}/run\n"
        )

    (root / "dev" / "d1").mkdir(parents=True)
    (root / "run").mkdir()
    (root / "swift.conf").write_text(CLUSTER)
    for name in STORES:
        write_ring(root, name, ports[name])
        app = f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
        (root / f"{name}.conf").write_text(section(ports[name]) + app)
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in PLAIN)
    pipeline = f"[pipeline:main]\npipeline = {PIPELINE}\n"
    (root / "proxy.conf").write_text(section(ports["proxy"]) + pipeline + PROXY.format(secret=secret) + filters)


def start(root, name, log):
    here = str(Path(__file__).parent)
    environment = os.environ | {"SWIFT_TEST_CONFIG_FILE": os.devnull, "PYTHONWARNINGS": "ignore", "PYTHONPATH": here}
    program = Path(sys.executable).with_name(f"swift-{name}-server")
    command = [sys.executable, str(program), str(root / f"{name}.conf")]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def listens(port):
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def answers(port):
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=1) as answer,
    ):
        return answer.read() == b"OK"
    return False


def main():
    root, secret = Path(sys.argv[1]), sys.argv[2]
    ports = dict(zip(SERVERS, map(int, sys.argv[3:]), strict=True))
    if not (root / "swift.conf").exists():
        write_configuration(root, ports, secret)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    with (root / "log").open("w") as log:
        servers = [start(root, name, log) for name in ports]
        try:
            while not answers(ports["proxy"]):
                if ended.wait(0.05) or any(server.poll() is not None for server in servers):
                    sys.exit(f"Swift did not start:\n{(root / 'log').read_text()}")
            print(json.dumps({"endpoint": f"http://127.0.0.1:{ports['proxy']}", "access": ACCESS}), flush=True)  # noqa: T201
            ended.wait()
        finally:
            for server in servers:
                server.kill()
            for server in servers:
                server.wait()


if __name__ == "__main__":
    main()
