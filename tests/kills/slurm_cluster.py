"""A throw-away Slurm of this machine: munged, slurmctld and a slurmd for each node, as root, with Debian's packages."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "srun")
START_S = 60.0
# How long credentials of a job last, and so how long a requeued job waits before it starts: by default two minutes.
REQUEUE_S = 15
CONF = """
ClusterName=ravel
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}/munge.socket,cred_expire={requeue_s}
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=1,sched_interval=2
ReturnToService=2
KillWait=10
JobRequeue=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=10
"""


def missing():
    """Return why Slurm cannot be started here, or None."""
    if os.geteuid() != 0:
        return "slurmd starts jobs as root"
    absent = [name for name in TOOLS if _tool(name) is None]
    return f"Debian's slurmctld, slurmd, slurm-client and munge are needed: {', '.join(absent)}" if absent else None


def _tool(name):
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class SlurmCluster:
    """Nodes `n1`, `n2`, ... of this machine; `environment` is that of its commands."""

    def __init__(self, folder, ports, *, cpus):
        self.folder = Path(folder)
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        (self.folder / "log").mkdir()
        host = socket.gethostname().partition(".")[0]
        controller, *others = ports
        nodes = "\n".join(
            f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} State=UNKNOWN"
            for number, port in enumerate(others, 1)
        )
        self._processes = {}
        try:
            self._munge()
            self.conf = self.folder / "slurm.conf"
            places = {"folder": self.folder, "munge": self._home, "requeue_s": REQUEUE_S}
            self.conf.write_text(CONF.format(host=host, controller=controller, nodes=nodes, **places))
            self.environment = {**os.environ, "SLURM_CONF": str(self.conf)}
            self._start("slurmctld", "-D", "-f", str(self.conf))
            for number in range(1, len(others) + 1):
                self._start("slurmd", "-D", "-f", str(self.conf), "-N", f"n{number}", name=f"slurmd-n{number}")
            self._wait(lambda: self.run("sinfo", "-h", "-o", "%T").split() == ["idle"], "nodes must be idle")
        except BaseException:
            self.remove()
            raise

    def _munge(self):
        user = pwd.getpwnam("munge")
        self._home = home = Path(tempfile.mkdtemp(prefix="ravel-munge-"))  # its user may not enter pytest's folders
        home.chmod(0o755)
        key = home / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        for path in (home, key):
            os.chown(path, user.pw_uid, user.pw_gid)
        files = [f"--{name}-file={home / name}" for name in ("log", "pid", "seed")]
        command = ["--foreground", "--force", f"--socket={home}/munge.socket", f"--key-file={key}", *files]
        self._start("munged", *command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/")
        self._wait((home / "munge.socket").exists, "munged must listen")

    def _start(self, tool, *arguments, name=None, **how):
        with (self.folder / "log" / f"{name or tool}.txt").open("wb") as log:
            self._processes[name or tool] = subprocess.Popen(
                [_tool(tool), *arguments], stdout=log, stderr=log, start_new_session=True, **how
            )

    def _wait(self, holds, claim):
        deadline = time.monotonic() + START_S
        while not holds():
            logs = "\n".join(path.read_text(errors="replace") for path in (self.folder / "log").iterdir())
            ended = [name for name, process in self._processes.items() if process.poll() is not None]
            assert not ended, f"{ended} ended\n{logs}"
            assert time.monotonic() < deadline, f"{claim}\n{logs}"
            time.sleep(0.2)

    def run(self, *command, **how):
        """Run a command of Slurm, and return its output."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, **how)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def state(self, job):
        """Return the fields of a job."""
        words = self.run("scontrol", "show", "job", str(job)).split()
        return dict(word.partition("=")[::2] for word in words if "=" in word)

    def remove(self):
        """End every job, then the daemons."""
        if "slurmctld" in self._processes and self._processes["slurmctld"].poll() is None:
            subprocess.run(["scancel", "--user=root"], env=self.environment, capture_output=True, check=False)
            deadline = time.monotonic() + START_S
            while self.run("squeue", "-h").strip() and time.monotonic() < deadline:
                time.sleep(0.5)
        for process in reversed(self._processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._home, ignore_errors=True)
