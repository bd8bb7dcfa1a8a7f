"""`ravel up` writes the files of `infra/` filled in, keeps their secrets, and starts nothing."""

import contextlib
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.cli.up import TEMPLATES, Kind, Settings, filled, write
from orchestrator.errors import SpecError

RAVEL = Path(sys.executable).with_name("ravel")
SPEC = "name: digits\nstorage: {uri: s3://team/sweeps}\n"
IMAGE = "ghcr.io/team/ravel:1"
SECRET = re.compile(r"\b[0-9a-f]{64}\b")


def up(folder, kind, *arguments):
    """In this process, since a start of the command takes a second: its result, or what it raises."""
    (folder / "sweep.yaml").write_text(SPEC)
    with contextlib.chdir(folder):
        result = CliRunner().invoke(app, ["up", kind, *arguments])
    if isinstance(result.exception, SpecError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def written(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=[kind.value for kind in Kind])
def cluster(request, tmp_path):
    output = up(tmp_path, request.param, "--image", IMAGE, "--nodes", "7", "--gpus", "4", "--cpus", "12")
    return request.param, output, written(tmp_path / request.param)


def test_every_file_is_filled_in(cluster):
    _, output, files = cluster
    texts = {place: path.read_text() for place, path in files.items()}
    assert [place for place, text in texts.items() if "<-" in text or "your-" in text] == []
    assert len(texts) >= 3
    assert all(str(path) in output for path in files.values())


def test_secrets_are_for_their_owner_and_neither_printed_nor_for_git(cluster):
    kind, output, files = cluster
    secrets = {place: SECRET.findall(path.read_text()) for place, path in files.items()}
    holders = {place for place, values in secrets.items() if values}
    values = [value for values in secrets.values() for value in values]
    assert len(values) == len(set(values)) == {"slurm": 1, "compose": 4, "kuberay": 3, "aws": 1}[kind]
    modes = {place: stat.S_IMODE(path.stat().st_mode) for place, path in files.items()}
    assert {place for place, mode in modes.items() if not mode & 0o077} == holders
    assert set(files[".gitignore"].read_text().split()) == {f"/{place}" for place in holders}
    assert not SECRET.search(output)


def test_two_clusters_have_no_secret_in_common(tmp_path):
    for place in ("one", "two"):
        up(tmp_path, "compose", "--out", place)
    one, two = (set(SECRET.findall((tmp_path / place / ".env").read_text())) for place in ("one", "two"))
    assert len(one | two) == 8


def test_nothing_is_overwritten(tmp_path):
    up(tmp_path, "slurm")
    token = (tmp_path / "slurm" / "ray-token").read_text()
    with pytest.raises(SpecError, match=r"has .*ray-token, sweep.sbatch, .gitignore already; give another --out"):
        up(tmp_path, "slurm", "--nodes", "4")
    assert (tmp_path / "slurm" / "ray-token").read_text() == token


def test_a_link_in_the_place_of_a_secret_is_not_followed(tmp_path):
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "ray-token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpecError, match="has ray-token already"):
        up(tmp_path, "slurm")
    assert not (tmp_path / "elsewhere").exists()


def test_the_job_of_slurm_has_the_numbers(tmp_path):
    up(tmp_path, "slurm", "--nodes", "7", "--gpus", "4", "--cpus", "12", "--storage", str(tmp_path / "results"))
    text = (tmp_path / "slurm" / "sweep.sbatch").read_text()
    for line in (
        "#SBATCH --job-name=digits",
        "#SBATCH --nodes=7",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --cpus-per-task=12",
        "GPUS=4",
        f"SPEC={tmp_path / 'sweep.yaml'}",
        f"STORAGE={tmp_path / 'results'}",
    ):
        assert f"\n{line}\n" in text


@pytest.mark.parametrize(("gpus", "expected"), [(0, (7, 0)), (4, (0, 7))])
def test_the_groups_of_workers_are_on_gpus_or_on_cores(tmp_path, gpus, expected):
    for kind in ("kuberay", "aws"):
        up(tmp_path, kind, "--nodes", "7", "--gpus", str(gpus), "--image", IMAGE)
    cluster = yaml.safe_load((tmp_path / "kuberay" / "raycluster.yaml").read_text())
    groups = {group["groupName"]: group["maxReplicas"] for group in cluster["spec"]["workerGroupSpecs"]}
    assert (groups["cpu"], groups["gpu-spot"]) == expected
    types = yaml.safe_load((tmp_path / "aws" / "cluster.yaml").read_text())["available_node_types"]
    assert (types["cpu-spot"]["max_workers"], types["gpu-spot"]["max_workers"]) == expected


def test_the_job_of_kubernetes_runs_the_users_spec(tmp_path):
    up(tmp_path, "kuberay")
    assert (tmp_path / "kuberay" / "sweep.yaml").read_text() == SPEC


def test_all_mistakes_are_listed_with_their_remedies(tmp_path):
    (tmp_path / "sweep.yaml").write_text("name: digits_2\n")
    done = subprocess.run([RAVEL, "up", "aws"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--name: must be at most 40 lower-case letters" in done.stderr
    assert "got 'digits_2'" in done.stderr
    assert "--image: must name a registry from which EC2 can pull" in done.stderr
    assert "--storage: must be s3://BUCKET/PREFIX for aws" in done.stderr
    assert not (tmp_path / "aws").exists()


@pytest.mark.parametrize("value", ["/data/my results", "/data/$(id)", "/data/`id`", '/data/"x', "/data/a\nb"])
def test_no_setting_can_change_a_script(value, tmp_path):
    with pytest.raises(SpecError, match="--storage: must have no spaces, quotes or other special characters"):
        settings(tmp_path, storage=value)


def settings(folder, **changes):
    (folder / "sweep.yaml").write_text(SPEC)
    plain = {"name": "digits", "spec": folder / "sweep.yaml", "nodes": 2, "gpus": 0, "cpus": 8, "region": "us-east-1"}
    return Settings(Kind.SLURM, **{**plain, "storage": "/data", "image": IMAGE, **changes})


def test_a_mark_without_a_setting_is_a_fault_of_ours():
    with pytest.raises(KeyError, match="nods"):
        filled("nodes: 2  # <- nods", {"nodes": "2"})


def test_a_secret_is_for_its_owner_whatever_the_umask(tmp_path):
    umask = os.umask(0)
    try:
        files = write(settings(tmp_path), tmp_path / "out")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(next(path for path in files if path.name == "ray-token").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", [kind.value for kind in Kind])
def test_neither_torch_nor_ray_is_imported(kind, tmp_path):
    (tmp_path / "sweep.yaml").write_text(SPEC)
    code = (
        "import sys\nfrom orchestrator.cli.main import app\n"
        f"app(['up', {kind!r}, '--image', {IMAGE!r}], standalone_mode=False)\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'numpy', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_templates_are_the_files_of_infra_and_belong_to_the_wheel(repository):
    root = Path(str(TEMPLATES))
    files = [path for path in root.rglob("*") if path.is_file()]
    files += [path for link in root.iterdir() if link.is_symlink() for path in link.rglob("*") if path.is_file()]
    infra, cli = repository / "infra", repository / "orchestrator" / "cli"
    kinds = {"slurm", "kuberay", "aws", "compose.yaml", "compose.env"}
    of_kinds = (path for path in infra.rglob("*") if path.relative_to(infra).parts[0] in kinds)
    assert {path.resolve() for path in files} == {path for path in of_kinds if path.is_file()}
    data = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in data["orchestrator.cli"] for path in cli.glob(pattern)}
    assert [path for path in files if path not in packed] == []
