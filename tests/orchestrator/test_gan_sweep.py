"""A whole sweep of generative adversarial networks in worker processes, started as a user would."""

import json
import subprocess

import pytest
from commands import RAVEL, ravel

from orchestrator.analysis.result import SweepResult
from orchestrator.errors import OrchestratorError
from orchestrator.state.sweep_lookup import find_sweep
from trainables.tasks.gan import GanConfig, load_generator
from trainables.tasks.registry import GAN

pytestmark = pytest.mark.timeout(240)
SPEC = """
name: tiny-gan
trial:
  task: gan
  data.name: digits
  epochs: 3
  batch_size: 256
  gan.generator_width: 0.25
  gan.discriminator_width: 0.25
  evaluation.images: 64
  evaluation.mode_images: 100
space:
  use: [gan]
  parameters: {gan.generator_lr: {choice: [1.0e-3, 2.0e-3]}, gan.latent_dim: {choice: [8, 16]}}
objective: {metric: val/mode_kl, mode: min}
search: {num_trials: 3, points: [{gan.generator_snnl: 1.0, gan.snnl_features: pixels}]}
scheduler: {name: none}
resources: {max_concurrent: 1}
"""


def test_a_sweep_of_gans_trains_saves_shows_and_replays_its_trials(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    ravel("launch", "spec.yaml", "--address", "processes", cwd=tmp_path)
    result = SweepResult.read(find_sweep(tmp_path / "results"))
    assert [trial.status for trial in result.state.trials.values()] == ["completed"] * 3
    baseline, given, _ = result.state.trials.values()
    assert [baseline.config[name] for name in GAN.strengths] == [0, 0]
    assert {"gan/generator_loss", "val/modes_covered"} <= baseline.epochs[3].keys()
    assert "gan/generator_snnl" in given.epochs[3]
    assert "gan/generator_snnl" not in baseline.epochs[3]
    for trial in result.state.trials.values():
        assert trial.config["task"] == "gan"
        assert all(GAN.measures(metric) for metric in trial.epochs[3])
        assert isinstance(GAN.from_point(trial.config), GanConfig)
    best = result.best()
    assert load_generator(best.checkpoint()).latent_dim == best.config["gan.latent_dim"]
    told = "it trained a gan, and only a classifier is loaded, evaluated, registered or served"
    with pytest.raises(OrchestratorError, match=told):
        best.load_model()
    for command in (["evaluate", best.name], ["register", result.sweep]):
        refused = subprocess.run([str(RAVEL), *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (refused.returncode, told in refused.stderr) == (3, True), refused.stderr
    assert "gan." in ravel("status", cwd=tmp_path)
    assert "parallel coordinates" in ravel("compare", result.sweep, cwd=tmp_path)
    assert json.loads(ravel("replay", result.sweep, "--json", cwd=tmp_path))["differences"] == []
