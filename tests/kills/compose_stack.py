"""The services of `infra/compose.yaml` as processes: one machine of namespaces for each, with its name, environment,
command and health check, all read from that file.

Three things are other than in containers. PostgreSQL and the S3 server are those of this machine (Debian's, and
OpenStack Swift, whose keys have another form). Ray's object store is small. The laptop reaches the dashboard by the
name of the head, as nothing forwards a port of the host.
"""

import os
import re
import runpy
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
MACHINES = runpy.run_path(str(ROOT / "infra" / "netns" / "machines.py"))
BIN = Path(sys.executable).parent
SWIFT = ROOT / "tests" / "orchestrator" / "servers" / "swift_server.py"
ACCESS_KEY = "ravel:admin"  # Swift's keys are ACCOUNT:USER
PATIENT_S = 300.0
VARIABLE = re.compile(r"\$(\$|\{(?P<name>\w+)(?::(?P<how>[?-])(?P<word>[^}]*))?\})")
INITIALISE = """
set -eu
umask 077
printf %s "$POSTGRES_PASSWORD" > /mnt/home/password
install -d -o postgres -g postgres -m 700 /mnt/home/data
chown postgres: /mnt/home/password
as() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
cd /mnt
as {bin}/initdb -D /mnt/home/data -U "$POSTGRES_USER" --auth=scram-sha-256 --pwfile=/mnt/home/password --no-sync
echo 'host all all all scram-sha-256' >> /mnt/home/data/pg_hba.conf
echo "create database $POSTGRES_DB" | as {bin}/postgres --single -D /mnt/home/data postgres
exec setpriv --reuid=postgres --regid=postgres --clear-groups {bin}/postgres -D /mnt/home/data -h '*' -k /mnt/home/data
"""


def interpolated(text, settings):
    """Return a text of compose.yaml with its variables, as Compose reads them.

    >>> interpolated("a ${B:-2} $$C ${D:?is missing}", {"D": "4"})
    'a 2 $C 4'
    """

    def value(match):
        if match[1] == "$":
            return "$"
        known = settings.get(match["name"], "")
        if not known and match["how"] == "?":
            raise KeyError(f"{match['name']}: {match['word']}")
        return known or (match["word"] if match["how"] == "-" else "")

    return VARIABLE.sub(value, text)


def _each(node, settings):
    match node:
        case dict():
            return {key: _each(value, settings) for key, value in node.items()}
        case list():
            return [_each(value, settings) for value in node]
        case str():
            return interpolated(node, settings)
        case _:
            return node


class Stack:
    """Services of a folder that `ravel up compose` wrote; use it with `with`. `laptop` runs commands from outside."""

    def __init__(self, cluster, folder):
        environment = (cluster / ".env").read_text()
        environment = environment.replace("S3_ACCESS_KEY=ravel\n", f"S3_ACCESS_KEY={ACCESS_KEY}\n")
        lines = [line.partition("=") for line in environment.splitlines() if not line.startswith("#")]
        self.settings = {name: value for name, _, value in lines}
        services = yaml.safe_load((cluster / "compose.yaml").read_text())["services"]
        profiles = set(self.settings["COMPOSE_PROFILES"].split(","))
        self.services = {
            name: _each(service, self.settings)
            for name, service in services.items()
            if not service.get("profiles") or profiles & set(service["profiles"])
        }
        self.nodes = int(self.services["ray-worker"]["deploy"]["replicas"])
        self._folder = folder
        self._swift = Path(tempfile.mkdtemp(prefix="ravel-swift-", dir="/dev/shm"))
        self._commands = {}

    def __enter__(self):
        workers = [f"ray-worker-{number}" for number in range(1, self.nodes + 1)]
        names = [name for name in self.services if name != "ray-worker"] + workers
        self.network = MACHINES["Network"](self._folder, *names, "laptop")
        self.network.__enter__()
        (self._folder / "shared" / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # /etc/hosts has the names
        try:
            self._machines = {name: self._machine(name) for name in [*names, "laptop"]}
            for name in ("postgres", "s3", "buckets", "mlflow", "ray-head"):
                self._start(name, self.services[name])
                self._wait(name, self.services[name])
            for name in workers:
                self._start(name, self.services["ray-worker"])
            for name in workers:
                self._wait(name, self.services["ray-worker"])
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exception):
        self.network.__exit__(*exception)
        shutil.rmtree(self._swift, ignore_errors=True)

    def laptop(self, line, *, code=0, **environment):
        """Run a command on the laptop, which has the variables that are given and no other; return its output."""
        command = self._run("laptop", shlex.split(line), environment)
        assert command.wait(PATIENT_S) == code, command.text
        return command.text

    def log(self, name):
        """Return what a service has printed."""
        return self._commands[name].text

    def _machine(self, name):
        machine = self.network.machine(name)
        mounted = self._folder / f"{name}-mount.txt"
        words = ["mount", "--bind", "/mnt/shared/resolv.conf", "/etc/resolv.conf"]
        assert machine.start(*words, output=mounted, environment=dict(os.environ)).wait(PATIENT_S) == 0, (
            mounted.read_text()
        )
        return machine

    def _start(self, name, service):
        environment = {key: str(value) for key, value in service.get("environment", {}).items()}
        if name == "postgres":
            words = ["sh", "-c", INITIALISE.replace("{bin}", str(Path(shutil.which("initdb")).resolve().parent))]
        elif name == "s3":
            ports = ["7071", "7072", "7073", environment["VGW_PORT"].lstrip(":")]
            server = [sys.executable, str(SWIFT), str(self._swift), environment["ROOT_SECRET_KEY"], *ports]
            words = ["sh", "-c", f"sleep infinity | {shlex.join(server)}"]
            environment = {"SWIFT_HOST": "0.0.0.0"}  # noqa: S104  the network of its machine
        else:
            words = service["command"]
        if words[:2] == ["ray", "start"]:
            words = [*words, "--object-store-memory=80000000"]
            environment["RAY_worker_niceness"] = "0"
        self._commands[name] = self._run(name, words, environment)

    def _wait(self, name, service):
        command = self._commands[name]
        if "healthcheck" not in service:
            assert command.wait(PATIENT_S) == 0, command.text
            return
        _, *words = service["healthcheck"]["test"]
        if name == "s3":
            words = [word.replace("/health", "/healthcheck") for word in words]
        deadline = time.monotonic() + PATIENT_S
        while (checked := self._run(name, words, {}, kind="health")).wait(PATIENT_S) != 0:
            assert command.code is None, f"{name} ended\n{command.text}"
            assert time.monotonic() < deadline, f"{name} is not healthy\n{checked.text}\n{command.text}"
            time.sleep(0.5)

    def _run(self, name, words, environment, *, kind="output"):
        kept = {key: os.environ[key] for key in ("PYTHONPATH", "LANG") if key in os.environ}
        plain = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": "/mnt/home", **kept}
        output = self._folder / f"{name}-{kind}.txt"
        return self._machines[name].start(*words, output=output, environment=plain | environment)
