"""Ravel side by side with its peers: the work is the same for all, and each program does all of it."""

import json
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.planning.loading import parse_spec
from orchestrator.spec.baseline import baseline_of
from trainables.config.optimizer import OptimizerConfig
from trainables.config.trial import DataConfig, TrialConfig
from trainables.data import load_splits
from trainables.engine.optimization.optimization import learning_rate
from trainables.mixup import Mix
from trainables.models import build
from trainables.regularizers.resolved_methods import Draws, Methods
from trainables.tasks.classifier.objective import step_loss

PEERS = Path(__file__).parents[2] / "benchmarks/peers"
IMAGES = 250


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """A folder with random images in the four files of MNIST."""
    root, rng = tmp_path_factory.mktemp("random"), np.random.default_rng(0)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 400), ("t10k", 10)):
        pixels, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, count, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, count) + labels.tobytes())
    return root


@pytest.fixture(scope="module")
def size(peers):
    return peers("results").Size(images=IMAGES, points=3, rungs=(1, 2))


@pytest.fixture(scope="module")
def shared(peers, data_root, size, tmp_path_factory):
    """The folder with the images of all runs."""
    folder = tmp_path_factory.mktemp("shared")
    peers("preparation").prepare_images(folder, data_root=data_root, size=size)
    return folder


@pytest.fixture(scope="module")
def with_database(peers, shared):
    """The same folder with MLflow's database, of which each run has a copy."""
    peers("preparation").prepare_database(shared)
    return shared


@pytest.fixture
def settings(peers, shared, size, tmp_path):
    """``settings(work)``: those of a run in a folder of its own."""
    return lambda work: peers("preparation").settings_of(shared, tmp_path, work=work, size=size, seed=1)


# The work


@pytest.mark.parametrize("boundary", ["input", "conv1", "conv2"])
def test_a_step_of_the_peers_has_the_loss_and_the_gradient_of_ravels(boundary, peers):
    losses, network, sweep = (peers(name) for name in ("losses", "network", "ravel_sweep"))
    point = {"snnl.weight": -0.07, "mixup.alpha": 0.5, "adversarial.epsilon": 0.08}
    config = TrialConfig.from_point({**sweep.FIXED, **sweep.REGULARIZED, **point})
    ours = build(
        config.model, image_shape=(1, 28, 28), num_classes=10, seed=0, mean=(network.MEAN,), std=(network.DEVIATION,)
    )
    theirs = network.SmallCnn()
    with torch.no_grad():
        for parameter, value in zip(theirs.parameters(), ours.parameters(), strict=True):
            parameter.copy_(value)
    stream = torch.Generator().manual_seed(0)
    x, y = torch.rand(48, 1, 28, 28, generator=stream), torch.randint(0, 10, (48,), generator=stream)
    noise = 0.08 * (2 * torch.rand(x.shape, generator=stream) - 1)
    partners = torch.randperm(48, generator=stream)
    methods = Methods.resolve(config, ours, num_classes=10)
    mix = Mix(boundary, 0.3, partners)
    loss = step_loss(ours, x, y, num_classes=10, methods=methods, draws=Draws(mix, mix, noise)).total
    other = losses.loss_of(theirs, x, y, point=point, mixture=network.Mixture(boundary, 0.3, partners), noise=noise)
    loss.backward()
    other.backward()
    assert float(other.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
    for one, two in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert float((one.grad - two.grad).norm() / two.grad.norm()) < 1e-4


def test_the_peers_boundaries_and_layers_are_those_of_the_spec(peers):
    network, sweep = peers("network"), peers("ravel_sweep")
    config = TrialConfig.from_point({**sweep.FIXED, **sweep.REGULARIZED, "snnl.weight": 0.1})
    methods = Methods.resolve(config, build(config.model, image_shape=(1, 28, 28), num_classes=10), num_classes=10)
    assert methods.boundaries == network.BOUNDARIES
    assert methods.taps == ("conv1", "conv2", "penultimate")
    assert len(network.SmallCnn().hidden(torch.zeros(2, 1, 28, 28))) == 3
    assert (methods.adversarial.num_steps, methods.adversarial.epsilon) == (peers("losses").PGD_STEPS, 0.0)


def test_the_methods_change_the_loss_and_are_off_at_zero(peers):
    losses, network = peers("losses"), peers("network")
    x, y = torch.rand(16, 1, 28, 28), torch.arange(16) % 4
    model, rng = network.SmallCnn(), np.random.default_rng(0)
    assert losses.sample_mixture(rng, 16, alpha=0.0) is None
    assert losses.sample_noise(x, epsilon=0.0) is None
    plain = losses.loss_of(model, x, y, point={}, mixture=None, noise=None)
    assert plain == torch.nn.functional.cross_entropy(model(x), y)
    noise = losses.sample_noise(x, epsilon=0.1)
    attacked = losses.pgd(model, x, y, epsilon=0.1, noise=noise)
    assert float((attacked - x).abs().max()) <= 0.1 + 1e-6
    assert (float(attacked.min()) >= 0, float(attacked.max()) <= 1) == (True, True)
    assert losses.loss_of(model, x, y, point={"adversarial.epsilon": 0.1}, mixture=None, noise=noise) > plain


def test_the_peers_train_and_validate_on_the_images_of_ravel(peers, settings):
    given = settings("plain")
    splits = load_splits(DataConfig(name="mnist", root=given.data_root, cache=given.folder))
    train, val = peers("trial").loaders(given)
    for loader, split, count in ((train, splits.train, IMAGES), (val, splits.val, IMAGES // 5)):
        theirs = Counter((255 * image).round().byte().numpy().tobytes() for image, _ in loader.dataset)
        assert theirs == Counter(image.numpy().tobytes() for image in split.images_NCHW)
        assert len(loader.dataset) == count


def test_the_learning_rates_are_those_of_ravel(peers, settings):
    given = settings("plain")
    trial = peers("trial").Trial(given, given.points[0])
    rates, steps = [], given.epochs * len(trial.train_loader)
    for _ in range(steps):
        rates.append(trial.optimizer.param_groups[0]["lr"])
        trial.optimizer.step()
        trial.schedule.step()
    config = OptimizerConfig(lr=given.points[0]["optimizer.lr"])
    assert rates == pytest.approx([learning_rate(config, step, total_steps=steps) for step in range(steps)])
    assert steps == 2


def test_a_trial_goes_on_from_its_checkpoint(peers, settings, tmp_path):
    given, kind = settings("regularized"), peers("trial").Trial
    trial = kind(given, given.points[1])
    trial.run_epoch()
    trial.save(tmp_path / "trial.pt")
    other = kind(given, given.points[1])
    assert other.accuracy() != trial.accuracy() or not torch.equal(other.model.head.weight, trial.model.head.weight)
    other.load(tmp_path / "trial.pt")
    assert (other.epoch, other.accuracy()) == (1, trial.accuracy())
    assert other.schedule.get_last_lr() == trial.schedule.get_last_lr()


@pytest.mark.parametrize("work", ["plain", "regularized"])
def test_the_spec_is_valid_and_its_trials_have_the_points_of_the_peers(work, peers, settings):
    document = json.loads((PEERS / "points.json").read_text())[work]
    given = replace(settings(work), points=document["points"], rungs=(1, 3, 9))
    spec = parse_spec(peers("ravel_sweep").write_spec(given).read_text())
    assert (len(given.points), spec.search.num_trials) == (24, 24)
    off = dict.fromkeys(peers("ravel_sweep").STRENGTHS, 0.0)
    assert baseline_of(spec) == {**off, **given.points[0]}
    assert list(spec.search.points) == given.points[1:]
    assert all(spec.space.contains(point) for point in given.points)
    assert (spec.scheduler.grace_period, spec.scheduler.reduction_factor, spec.trial["epochs"]) == (1, 3, 9)
    assert (spec.trial["seed"], spec.resources.max_concurrent) == (1, 2)


def test_points_of_both_works_differ_in_the_methods_alone():
    plain, regularized = (json.loads((PEERS / "points.json").read_text())[work] for work in ("plain", "regularized"))
    methods = {"snnl.weight", "mixup.alpha", "adversarial.epsilon"}
    assert [{name: point[name] for name in point if name not in methods} for point in regularized["points"]] == plain[
        "points"
    ]
    assert [all(point[name] for name in methods) for point in regularized["points"]] == [False] + [True] * 23
    assert regularized["space"].keys() - plain["space"].keys() == methods


@pytest.mark.parametrize("rungs", [(1,), (1, 3, 8), (2, 3), (3, 3)])
def test_rungs_that_no_reduction_factor_makes_are_refused(rungs, peers):
    with pytest.raises(ValueError, match="rungs: must each be the same whole number of times the one before"):
        peers("results").Size(rungs=rungs)


# The programs


@pytest.mark.parametrize(
    "name", [pytest.param("ray-tune", marks=pytest.mark.ray), "optuna", "ravel-processes"], ids=str
)
@pytest.mark.timeout(600)
def test_a_program_trains_every_point_and_tracks_it(name, peers, with_database, tmp_path, monkeypatch):
    runner, size = peers("peers"), peers("results").Size(images=IMAGES, points=3, rungs=(1, 2))
    prepare_run = peers("preparation").prepare_run
    given = prepare_run(with_database, tmp_path / "run", work="regularized", size=size, seed=1)
    program = replace(peers("programs").PROGRAMS[name], environment=None)  # that of the tests has what it needs
    found = runner.measured_run(given, program, environments_folder=Path(given.folder))
    assert (found["trials"], found["epochs"] >= 4) == (3, True)
    reports = program.reports(given)
    assert {report.epoch for report in reports} <= {1, 2}
    assert 0 < found["first_epoch_s"] < found["wall_s"]
    assert found["best_accuracy"] == pytest.approx(max(report.accuracy for report in reports), abs=1e-4)
    assert found["cpu_s"] > 1
    assert 50 < found["pss_mb"] <= found["rss_mb"]
    assert peers("process_tree").marked(given.folder) == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given.tracking_uri)
    import mlflow

    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    logged = [run for run in runs if {"accuracy", "val/accuracy"} & run.data.metrics.keys()]
    assert len(logged) >= 3


def test_the_number_and_the_point_of_a_trial_of_syne_tune_are_in_its_arguments(peers):
    words = ["--optimizer.lr", "0.05", "--snnl.weight", "-0.07", "--settings", "s.json", "--mixup.alpha", "1e-3"]
    parsed = peers("syne_tune_trial").Arguments.parsed([*words, "--st_checkpoint_dir", "a/17/checkpoints"])
    assert parsed.point == {"optimizer.lr": 0.05, "snnl.weight": -0.07, "mixup.alpha": 0.001}
    assert (parsed.number, parsed.settings) == (17, "s.json")


def test_agents_share_the_points_and_see_each_others_reports(peers, settings):
    agents, given = peers("wandb_agents"), settings("plain")
    one, two = agents.numbers(given), agents.numbers(given)
    assert [next(one), next(two), next(one), list(two), list(one)] == [0, 1, 2, [], []]
    given.report(0, 1, 0.5)
    given.report(2, 1, 0.25)
    given.report(0, 2, 0.75)
    values = {number: [step["accuracy"] for step in steps] for number, steps in agents.histories(given).items()}
    assert values == {0: [0.0, 0.5, 0.75], 2: [0.0, 0.25]}
    assert agents.sweep_of(given)["early_terminate"] == {"type": "hyperband", "min_iter": 1, "eta": 2}
