"""Importing is cheap: what a module needs is loaded when it is used, seen in a fresh interpreter."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "ray", "mlflow", "sklearn", "torchvision"}


def loaded_by(statement):
    program = f"import sys\n{statement}\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("module", ["trainables", "trainables.config.trial", "trainables.metrics", "trainables.errors"])
def test_light_module_loads_no_heavy_library(module):
    assert loaded_by(f"import {module}") == set()


def test_the_config_is_exported_without_torch():
    assert loaded_by("from trainables import TrialConfig; TrialConfig()") == set()


def test_training_needs_neither_ray_nor_mlflow():
    heavy = loaded_by("from trainables import train")
    assert "torch" in heavy
    assert not heavy & {"ray", "mlflow", "sklearn", "torchvision"}


def test_the_digits_are_read_without_scikit_learn():
    read = "from trainables.config.trial import DataConfig; from trainables.data import load_splits; "
    assert not loaded_by(f"{read}load_splits(DataConfig(name='digits'))") & {"sklearn"}


def test_an_unknown_export_says_what_there_is():
    import trainables

    with pytest.raises(AttributeError, match="it exports TrialConfig, train"):
        _ = trainables.Trainer
