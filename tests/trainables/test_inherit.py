"""A trial that continues the training of another one with its own settings: what it has of its parent, and what not."""

from dataclasses import replace

import pytest
import torch

from search_spaces import catalog
from trainables.config.trial import TrialConfig
from trainables.engine import checkpoint
from trainables.errors import CheckpointError
from trainables.tasks.classifier.run import inherit, start
from trainables.tasks.registry import CLASSIFIER, GAN
from trainables.tune import TrialTrainable

POINT = {
    "model.name": "mlp",
    "model.width": 0.125,
    "batch_size": 500,
    "epochs": 3,
    "seed": 1,
    "device": "cpu",
    "optimizer.schedule": "constant",
    "evaluation.robust_images": 20,
    "evaluation.robust_steps": 1,
    "snnl.weight": 0.1,
    "snnl.temperature_mode": "relative",
    "mixup.alpha": 0.5,
    "adversarial.attack": "trades",
    "adversarial.epsilon": 0.05,
    "adversarial.steps": 1,
    "optimizer.clip_norm": 1.0,
    "data.policy": "rand",
    "data.rotation": 5.0,
}
OTHER = {
    "optimizer.lr": 0.5,
    "optimizer.momentum": 0.3,
    "optimizer.weight_decay": 0.1,
    "optimizer.clip_norm": 0.01,
    "loss.label_smoothing": 0.2,
    "snnl.weight": 0.7,
    "snnl.temperature": 0.2,
    "mixup.alpha": 4.0,
    "adversarial.epsilon": 0.2,
    "adversarial.relative_step": 0.1,
    "adversarial.clean_fraction": 0.9,
    "adversarial.trades_beta": 1.0,
    "adversarial.noise_k": 0.5,
    "adversarial.mart_lambda": 1.0,
    "adversarial.awp_gamma": 0.1,
    "optimizer.sam_rho": 0.5,
    "data.rotation": 90.0,
    "data.shear": 0.5,
    "data.zoom": 0.5,
    "data.erasing": 0.9,
    "data.policy_magnitude": 30,
}
# Parameters that trades does not have.
ATTACKS = {
    "adversarial.clean_fraction": {"adversarial.attack": "pgd"},
    "adversarial.noise_k": {"adversarial.attack": "n_fgsm"},
    "adversarial.mart_lambda": {"adversarial.attack": "mart", "mixup.alpha": 0.0},
}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A checkpoint after one epoch."""
    folder = tmp_path_factory.mktemp("parent")
    loop = start(TrialConfig.from_point(POINT))
    loop.run_epoch()
    loop.save(folder)
    return folder


def child(parent, **changes):
    point = {**POINT, **changes}
    return inherit(parent, config=TrialConfig.from_point(point), changed=list(changes))


def weights(loop):
    return torch.cat([weight.flatten() for weight in loop.run.model.state_dict().values()])


def test_a_descendant_has_the_weights_the_moments_and_the_epoch_of_its_parent(parent):
    saved = checkpoint.load(parent)
    loop = child(parent, seed=2, **{"optimizer.lr": 0.5})
    assert loop.epoch == 1
    for name, weight in loop.run.model.state_dict().items():
        assert torch.equal(weight, saved.model[name])
    moments = loop.run.optimizer.state_dict()["state"]
    assert moments.keys() == saved.optimizer["state"].keys()
    for number, state in moments.items():
        assert torch.equal(state["momentum_buffer"], saved.optimizer["state"][number]["momentum_buffer"])


def test_the_optimizer_of_a_descendant_steps_with_its_own_hyperparameters(parent):
    changes = {"optimizer.lr": 0.5, "optimizer.momentum": 0.3, "optimizer.weight_decay": 0.1}
    loop = child(parent, **changes)
    loop.run_epoch()
    (group,) = loop.run.optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.3, 0.1)


def test_the_betas_of_adamw_are_the_descendants_own(tmp_path):
    point = {**POINT, "optimizer.name": "adamw", "optimizer.lr": 0.002}
    loop = start(TrialConfig.from_point(point))
    loop.run_epoch()
    loop.save(tmp_path)
    changed = {"optimizer.momentum": 0.5, "optimizer.weight_decay": 0.3}
    loop = inherit(tmp_path, config=TrialConfig.from_point({**point, **changed}), changed=list(changed))
    (group,) = loop.run.optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.5, 0.999), 0.3)
    assert all(state["step"] == 2 for state in loop.run.optimizer.state_dict()["state"].values())


def test_the_rate_of_a_descendant_is_that_of_its_epoch_in_its_own_schedule(tmp_path):
    point = {**POINT, "optimizer.schedule": "step", "optimizer.milestones": [0.34], "optimizer.decay": 0.5}
    loop = start(TrialConfig.from_point(point))
    loop.run_epoch()
    loop.save(tmp_path)
    changed = {"optimizer.lr": 0.08}
    loop = inherit(tmp_path, config=TrialConfig.from_point({**point, **changed}), changed=list(changed))
    loop.run_epoch()
    assert loop.run.optimizer.param_groups[0]["lr"] == pytest.approx(0.04)


@pytest.mark.parametrize("name", CLASSIFIER.changeable)
def test_every_parameter_that_may_change_acts_in_the_next_epoch(parent, name):
    assert OTHER.keys() == set(CLASSIFIER.changeable)
    attack = ATTACKS.get(name, {})
    same, other = child(parent, **attack), child(parent, **attack, **{name: OTHER[name]})
    assert torch.equal(weights(same), weights(other))
    same.run_epoch()
    other.run_epoch()
    assert not torch.equal(weights(same), weights(other))


def test_a_descendant_sees_its_own_batches_and_noise(parent):
    loops = [child(parent, seed=seed) for seed in (2, 2, 3)]
    for loop in loops:
        loop.run_epoch()
    first, again, other = map(weights, loops)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_guard_against_overfitting_to_an_attack_does_not_compare_two_strengths(parent):
    assert checkpoint.load(parent).pgd_accuracy is not None
    assert child(parent, **{"adversarial.epsilon": 0.3}).run.pgd_accuracy is None


def test_a_checkpoint_that_differs_in_more_is_refused(parent):
    config = TrialConfig.from_point({**POINT, "optimizer.lr": 0.5, "batch_size": 250})
    with pytest.raises(CheckpointError, match="belongs to another trial: batch_size"):
        inherit(parent, config=config, changed=["optimizer.lr"])


def test_a_descendant_resumes_from_its_own_checkpoint_in_the_same_bits(parent, tmp_path):
    whole = child(parent, seed=2, **{"optimizer.lr": 0.2})
    whole.run_epoch()
    whole.save(tmp_path)
    again = CLASSIFIER.restore(tmp_path, config=whole.config)
    whole.run_epoch()
    again.run_epoch()
    assert torch.equal(weights(whole), weights(again))


def test_a_worker_inherits_only_where_the_trial_has_no_checkpoint_of_its_own(parent, tmp_path):
    config = {**POINT, "seed": 2, "optimizer.lr": 0.2}
    told = {"ravel.parent": {"checkpoint": str(parent), "changed": ["seed", "optimizer.lr"]}}
    worker = TrialTrainable({**config, **told, "ravel.checkpoint": None})
    assert worker.step()["epoch"] == 2
    worker.save_checkpoint(str(tmp_path))
    assert TrialTrainable({**config, **told, "ravel.checkpoint": str(tmp_path)}).step()["epoch"] == 3


def test_a_worker_whose_parent_has_no_checkpoint_fails_and_does_not_begin_anew(tmp_path):
    told = {"ravel.parent": {"checkpoint": str(tmp_path / "gone"), "changed": ["seed"]}}
    worker = TrialTrainable({**POINT, "seed": 2, **told})
    with pytest.raises(CheckpointError, match="does not exist"):
        worker.step()


def test_strengths_of_all_methods_may_change_and_networks_and_data_may_not():
    assert all(CLASSIFIER.may_change(name) for name in (*CLASSIFIER.strengths, "regularizers.center.weight"))
    fixed = ("model.width", "batch_size", "epochs", "data.fraction", "optimizer.name", "optimizer.ema_decay", "seed")
    assert not any(CLASSIFIER.may_change(name) for name in fixed)
    assert not any(GAN.may_change(name) for name in GAN.strengths)
    assert set(catalog.regularizers().names) & set(CLASSIFIER.changeable)
    assert replace(CLASSIFIER, changeable=()).may_change("snnl.weight") is False
