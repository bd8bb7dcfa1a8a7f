"""Learning rates as functions of the step, averaged weights, clipped gradients."""

import copy
import itertools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from trainables.config.trial import OptimizerConfig, TrialConfig
from trainables.engine.optimization.optimization import WeightAverage, build_optimizer, clip_gradients, learning_rate
from trainables.tasks.classifier.training import train

SCHEDULES = ("cosine", "constant", "step", "one_cycle")


def rates(total_steps, steps_per_epoch=1, **settings):
    config = OptimizerConfig(lr=0.1, **settings)
    return [
        learning_rate(config, step, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        for step in range(total_steps)
    ]


@given(
    schedule=st.sampled_from(SCHEDULES),
    total=st.integers(1, 60),
    per_epoch=st.integers(1, 7),
    warmup=st.floats(0, 3),
)
def test_a_rate_is_positive_and_never_above_lr(schedule, total, per_epoch, warmup):
    if warmup * per_epoch >= total:
        warmup = 0.0
    found = rates(total, per_epoch, schedule=schedule, warmup_epochs=warmup)
    assert all(0 < rate <= 0.1 * (1 + 1e-12) for rate in found)


@pytest.mark.parametrize("schedule", ["cosine", "constant", "step"])
def test_a_warm_up_rises_linearly_to_lr(schedule):
    found = rates(40, 4, schedule=schedule, warmup_epochs=2.0)
    assert found[:8] == pytest.approx([0.1 * (step + 1) / 8 for step in range(8)])
    assert found[8] == pytest.approx(0.1)


def test_the_milestones_of_verma_et_al_are_thirds():
    found = rates(12, schedule="step", milestones=(1 / 3, 2 / 3), decay=0.1)
    assert found == pytest.approx([0.1] * 4 + [0.01] * 4 + [0.001] * 4)


def test_one_cycle_rises_and_falls_in_straight_lines():
    found = rates(99, schedule="one_cycle")
    peak = found.index(max(found))
    steps = [after - before for before, after in itertools.pairwise(found)]
    rise, fall = steps[:peak], steps[peak:]
    assert peak == 29
    assert rise == pytest.approx([0.1 / 30] * len(rise))
    assert fall == pytest.approx([-0.1 / 70] * len(fall))


def test_the_average_follows_its_decay_and_keeps_the_models_buffers():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(model, decay=0.9)
    for _ in range(100):  # the warm-up ends at 80
        average.update(model)
    first = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    model(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    average.update(model)
    for name, value in average.model.named_parameters():
        torch.testing.assert_close(value, first[name] + 0.1)
    assert torch.equal(average.model[1].running_mean, model[1].running_mean)


@pytest.mark.parametrize("decay", [0.9, 0.99, 0.999, 0.9999])
@pytest.mark.parametrize("updates", [5, 50, 500])
def test_a_short_average_holds_little_of_the_first_half_of_training(decay, updates):
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay=decay)
    for step in range(updates):
        nn.init.constant_(model.weight, float(step >= updates // 2))
        average.update(model)
    assert 0.95 < float(average.model.weight) <= 1


def test_an_average_saved_near_the_first_weights_recovers_after_it_is_resumed():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay=0.999)
    average.restore({"updates": 90, "model": {"weight": torch.zeros(1, 1)}})
    nn.init.constant_(model.weight, 1.0)
    for _ in range(90):
        average.update(model)
    assert float(average.model.weight) > 0.99


def test_averaged_weights_of_a_short_training_are_near_those_of_its_end():
    point = {"epochs": 5, "model.name": "mlp", "evaluation.robust_epsilon": 0.0}
    plain, averaged = (
        train(TrialConfig.from_point({**point, "optimizer.ema_decay": decay})).metrics["val/accuracy"]
        for decay in (0.0, 0.999)
    )
    assert plain > 0.85
    assert averaged > plain - 0.03


def test_clipping_scales_all_gradients_together():
    model = nn.Linear(3, 2)
    model(torch.full((4, 3), 50.0)).sum().backward()
    before = torch.cat([parameter.grad.flatten().clone() for parameter in model.parameters()])
    clip_gradients(model, OptimizerConfig(clip_norm=0.5))
    after = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    assert float(after.norm()) == pytest.approx(0.5, rel=1e-4)
    torch.testing.assert_close(after / after.norm(), before / before.norm())


def test_without_a_limit_gradients_are_left_alone():
    model = nn.Linear(3, 2)
    model(torch.full((4, 3), 50.0)).sum().backward()
    before = [parameter.grad.clone() for parameter in model.parameters()]
    clip_gradients(model, OptimizerConfig())
    assert all(torch.equal(parameter.grad, grad) for parameter, grad in zip(model.parameters(), before, strict=True))


def test_nesterov_is_for_sgd_and_inactive_with_adamw():
    model = nn.Linear(1, 1)
    assert build_optimizer(OptimizerConfig(nesterov=True), model).defaults["nesterov"]
    assert "nesterov" not in build_optimizer(OptimizerConfig(name="adamw", nesterov=True), model).defaults


def test_an_average_goes_on_where_its_state_was_taken():
    model = nn.Linear(2, 2)
    first, second = (WeightAverage(model, decay=0.5) for _ in range(2))
    first.update(model)
    second.restore(first.state())
    with torch.no_grad():
        model.weight.add_(1.0)
    first.update(model)
    second.update(model)
    assert torch.equal(first.model.weight, second.model.weight)
    assert not torch.equal(first.model.weight, model.weight)
