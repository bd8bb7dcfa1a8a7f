"""Cores are those of the allocation: affinity, cgroups and Slurm, whichever is least."""

import os

import pytest

from orchestrator.cli.run import _workers_here
from orchestrator.execution import cores, preflight, ray_cluster
from orchestrator.execution.cores import usable_cores
from orchestrator.planning.loading import parse_spec


def machine(root, cgroup, files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "12:cpuset:/a\n4:cpu,cpuacct:/docker/ab\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("", {}, 64),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        (
            "0::/user.slice/job\n",
            {"user.slice/cpu.max": "400000 100000\n", "user.slice/job/cpu.max": "max 100000\n"},
            4,
        ),
        ("0::/../../job\n", {"cpu.max": "300000 100000\n"}, 3),
        (V1, {"cpu/docker/ab/cpu.cfs_quota_us": "600000\n", "cpu/docker/ab/cpu.cfs_period_us": "100000\n"}, 6),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "200000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu/docker/ab/cpu.cfs_quota_us": "-1\n", "cpu/docker/ab/cpu.cfs_period_us": "100000\n"}, 64),
        ("0::/\n", {"cpu.max": "rubbish\n"}, 64),
    ],
)
def test_the_limit_of_a_cgroup_is_the_number_of_cores(tmp_path, cgroup, files, cores):
    assert usable_cores(64, environ={}, root=machine(tmp_path, cgroup, files)) == cores


@pytest.mark.parametrize(
    ("environ", "cores"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "32"}, 4),
        ({"SLURM_CPUS_ON_NODE": "32"}, 32),
        ({"SLURM_CPUS_ON_NODE": "128"}, 64),
        ({"SLURM_CPUS_PER_TASK": ""}, 64),
        ({"SLURM_CPUS_PER_TASK": "0"}, 64),
    ],
)
def test_the_allocation_of_slurm_is_the_number_of_cores(tmp_path, environ, cores):
    assert usable_cores(64, environ=environ, root=tmp_path) == cores


def test_the_least_of_all_limits_counts(tmp_path):
    root = machine(tmp_path, "0::/\n", {"cpu.max": "800000 100000\n"})
    assert usable_cores(16, environ={"SLURM_CPUS_PER_TASK": "12"}, root=root) == 8
    assert usable_cores(2, environ={"SLURM_CPUS_PER_TASK": "12"}, root=root) == 2


def test_every_count_of_workers_here_and_rays_own_are_of_the_allocation(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    started = []

    def starting(cpus):
        started.append(cpus)
        raise RuntimeError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(ray_cluster, "starting", starting)
    with pytest.raises(RuntimeError), ray_cluster.connect("local"):
        pass
    assert started == [cores.cores_here()] == [1]
    assert _workers_here(parse_spec("name: a")) == 1
    with pytest.raises(preflight.PreflightError, match="one trial takes 2 CPUs"):
        preflight.check_here(parse_spec("name: a\nresources: {cpus: 2}"), address="local")
