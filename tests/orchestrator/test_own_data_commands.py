"""Commands find a user's data set in the working directory, which Python does not search for an installed command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RAVEL = Path(sys.executable).with_name("ravel")
SET = """
import numpy as np
print("imported")

def make(size: int = 6):
    noise = np.random.default_rng(0).integers(0, 256, (90, size, size), dtype=np.uint8)
    return [(image, "abc"[i % 3]) for i, image in enumerate(noise)]
"""
SPEC = """
name: own
trial: {data.name: "shapes_of_mine:make", data.args.size: 8, model.name: mlp, epochs: 1, data.part: 1/2, batch_size: 8}
"""
TRAIN = """
import sys
from trainables.config.trial import TrialConfig
from trainables.tasks.classifier.run import start
sys.path.insert(0, ".")
loop = start(TrialConfig.from_point(
    {"data.name": "shapes_of_mine:make", "data.args.size": 8, "model.name": "mlp", "epochs": 1, "batch_size": 8}))
loop.run_epoch()
loop.save("saved")
"""


@pytest.fixture
def here(tmp_path, repository):
    """A folder with the module and its spec, and ``run(*command)`` in it."""
    (tmp_path / "shapes_of_mine.py").write_text(SET)
    (tmp_path / "sweep.yaml").write_text(SPEC)
    environment = {**os.environ, "PYTHONPATH": str(repository), "RAVEL_CACHE": str(tmp_path / "cache")}

    def run(*command):
        return subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_a_trial_of_a_spec_reads_the_set_beside_it(here):
    done = here(RAVEL, "trial", "sweep.yaml")
    assert done.returncode == 0, done.stderr
    assert "imported" not in done.stdout
    assert "accuracy" in done.stdout


def test_a_trained_model_is_evaluated_on_its_own_set(here):
    assert here(sys.executable, "-c", TRAIN).returncode == 0
    done = here(RAVEL, "evaluate", "saved", "--suite", "clean")
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
