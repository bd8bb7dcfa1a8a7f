"""`ravel init`: what it writes is valid, and the tests that it writes pass."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.init import Kind
from orchestrator.planning.loading import load_spec

RAVEL = Path(sys.executable).with_name("ravel")


def initialised(folder, kind):
    command = [RAVEL, "init", "--from", kind, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", [kind.value for kind in Kind])
def test_a_new_folder_has_a_valid_spec_whose_trials_are_explained(tmp_path, kind):
    done = initialised(tmp_path / "new", kind)
    assert done.returncode == 0, done.stderr
    spec = load_spec(tmp_path / "new" / "sweep.yaml", [])
    assert spec.name == kind
    assert f"ravel resume {kind}" in (tmp_path / "new" / "sweep.yaml").read_text()
    assert "ravel launch sweep.yaml" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("kind", [kind.value for kind in Kind if kind.value.startswith("own-")])
def test_the_module_of_own_code_passes_the_test_beside_it(tmp_path, kind):
    initialised(tmp_path, kind)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "sweep.yaml").write_text("mine")
    done = initialised(tmp_path, "own-task")
    assert (done.returncode, (tmp_path / "sweep.yaml").read_text()) == (2, "mine")
    assert "has sweep.yaml already; give another FOLDER" in done.stderr
    assert not (tmp_path / "training.py").exists()
