"""`ravel doctor`: each planted fault is seen, said in one line with its fix, and hangs nothing."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.doctor import cluster, environment, folders, gpus, machine, packages, probes, spec, token, tracking
from orchestrator.doctor.examination import Examination, examine
from orchestrator.doctor.finding import SPEC, Diagnosis, Finding, Group, fail, ok
from orchestrator.doctor.output import as_json, lines
from orchestrator.execution.cluster.node_facts import NodeFacts

RAVEL = str(Path(sys.executable).with_name("ravel"))
ASSETS = Path(__file__).parent / "assets"


def ravel(*words, cwd, as_user=None, **environ):
    changed = {name: value for name, value in {**os.environ, **environ}.items() if value is not None}
    return subprocess.run(
        [RAVEL, "doctor", *words],
        cwd=cwd,
        env=changed,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        **(as_user or {}),
    )


def statuses(findings):
    return {finding.name: finding.status for finding in findings}


def named(findings, name):
    return next(finding for finding in findings if finding.name == name)


# Findings


@pytest.mark.parametrize("status", ["warn", "fail"])
def test_what_is_broken_must_come_with_a_fix(status):
    with pytest.raises(ValueError, match="must have a fix"):
        Finding("disk", status, "full")


def test_a_finding_is_one_line_without_passwords():
    finding = fail("store", "http://ada:secret@host\nrefused", "ask\tada")
    assert str(finding) == "FAIL store: http://***@host\\nrefused; ask\\tada"


@pytest.mark.parametrize(
    ("groups", "code"),
    [
        ({"Storage": "ok", SPEC: "ok"}, 0),
        ({"Storage": "warn"}, 0),
        ({"Storage": "fail", SPEC: "fail"}, 3),
        ({"Storage": "ok", SPEC: "fail"}, 2),
    ],
)
def test_the_exit_code_is_that_of_every_command(groups, code):
    seen = [Group(title, (Finding("a", status, "text", "mend it"),)) for title, status in groups.items()]
    assert Diagnosis(tuple(seen)).exit_code == code


def test_an_error_of_a_check_is_its_finding_and_the_next_one_runs():
    def broken():
        yield ok("first", "works")
        raise RuntimeError("http://ada:secret@host is odd")

    (group,) = examine([Examination("Machine", [broken, lambda: [ok("last", "works")]])]).groups
    assert [(one.name, one.status) for one in group.findings] == [("first", "ok"), ("broken", "fail"), ("last", "ok")]
    assert "secret" not in group.findings[1].text


def test_a_check_that_never_returns_is_given_up_and_keeps_what_it_has_seen():
    never = threading.Event()

    def silent():
        yield ok("first", "works")
        never.wait()

    diagnosis = examine(
        [Examination("Server", [silent], limit_s=0.2, fix="start it"), Examination("Disk", [lambda: [ok("a", "b")]])]
    )
    assert diagnosis.is_cut_short
    assert [str(one) for one in diagnosis.groups[0].findings] == [
        "ok first: works",
        "FAIL time: no answer within 0.2 s; start it",
    ]
    assert diagnosis.groups[1].findings == (ok("a", "b"),)
    never.set()


# Planted faults of a machine, and what is printed of them


def broken_machine(root):
    """Findings of a small container, whose folders are made below a root."""
    (root / "proc/self").mkdir(parents=True)
    (root / "sys/fs/cgroup/job").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal:       65536000 kB\nMemAvailable:   32768000 kB\n")
    (root / "proc/self/cgroup").write_text("0::/job\n")
    (root / "sys/fs/cgroup/job/cpu.max").write_text("200000 100000\n")
    (root / "sys/fs/cgroup/job/memory.max").write_text("1500000000\n")
    (root / "sys/fs/cgroup/job/memory.current").write_text("500000000\n")
    yield machine.core_finding(64, 64, environ={}, root=root)
    yield machine.memory_finding(root)
    yield machine.open_files_finding(256, 1024)
    yield gpus.build_finding("", "12.4")
    yield gpus.build_finding("13.0", "12.4")


def broken_packages():
    wanted = packages.requirements(
        ["torch<3,>=2.13; extra == 'train'", 'boto3<2,>=1.40 ; extra == "s3"', "wandb<1; extra == 'wandb'"]
    )
    yield packages.python_finding((3, 10, 4), executable="/usr/bin/python3")
    yield from packages.extra_findings(wanted, {"torch": "2.1.0"}.get)


def broken_servers():
    yield tracking.version_finding("2.9.2", "3.17.0")
    yield tracking.version_finding("3.2.0", "3.17.0")
    yield tracking.latency_finding(3.0)
    yield folders.clock_finding("its clock", -1200.0)


def broken_nodes():
    here = {"python": "3.11.7", "executable": "py", "versions": {"ravel-sweeps": "0.2.0"}, "imports": {}, "source": "a"}
    report = {**here, "python": "3.12.1", "versions": {"ravel-sweeps": "0.1.0"}, "cores": 4, "gpus": ["A100, 580.1"]}
    report |= {"sees": "No such file or directory", "free": None}
    node = NodeFacts("b (10.0.0.6)", report, {"CPU": 64.0, "GPU": 1.0}, (1000.0, 1060.0, 1061.0))
    yield cluster.port_finding("dashboard", None)
    yield from cluster.node_findings(node, here, storage="/mnt/results")


def test_planted_faults_are_printed_as_the_golden_file_says(tmp_path):
    groups = {
        "Python and packages": broken_packages(),
        "This machine": broken_machine(tmp_path),
        "Environment": environment.environment_findings(
            {
                "AWS_SECRET_ACCESS_KEY": "secret",
                "HTTP_PROXY": "http://ada:secret@proxy:3128",
                "MLFLOW_TRACKING_INSECURE_TLS": "true",
                "RAY_AUTH_MODE": "disabled",
                "RAY_AUTH_TOKEN": "secret",
                "CUDA_VISIBLE_DEVICES": "",
                "http_proxy": "http://other:3128",
                "EDITOR": "vi",
            }
        ),
        "MLflow": broken_servers(),
        "Ray": broken_nodes(),
    }
    diagnosis = Diagnosis(tuple(Group(title, tuple(findings)) for title, findings in groups.items()))
    printed = "\n".join([*lines(diagnosis), ""])
    assert printed == (ASSETS / "doctor.txt").read_text()
    assert "secret" not in printed
    assert as_json(diagnosis)["exit_code"] == 3


# This machine


def test_the_extras_have_a_purpose_each_and_no_purpose_is_left_over():
    extras = set(metadata.metadata(packages.DISTRIBUTION).get_all("Provides-Extra")) - {"all"}
    assert set(packages.PURPOSES) == extras
    assert extras >= packages.NOT_IN_ALL
    assert set(main.EXTRAS.values()) <= extras


def test_the_metadata_of_this_installation_name_a_library_of_every_extra():
    known = packages.requirements(metadata.requires(packages.DISTRIBUTION))
    assert {requirement.extra for requirement in known} == set(packages.PURPOSES)
    assert ("torch", "train") in {(requirement.name, requirement.extra) for requirement in known}


def test_the_memory_of_a_machine_without_a_limit_is_its_own(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    assert str(machine.memory_finding(tmp_path)) == "ok memory: 8.2 GB available of 16 GB"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB, which is full."""
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("mounting needs root")
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=60", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not permit mounts")
    with suppress(OSError), (place / "filler").open("wb") as filler:
        filler.write(bytes(1 << 21))
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_seen_by_its_room_and_by_what_cannot_be_written(small_disk):
    assert machine.disk_finding("results", small_disk / "results").status == "fail"
    findings = list(folders.folder_findings(str(small_disk / "results")))
    full = named(findings, "write")
    assert (full.status, "No space left on device" in full.text, "free some space" in full.fix) == ("fail", True, True)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_disk_that_takes_no_more_files_is_seen(tmp_path, monkeypatch):
    class Stat:
        f_files, f_favail = 100_000, 12

    monkeypatch.setattr(machine.os, "statvfs", lambda _: Stat)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, 10**12))
    assert "12 more files fit" in str(machine.disk_finding("cache", tmp_path))


NVIDIA = """#!/bin/sh
case "$1" in
--query*) {query} ;;
*) echo "| NVIDIA-SMI 550.54  Driver Version: 550.54  CUDA Version: 12.4 |" ;;
esac
"""


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("echo 'NVIDIA H200, 143771 MiB, 550.54'", {"gpu 0": "ok", "torch": "fail"}),
        ("echo 'driver/library version mismatch'; exit 18", {"gpu": "fail"}),
        ("sleep 60", {"gpu": "fail"}),
    ],
)
def test_gpus_are_those_of_nvidia_smi_whatever_it_does(query, seen, tmp_path, monkeypatch):
    command = tmp_path / "nvidia-smi"
    command.write_text(NVIDIA.format(query=query))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(gpus, "ANSWER_S", 1.0)
    monkeypatch.setattr(gpus, "torch_cuda", lambda: "")
    assert statuses(gpus.gpu_findings()) == seen


def test_the_cuda_of_torch_is_read_without_importing_it():
    torch = pytest.importorskip("torch")
    assert gpus.torch_cuda() == (torch.version.cuda or "")


# Storage in a folder


def test_a_folder_that_is_to_come_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "SLOW_FLUSH_S", 60.0)  # the disk of a busy machine
    findings = list(folders.folder_findings(str(tmp_path / "a" / "results")))
    assert set(statuses(findings).values()) == {"ok"}
    assert {"write", "rename", "hard links", "exclusive creation", "file locks", "delete"} <= statuses(findings).keys()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_with_its_fix(tmp_path, as_user):
    (tmp_path / "results").mkdir()
    (tmp_path / "results").chmod(0o500)
    done = ravel("--json", cwd=tmp_path, as_user=as_user, MLFLOW_TRACKING_URI=None)
    (storage,) = (group for group in json.loads(done.stdout)["groups"] if group["title"] == "Storage")
    assert done.returncode == 3
    assert [(one["name"], one["status"]) for one in storage["findings"]] == [("write", "fail")]
    assert "Permission denied" in storage["findings"][0]["text"]
    assert "choose another folder" in storage["findings"][0]["fix"]


def test_a_file_system_without_links_is_well_as_locks_do_without(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    findings = list(folders.folder_findings(str(tmp_path)))
    assert set(statuses(findings).values()) == {"ok"}
    assert "not on this file system" in named(findings, "hard links").text


def test_a_file_system_that_creates_a_file_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "create_exclusively", lambda *_: True)
    assert named(list(folders.folder_findings(str(tmp_path))), "exclusive creation").status == "fail"


def test_a_variable_in_a_storage_is_refused_as_a_launch_does():
    (finding,) = folders.folder_findings("$SCRATCH/results")
    assert finding.status == "fail"
    assert "$SCRATCH" in str(finding)


# Token and environment


@pytest.fixture
def open_folder():
    """A folder that every user can enter, as those of pytest cannot be."""
    with tempfile.TemporaryDirectory(prefix="ravel-open-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(("mode", "status"), [(0o644, "fail"), (0o640, "fail"), (0o600, "ok")])
def test_a_token_that_others_can_read_is_refused(mode, status, open_folder, monkeypatch):
    file = open_folder / "auth_token"
    file.write_text("secret-token")
    file.chmod(mode)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    findings = list(token.token_findings("10.0.0.5:6379"))
    assert named(findings, "token file").status == status
    assert named(findings, "token").status == "ok"
    assert "secret-token" not in str(findings)


def test_a_token_below_a_home_that_others_cannot_enter_is_well(open_folder):
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    (home / "auth_token").write_text("secret-token")
    (home / "auth_token").chmod(0o644)
    assert [one.status for one in token.file_findings(home / "auth_token")] == ["ok"]


def test_a_missing_token_matters_on_a_cluster_alone(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "absent"))
    assert statuses(token.token_findings("local")) == {"token": "skipped"}
    assert statuses(token.token_findings("10.0.0.5:6379")) == {"token": "warn"}


SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "DATABRICKS_TOKEN",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
    "RAY_AUTH_TOKEN",
)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_secret_of_the_environment_is_printed(options, tmp_path):
    addresses = {"HTTPS_PROXY": "http://ada:planted@proxy:1", "MLFLOW_BACKEND_STORE_URI": "postgresql://a:planted@b/c"}
    done = ravel(*options, cwd=tmp_path, **dict.fromkeys(SECRETS, "planted"), **addresses)
    assert all(name in done.stdout for name in (*SECRETS, *addresses))
    assert "planted" not in done.stdout + done.stderr


# The command


def test_the_plain_command_imports_neither_torch_nor_ray_nor_mlflow(tmp_path):
    code = (
        "import sys\nfrom orchestrator.doctor.checkup import Subject, check_up\nd = check_up(Subject())\n"
        "print(len(d.groups), sorted({'torch', 'ray', 'mlflow', 'boto3', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "6 []\n"


HANGING = """
import sys, time
from orchestrator.cli import main
from orchestrator.doctor import checkup, folders
checkup.DISK_S = 1.0
folders.CHECKS = {"write": lambda folder: time.sleep(1000)}
sys.argv = ["ravel", "doctor"]
main.main()
"""


def test_a_disk_that_hangs_does_not_hang_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HANGING], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 3, done.stderr
    assert "FAIL  time: no answer within 1 s; its disk hangs" in done.stdout
    assert " failed" in done.stdout.splitlines()[-1]


def test_a_check_leaves_nothing(tmp_path):
    done = ravel(cwd=tmp_path, MLFLOW_TRACKING_URI=None)
    assert "Storage\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_mistakes_of_a_spec_exit_with_2(tmp_path):
    (tmp_path / "sweep.yaml").write_text("name: a\nsearch: {num_trails: 3}\n")
    done = ravel("sweep.yaml", cwd=tmp_path, HOME=str(tmp_path), MLFLOW_TRACKING_URI=None)
    assert done.returncode == 2
    assert "FAIL  search.num_trails: unknown field; did you mean 'num_trials'?" in done.stdout


OWN = "name: a\ntrial: {epochs: 1, data.name: digits, model.name: 'absent_nets:Net'}\n"
SLOW = "name: a\nsearch: {sampler: 'slow_sampler:Sampler'}\n"


def test_a_module_that_does_not_import_is_named(tmp_path, monkeypatch):
    (tmp_path / "sweep.yaml").write_text(OWN)
    (tmp_path / "absent_nets.py").write_text("import einopsy\n")
    (finding,) = spec_findings(tmp_path, monkeypatch)
    assert (finding.status, "einopsy" in finding.text) == ("fail", True)


def test_data_that_is_missing_is_named(tmp_path, monkeypatch):
    (tmp_path / "sweep.yaml").write_text("name: a\ntrial: {epochs: 1, data.name: mnist, data.root: nowhere}\n")
    findings = spec_findings(tmp_path, monkeypatch)
    data = named(findings, "trials")
    assert (data.status, "'mnist' is not available" in data.text) == ("fail", True)
    assert "data.download: true" in data.fix
    assert [one.status for one in findings].count("fail") == 1


def test_a_spec_that_this_machine_can_run_is_well(tmp_path, monkeypatch):
    (tmp_path / "sweep.yaml").write_text("name: a\ntrial: {epochs: 1, data.name: digits}\n")
    findings = spec_findings(tmp_path, monkeypatch)
    assert statuses(findings) == dict.fromkeys(["own modules", "trials", "resources", "checkpoints"], "ok")
    assert not (tmp_path / "results").exists()


def spec_findings(folder, monkeypatch):
    """The findings on the spec of a folder, without a process of their own."""
    monkeypatch.chdir(folder)
    return list(spec.probe("sweep.yaml", [], "local"))


def test_a_module_that_never_returns_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    (tmp_path / "sweep.yaml").write_text(SLOW)
    (tmp_path / "slow_sampler.py").write_text("import subprocess\nsubprocess.run(['sleep', '4711.25'])\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(probes, "END_S", 1.0)
    arguments = {"spec": "sweep.yaml", "overrides": [], "address": "local"}
    started = threading.Thread(target=wait_for_process, args=("4711.25",))
    started.start()
    findings = list(probes.findings_of("spec", arguments, limit_s=25.0, fix="see it"))
    started.join()
    assert statuses(findings)["time"] == "fail"
    assert not processes("4711.25")


def wait_for_process(word):
    deadline = time.monotonic() + 25
    while not processes(word) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes(word)


def processes(word):
    """Return the commands that run with a word."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        commands += [words] if word.encode() in words else []
    return commands


# MLflow


@contextmanager
def server(answers, date=None):
    """Serve the answers, (status, body) by path; all others are 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers.get(self.path.partition("?")[0], (404, ""))
            self.send_response_only(status)
            self.send_header("Date", date or formatdate(usegmt=True))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


SEARCH = "/api/2.0/mlflow/experiments/search"


def store(uri, home):
    return list(tracking.tracking_findings(uri, {"HOME": str(home)}))


def test_an_old_server_with_a_wrong_clock_is_said_to_be_both(tmp_path):
    answers = {SEARCH: (200, '{"experiments": []}'), "/version": (200, "2.9.2")}
    with server(answers, formatdate(time.time() - 1200, usegmt=True)) as uri:
        findings = store(uri, tmp_path)
    assert statuses(findings) == {
        "store": "ok",
        "version": "fail",
        "latency": "ok",
        "its clock": "warn",
        "login": "ok",
    }
    assert "behind this machine's" in named(findings, "its clock").text


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({SEARCH: (401, "")}, "requires a login"),
        ({SEARCH: (403, "Invalid Host header")}, "does not accept the host name"),
        ({SEARCH: (200, "<html>")}, "answers, but not as MLflow does"),
    ],
)
def test_what_a_server_refuses_is_one_failure(answers, problem, tmp_path):
    with server(answers) as uri:
        (finding,) = store(uri, tmp_path)
    assert finding.status == "fail"
    assert problem in finding.text


def test_a_closed_port_is_one_failure(free_port, tmp_path):
    (finding,) = store(f"http://127.0.0.1:{free_port}", tmp_path)
    assert finding.status == "fail"
    assert "does not answer" in finding.text


def test_a_store_whose_file_is_no_database_fails(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database" * 100)
    (finding,) = store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    assert finding.status == "fail"


def test_a_closed_dashboard_port_is_worth_mending(free_port):
    finding = cluster.port_finding("dashboard", f"127.0.0.1:{free_port}")
    assert (finding.status, "cannot be reached" in finding.text) == ("warn", True)


def test_a_cluster_that_is_away_is_one_failure(free_port, tmp_path):
    pytest.importorskip("ray")
    done = ravel("--address", f"127.0.0.1:{free_port}", "--json", cwd=tmp_path, MLFLOW_TRACKING_URI=None)
    groups = {group["title"]: group["findings"] for group in json.loads(done.stdout)["groups"]}
    (finding,) = (one for one in groups["Ray"] if one["name"] == "ray")
    assert (done.returncode, finding["status"]) == (3, "fail")
    assert "nothing listens on that port" in finding["text"]
    assert "start Ray there" in finding["fix"]


@pytest.mark.ray
def test_a_private_ray_is_started_and_leaves_nothing(tmp_path):
    pytest.importorskip("ray")
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # a short path, of which other tests know nothing
        done = ravel("--start-ray", cwd=tmp_path, RAY_ADDRESS=None, TMPDIR=folder)
        assert "a private one starts in" in done.stdout
        assert list(Path(folder).glob("ravel-ray-*")) == []


def test_json_has_all_groups_and_their_counts(tmp_path):
    done = ravel("--json", cwd=tmp_path, MLFLOW_TRACKING_URI=None)
    document = json.loads(done.stdout)
    titles = [group["title"] for group in document["groups"]]
    assert titles == ["Python and packages", "This machine", "Environment", "Storage", "MLflow", "Ray"]
    counted = [one["status"] for group in document["groups"] for one in group["findings"]]
    assert document["counts"] == {status: counted.count(status) for status in ("fail", "warn", "ok", "skipped")}
    assert document["format"] == 1
    assert done.returncode == document["exit_code"]


def test_worker_processes_are_tried_without_ray(tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('the doctor imports Ray')\n")
    paths = (str(tmp_path), os.environ.get("PYTHONPATH"))
    done = ravel("--address", "processes", "--json", cwd=tmp_path, PYTHONPATH=os.pathsep.join(filter(None, paths)))
    groups = {group["title"]: group["findings"] for group in json.loads(done.stdout)["groups"]}
    assert "Ray" not in groups
    (finding,) = groups["Worker processes"]
    assert finding["status"] in {"ok", "warn"}
    assert finding["text"].startswith("workers can be started after ")
