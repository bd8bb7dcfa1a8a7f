"""Which files of a user's own code go to a cluster, and what the checks of its nodes say."""

import importlib
import json
import subprocess
import sys
import sysconfig
from importlib.metadata import version

import pytest
from ray import cloudpickle

from orchestrator.errors import PreflightError
from orchestrator.execution import preflight
from orchestrator.execution.cluster.node_checks import REQUIRED, differences, node_problems, report_of
from orchestrator.execution.cluster.own_modules import code_changes, own_files, own_modules, size_problem
from orchestrator.execution.cluster.sent_code import CODE_SENT, INSIDE_JOB, runtime_environment
from orchestrator.planning.provenance import code_folder, collect
from orchestrator.spec.model import SweepSpec
from trainables.import_paths import find_in

SPEC = SweepSpec(name="mine", trial={"task": "aa_training:train"}, objective="loss min")
FILES = {
    "aa_training.py": "import aa_top\ndef train():\n    from aa_pack.deep import x\n",
    "aa_top.py": "import os, numpy, trainables.seeding\nfrom aa_space import inner\n",
    "aa_unused.py": "",
    "aa_space/inner.py": "from . import sibling\n",
    "aa_space/sibling.py": "import aa_training\n",
    "aa_space/unused.py": "",
    "aa_pack/__init__.py": "",
    "aa_pack/deep/__init__.py": "",
    "aa_pack/deep/x.py": "this is no Python",
    "aa_pack/labels.json": "{}",
    "aa_pack/data/__init__.py": "",
    "aa_pack/deep/data/images.bin": "x" * 100,
    "aa_pack/results/old.json": "{}",
    "aa_pack/.git/config": "secret",
    "aa_pack/.env": "secret",
    "aa_pack/env/pyvenv.cfg": "",
    "aa_pack/env/lib.py": "",
    "aa_pack/__pycache__/x.pyc": "",
    "results/sweep.json": "{}",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "path", list(sys.path))
    find_in(tmp_path)
    return tmp_path


def test_modules_that_a_spec_names_are_sent_with_all_that_they_import_from_the_folder(folder):
    files = own_files(own_modules(SPEC), folder)
    assert list(files) == [
        "aa_pack/__init__.py",
        "aa_pack/data/__init__.py",
        "aa_pack/deep/__init__.py",
        "aa_pack/deep/x.py",
        "aa_pack/labels.json",
        "aa_space/inner.py",
        "aa_space/sibling.py",
        "aa_top.py",
        "aa_training.py",
    ]
    assert all(path == folder / name for name, path in files.items())
    assert "aa_training" not in sys.modules, "nothing is imported"


def test_a_module_below_another_folder_of_the_path_is_sent_to_where_it_is_imported_from(tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "aa_below.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "src"), *sys.path])
    assert own_files(["aa_below", "numpy", "json", "sys", "__main__", "aa_absent"], tmp_path) == {
        "aa_below.py": tmp_path / "src" / "aa_below.py"
    }


def test_a_private_ray_and_a_sweep_of_our_own_code_are_sent_nothing(folder):
    assert preflight.files_to_send(SPEC, folder, address="local") == {}
    assert preflight.files_to_send(SweepSpec(name="ours"), folder, address="auto") == {}
    assert len(preflight.files_to_send(SPEC, folder, address="auto")) == 9
    with runtime_environment({}) as settings:
        assert settings == {}


def test_a_cluster_that_runs_the_driver_is_sent_the_sampler_and_the_scheduler_too(folder):
    deciders = {"search": {"sampler": "aa_top:propose"}, "scheduler": {"name": "aa_unused:Scheduler"}}
    spec = SweepSpec(name="mine", trial={"task": "aa_space.sibling:train"}, objective="loss min", **deciders)
    assert "aa_unused.py" not in preflight.files_to_send(spec, folder, address="10.0.0.5:6379"), "no worker imports it"
    assert {"aa_top.py", "aa_unused.py"} <= preflight.files_to_send(spec, folder, address="http://head:8265").keys()


def test_a_line_about_changed_code_names_what_uses_it(folder):
    deciders = {"search": {"sampler": "bb_sampler:propose"}, "scheduler": {"name": "bb_scheduler:Scheduler"}}
    spec = SweepSpec(name="mine", trial={"task": "bb_task:train"}, objective="loss min", **deciders)
    texts = {"bb_task": "import bb_both", "bb_sampler": "", "bb_scheduler": "import bb_both", "bb_both": ""}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    for name in texts:
        importlib.import_module(name)
    launched = collect(folder, spec=spec)
    assert code_changes(launched, spec, folder) == []
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(f"{text}\n")
    assert [line.partition(" changed since the launch; ")[::2] for line in code_changes(launched, spec, folder)] == [
        ("bb_both.py", "trials that continue and the scheduler use the new code"),
        ("bb_sampler.py", "the sampler uses the new code"),
        ("bb_scheduler.py", "the scheduler uses the new code"),
        ("bb_task.py", "trials that continue use the new code"),
    ]


def test_files_that_are_too_large_are_refused_and_the_largest_are_named(folder):
    (folder / "aa_pack" / "weights.bin").write_bytes(bytes(3_000_000))
    files = own_files(own_modules(SPEC), folder)
    assert size_problem(files, max_bytes=4_000_000) is None
    assert size_problem(files, max_bytes=2_000_000) == (
        "your own modules must have at most 2.0 MB to be sent to the cluster, got 3.0 MB; largest: aa_pack/weights.bin "
        "(3.0 MB); move data out of the package, or install it on every node"
    )
    (folder / "aa_pack" / "weights.bin").write_bytes(bytes(51_000_000))
    with pytest.raises(PreflightError, match=r"^--address auto: your own modules .* 50.0 MB .* got 51.0 MB"):
        preflight.files_to_send(SPEC, folder, address="auto")


def test_the_copy_that_is_sent_is_laid_out_as_it_is_imported_and_removed_afterwards(folder, monkeypatch):
    files = own_files(own_modules(SPEC), folder)
    with runtime_environment(files) as settings:
        sent = settings["runtime_env"]
        copy = type(folder)(sent["working_dir"])
        assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()) == sorted(files)
        assert sent["env_vars"] == {CODE_SENT: "1"}
    assert not copy.exists()
    monkeypatch.setenv(INSIDE_JOB, "{}")
    with runtime_environment(files) as settings:
        assert settings == {}, "the job has sent it"


def test_a_sweep_whose_launch_folder_is_not_on_this_machine_takes_the_code_of_the_folder_of_the_command(tmp_path):
    assert code_folder(str(tmp_path)) == tmp_path
    assert code_folder(str(tmp_path / "elsewhere")) == type(tmp_path).cwd()


def test_the_report_of_a_node_without_ravel_is_made_all_the_same(folder):
    """The function runs in a Python that finds the installed libraries, and neither Ravel nor the folder."""
    script = (
        "import sys; sys.path.append(sys.argv[1]); import json; from ray import cloudpickle; "
        "report = cloudpickle.loads(sys.stdin.buffer.read()); "
        "print(json.dumps(report(['aa_top', 'json'], json.loads(sys.argv[2]))))"
    )
    command = [sys.executable, "-I", "-S", "-c", script, sysconfig.get_path("purelib"), json.dumps(REQUIRED)]
    done = subprocess.run(command, input=cloudpickle.dumps(report_of()), capture_output=True, check=True, cwd=folder)
    there, here = json.loads(done.stdout), report_of()(["json"], REQUIRED)
    assert list(there["versions"]) == ["torch", "ray"]
    assert list(node_problems(there, here)) == [
        f"ravel-sweeps is not installed for {sys.executable}; install ravel-sweeps=={version('ravel-sweeps')} there",
        "importing aa_top fails (ModuleNotFoundError: No module named 'aa_top'); install what it imports on every node",
    ]


def test_another_python_or_ravel_is_a_problem_and_another_library_or_source_a_difference():
    here = report_of()([], REQUIRED)
    assert not list(node_problems(here, here))
    assert not list(differences(here, here))
    there = {**here, "python": "3.9.1", "source": "other", "versions": {**here["versions"], "torch": "2.9.0+cu128"}}
    assert [problem.partition(";")[0] for problem in node_problems(there, here)] == [
        f"Python must be {sys.version_info.major}.{sys.version_info.minor} as on the driver, got 3.9.1"
    ]
    assert list(differences(there, here)) == [
        f"torch is 2.9.0+cu128, the driver has {here['versions']['torch']}",
        "ravel-sweeps has other source files than the driver's, of the same version",
    ]
    build = {**here, "versions": {**here["versions"], "torch": here["versions"]["torch"].partition("+")[0] + "+cu130"}}
    assert not list(differences(build, here))
