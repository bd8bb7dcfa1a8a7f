"""Trials that are batched get what they get by themselves, come and go, and do not touch each other.

Results are equal within the rounding of float32: products and sums have another order. A relative rounding of 6e-8 in
each operation grows over two epochs to at most 6e-6 of a model's length (measured over the combinations below); the
bound is 2e-5. Two things amplify it, and their bound is 5e-4. The temperature that minimises SNNL is the best of those
that were evaluated, and near it the loss is flat: a rounding may choose another one. AdamW divides by the size of the
gradient, also where SNNL has none but rounding (both move weights by up to 2e-4). In the first two steps, before
rounding grows, terms of the loss agree to 1e-6. Most trials stop before their last epoch, whose costly metrics are
measured by the code of a single trial.
"""

import time

import pytest
import torch

from trainables import mixup
from trainables.batched.layers import by_member
from trainables.batched.measurement import epoch_s
from trainables.batched.mixing import StackedMix
from trainables.batched.refusals import why_not_batched, why_not_together
from trainables.batched.training import train_batched
from trainables.batched.trials import BatchedTrials
from trainables.config.trial import TrialConfig
from trainables.engine import checkpoint as state
from trainables.errors import AttackOverfitted, ConfigError, Diverged
from trainables.mixup import Mix
from trainables.tasks.classifier.run import restore, start
from trainables.tasks.classifier.training import train

SMALL = {
    "epochs": 4,
    "batch_size": 200,
    "precision": "float32",
    "device": "cpu",
    "model.width": 0.125,
    "evaluation.robust_images": 20,
    "evaluation.robust_steps": 2,
}
AFTER_TWO_EPOCHS = 2e-5
AMPLIFIED = 5e-4
PROGRAMS = {
    "plain": [
        {"seed": 1},
        {"seed": 2, "optimizer.lr": 0.1, "optimizer.momentum": 0.5, "optimizer.weight_decay": 0.01},
        {"seed": 3, "optimizer.schedule": "one_cycle", "epochs": 3},
    ],
    "settings of the optimizer": [
        {"optimizer.clip_norm": 0.5, "optimizer.warmup_epochs": 0.5},
        {"optimizer.nesterov": True, "optimizer.ema_decay": 0.8},
        {"optimizer.momentum": 0.0, "loss.label_smoothing": 0.1},
    ],
    "adamw": [
        {"optimizer.name": "adamw", "optimizer.lr": 0.002},
        {"optimizer.name": "adamw", "optimizer.lr": 0.005, "optimizer.weight_decay": 0.1, "optimizer.momentum": 0.5},
    ],
    "binary cross-entropy": [
        {"loss.name": "binary_cross_entropy"},
        {"loss.name": "binary_cross_entropy", "loss.label_smoothing": 0.1, "seed": 4},
    ],
    "images": [
        {"data.rotation": 10.0, "data.crop_padding": 1},
        {"data.policy": "trivial", "data.erasing": 0.5},
        {"classes_per_batch": 10},
    ],
    "soft nearest neighbours": [
        {"snnl.weight": -0.05},
        {"snnl.weight": 0.1, "seed": 3},
        {},
        {"snnl.weight": 0.1, "snnl.temperature_mode": "learned"},
        {"snnl.weight": 0.05, "snnl.temperature_mode": "learned", "seed": 5},
        {"snnl.weight": -0.1, "snnl.temperature_mode": "relative", "snnl.temperature": 0.5, "snnl.layers": "all"},
        {"snnl.weight": -0.1, "snnl.temperature_mode": "relative", "snnl.temperature": 2.0, "snnl.layers": "all"},
        {"snnl.weight": 0.1, "snnl.distance": "cosine"},
        {"snnl.weight": -0.1, "snnl.temperature_mode": "absolute", "snnl.temperature": 30.0},
        {"snnl.weight": 1e-3, "snnl.penalty": "class_mean"},
    ],
    "mixup": [
        {"mixup.alpha": 1.0},
        {"mixup.alpha": 1.0, "mixup.layers": "input+hidden", "seed": 2},
        {"mixup.alpha": 1.0, "mixup.kind": "cutmix"},
        {"mixup.alpha": 0.5, "mixup.layers": "hidden", "mixup.per_sample": True},
        {},
        {"mixup.alpha": 1.0, "snnl.weight": -0.05},
        {"mixup.alpha": 1.0, "snnl.weight": -0.05, "snnl.on_mixed": True, "mixup.layers": "hidden"},
    ],
    "attacks": [
        {"adversarial.epsilon": 0.1, "adversarial.attack": "fgsm"},
        {"adversarial.epsilon": 0.05, "adversarial.attack": "fgsm_rs", "mixup.alpha": 1.0, "snnl.weight": -0.05},
        {"adversarial.epsilon": 0.1, "adversarial.attack": "n_fgsm", "adversarial.clean_fraction": 0.0},
        {"adversarial.epsilon": 0.5, "adversarial.norm": "l2", "adversarial.attack": "pgd", "adversarial.steps": 2},
        {"adversarial.epsilon": 0.1, "adversarial.attack": "pgd", "adversarial.steps": 2, "snnl.weight": 0.1},
        {"adversarial.epsilon": 0.05, "adversarial.attack": "pgd", "adversarial.steps": 4},
        {"adversarial.epsilon": 0.1, "adversarial.clean_fraction": 1.0},
        {"snnl.weight": 0.1},
    ],
}


def config_of(**point):
    return TrialConfig.from_point({**SMALL, "model.name": "cnn", **point})


def program(name, **common):
    return [config_of(**{**common, **member}) for member in PROGRAMS[name]]


def distance(model, other):
    """Length of the difference of all values of two models, in units of the second's."""
    mine, theirs = (torch.cat([x.double().flatten() for x in m.state_dict().values()]) for m in (model, other))
    return float((mine - theirs).norm() / theirs.norm())


def bound(config):
    amplified = config.snnl.temperature_mode == "minimised" or config.optimizer.name == "adamw"
    return AMPLIFIED if config.snnl.weight and amplified else AFTER_TWO_EPOCHS


def measured(report):
    return {name: value for name, value in report.metrics.items() if not name.startswith(("time/", "cost/"))}


def started(configs):
    """Trials of these configurations, batched: by their places, as text."""
    trials = BatchedTrials()
    for place, config in enumerate(configs):
        trials.join(str(place), start(config))
    return trials


def two_epochs(configs):
    """Loops of batched trials after two epochs, and their reports."""
    trials = started(configs)
    loops = [trials.loop(name) for name in trials.names]
    outcomes = [trials.run_epoch() for _ in range(2)]
    return [(loop, [outcome[str(place)] for outcome in outcomes]) for place, loop in enumerate(loops)]


def model_after(config, epochs=2):
    loop = start(config)
    for _ in range(epochs):
        loop.run_epoch()
    return loop.run.evaluated_model


def assert_equal_results(loop, reports, *, within):
    single = start(loop.config)
    expectations = [single.run_epoch() for _ in reports]
    assert distance(loop.run.evaluated_model, single.run.evaluated_model) <= within
    for report, expected in zip(reports, expectations, strict=True):
        assert report.epoch == expected.epoch
        assert set(report.metrics) == set(expected.metrics)
        for name, value in measured(report).items():
            # Accuracies may differ by one of the images on the boundary between two classes.
            slack = 1 / 20 if "accuracy" in name or name == "val/ece" else 20 * within
            assert value == pytest.approx(measured(expected)[name], rel=20 * within, abs=slack), name


def bits(model):
    return [tensor.clone() for tensor in model.state_dict().values()]


def equal_bits(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_members_get_what_they_get_by_themselves(model, name):
    configs = program(name, **{"model.name": model})
    for loop, reports in two_epochs(configs):
        assert_equal_results(loop, reports, within=bound(loop.config))


def test_a_whole_batched_training_reports_what_single_trainings_do():
    configs = [config_of(epochs=epochs, seed=epochs, **{"snnl.weight": 0.1}) for epochs in (1, 2)]
    for batched, config in zip(train_batched(configs), configs, strict=True):
        single = train(config)
        assert batched.error is None
        assert distance(batched.model, single.model) <= bound(config)
        assert [set(report.metrics) for report in batched.reports] == [set(report.metrics) for report in single.reports]
        assert not batched.model.training


@pytest.mark.parametrize("name", PROGRAMS)
def test_terms_of_the_first_steps_agree_to_a_millionth(name):
    configs = program(name, batch_size=700)
    outcomes = started(configs).run_epoch()
    for index, config in enumerate(configs):
        expected = start(config).run_epoch().metrics
        terms = [term for term in expected if term.startswith("train/") and term != "train/pgd_accuracy"]
        assert "train/loss" in terms
        for term in terms:
            assert outcomes[str(index)].metrics[term] == pytest.approx(expected[term], rel=1e-6, abs=1e-6), term


@pytest.mark.parametrize(("model", "width"), [("cnn_bn", 0.25), ("preact_resnet18", 0.05), ("wide_resnet28_10", 0.05)])
def test_members_with_batch_normalisation_have_its_statistics(model, width):
    methods = [{}, {"mixup.alpha": 1.0, "snnl.weight": -0.05}, {"adversarial.epsilon": 0.05, "mixup.alpha": 1.0}]
    small = {"model.name": model, "model.width": width, "batch_size": 700, "optimizer.lr": 1e-3}
    trials = started([config_of(**small, **own, seed=seed) for seed, own in enumerate(methods)])
    trials.run_epoch()
    for loop in map(trials.loop, trials.names):
        single = model_after(loop.config, epochs=1)
        assert distance(loop.run.model, single) <= 1e-4
        for name, buffer in loop.run.model.named_buffers():
            # Means near 0 and the like have no relative precision; a missed or double pass would move them by 0.1.
            assert torch.allclose(buffer.float(), single.state_dict()[name].float(), rtol=1e-3, atol=1e-4), name


def test_members_in_bfloat16_are_within_its_rounding():
    trials = started([config_of(precision="bfloat16", seed=seed) for seed in range(2)])
    reports = trials.run_epoch()
    for name in trials.names:
        single = start(trials.loop(name).config)
        expected = single.run_epoch().metrics["train/loss"]
        assert distance(trials.loop(name).run.model, single.run.model) <= 2**-8
        assert reports[name].metrics["train/loss"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", ["mixup", "attacks"])
def test_passes_of_members_in_bfloat16_are_rounded_as_those_of_one_model(name):
    trials = started(program(name, precision="bfloat16", batch_size=700))
    loops = [trials.loop(place) for place in trials.names]
    trials.run_epoch()
    for loop in loops:
        # One rounding of a gradient to bfloat16 that is missing moves the weights by 5e-5.
        assert distance(loop.run.model, model_after(loop.config, epochs=1)) <= AFTER_TWO_EPOCHS


@pytest.mark.parametrize("shape", [(16, 3, 4, 4), (16, 12)])
def test_hidden_states_in_bfloat16_are_mixed_to_the_bit(shape):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn((3, *shape), generator=generator).to(torch.bfloat16)
    order = torch.randperm(16, generator=generator)
    mixtures = [Mix("conv1", 0.7, order), None, Mix("conv1", torch.rand(16, generator=generator), order)]
    h = states if len(shape) == 2 else states.transpose(0, 1).flatten(1, 2)
    mixed = by_member(StackedMix.of(mixtures, batch_size=16, device="cpu").states(h), 3)
    for own, x, mix in zip(mixed, states, mixtures, strict=True):
        assert torch.equal(own, x if mix is None else mixup.apply(x, mix))


def test_gradients_that_hooks_of_a_model_clear_are_cleared():
    loops = [start(config_of(seed=seed, batch_size=700, **{"optimizer.weight_decay": 0.0})) for seed in range(2)]
    before = [next(loop.run.model.parameters()).detach().clone() for loop in loops]
    trials = BatchedTrials()
    for index, loop in enumerate(loops):
        next(loop.run.model.parameters()).register_hook(lambda slope: slope.index_fill(0, torch.tensor([1]), 0))
        trials.join(str(index), loop)
    trials.run_epoch()
    for loop, weight in zip(loops, before, strict=True):
        after = next(loop.run.model.parameters())
        assert torch.equal(after[1], weight[1])
        assert not torch.equal(after[0], weight[0])


@pytest.mark.parametrize("attack", [{}, {"adversarial.epsilon": 0.1, "snnl.weight": 0.1, "mixup.alpha": 1.0}])
def test_a_member_that_diverges_leaves_the_others_to_the_bit(attack):
    def after(rate):
        rates = [{}, {"optimizer.lr": rate}, {}]
        trials = started([config_of(**attack, **own, seed=seed) for seed, own in enumerate(rates)])
        outcome = trials.run_epoch()["1"]
        return outcome, [bits(trials.loop(name).run.model) for name in ("0", "2")]

    (healthy, beside_it), (diverged, beside_nan) = after(0.01), after(1e18)
    assert healthy.epoch == 1
    assert isinstance(diverged, Diverged)
    assert all(equal_bits(*pair) for pair in zip(beside_it, beside_nan, strict=True))


def test_a_member_diverges_where_it_does_by_itself():
    config = config_of(**{"optimizer.lr": 1e18, "snnl.weight": 0.1})
    with pytest.raises(Diverged) as alone:
        train(config)
    result = train_batched([config_of(epochs=1), config])[1]
    assert (result.error.args, result.reports) == (alone.value.args, ())


def test_a_member_that_overfits_its_attack_ends_with_that_error():
    settings = {"adversarial.epsilon": 0.3, "adversarial.clean_fraction": 0.0, "optimizer.lr": 0.3, "epochs": 6}
    config = config_of(**settings, **{"adversarial.max_robust_drop": 1e-3})
    with pytest.raises(AttackOverfitted) as alone:
        train(config)
    error = train_batched([config, config_of(epochs=1)])[0].error
    assert isinstance(error, AttackOverfitted)
    assert error.args[0] == alone.value.args[0]


def test_a_member_that_leaves_and_one_that_joins_change_no_other_member():
    trials = started([config_of(seed=seed, epochs=5) for seed in range(3)])
    trials.run_epoch()
    left = trials.leave("1")
    assert (left.epoch, trials.names) == (1, ("0", "2"))
    trials.join("new", start(config_of(seed=7, epochs=1, **{"mixup.alpha": 1.0})))
    reports = trials.run_epoch()
    assert {name: report.epoch for name, report in reports.items()} == {"0": 2, "2": 2, "new": 1}
    assert trials.names == ("0", "2")
    left.run_epoch()
    for loop in (trials.leave("0"), left):
        assert distance(loop.run.model, model_after(loop.config)) <= AFTER_TWO_EPOCHS
    trials.leave("2")
    assert trials.run_epoch() == {}


RESUMED = [
    {"snnl.weight": 0.1, "snnl.temperature_mode": "learned", "mixup.alpha": 1.0},
    {"optimizer.ema_decay": 0.8, "adversarial.epsilon": 0.1},
    {"optimizer.momentum": 0.0, "data.rotation": 10.0},
]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_checkpoints_of_members_and_of_single_trials_are_one_format(tmp_path, optimizer):
    common = {"optimizer.name": optimizer, "optimizer.lr": 0.002}
    configs = [config_of(**common, **own) for own in RESUMED]
    trials = started(configs)
    trials.run_epoch()
    for index, config in enumerate(configs):
        alone = start(config)
        alone.run_epoch()
        alone.save(tmp_path / f"single-{index}")
        trials.loop(str(index)).save(tmp_path / f"member-{index}")
        member, single = (state.load(tmp_path / f"{kind}-{index}") for kind in ("member", "single"))
        assert shapes(member) == shapes(single)
        assert member.streams["mixup"] == single.streams["mixup"]
        assert all(
            torch.equal(member.streams[name], single.streams[name]) for name in ("order", "augmentation", "attack")
        )
    # Each continues in the other way: members by themselves, and single trials batched.
    joined = BatchedTrials()
    for index in range(len(configs)):
        joined.join(str(index), restore(tmp_path / f"single-{index}"))
    assert {report.epoch for report in joined.run_epoch().values()} == {2}
    for index, config in enumerate(configs):
        whole, continued = model_after(config), restore(tmp_path / f"member-{index}")
        assert continued.run_epoch().epoch == 2
        assert distance(continued.run.evaluated_model, whole) <= bound(config)
        assert distance(joined.loop(str(index)).run.evaluated_model, whole) <= AFTER_TWO_EPOCHS


def shapes(value):
    """What a checkpoint holds, without its numbers: names, types, and shapes of tensors."""
    if isinstance(value, state.Checkpoint):
        return {name: shapes(getattr(value, name)) for name in value.__slots__}
    if isinstance(value, dict):
        return {name: shapes(part) for name, part in value.items()}
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    return (type(value), *map(shapes, value)) if isinstance(value, list | tuple) else type(value)


def test_each_member_is_saved_after_each_epoch_before_its_report(tmp_path):
    seen = []

    def report(index, epoch):
        seen.append((index, epoch.epoch, state.load(tmp_path / str(index)).epoch))
        return index != 0

    configs = [config_of(seed=seed, epochs=2) for seed in range(2)]
    results = train_batched(configs, report=report, checkpoints=[tmp_path / "0", tmp_path / "1"])
    assert seen == [(0, 1, 1), (1, 1, 1), (1, 2, 2)]
    assert [len(result.reports) for result in results] == [1, 2]


REFUSED = {
    "model.dropout": (
        {"model.dropout": 0.5},
        "must be 0 to be batched, as its random numbers come from one stream, got 0.5",
    ),
    "model.name": (
        {"model.name": "nets:Net", "model.width": 1.0},
        "must be a network of the package to be batched, whose layers have stacked forms, got 'nets:Net'",
    ),
    "compile": (
        {"compile": True},
        "must be false to be batched, as the compiled stages are those of one trial, got true",
    ),
    "optimizer.name": (
        {"optimizer.name": "torch.optim:RMSprop"},
        "must be one of the package to be batched, got 'torch.optim:RMSprop'",
    ),
    "optimizer.sam_rho": (
        {"optimizer.sam_rho": 0.1},
        "must be 0 to be batched, as a step makes a second pass, got 0.1",
    ),
    "mixup.kind": (
        {"mixup.kind": "mixing:mine", "mixup.alpha": 1.0},
        "must be one of the package to be batched, got 'mixing:mine'",
    ),
    "mixup.detached": (
        {"mixup.alpha": 1.0, "mixup.detached": True},
        "must be false to be batched, as a step then skips the layers before the mixture, got true",
    ),
    "regularizers": (
        {"regularizers.mine.use": "class_mean", "regularizers.mine.weight": 0.1},
        "must be left out to be batched, as such a term sees one model, got mine",
    ),
    "adversarial.attack": (
        {"adversarial.epsilon": 0.1, "adversarial.attack": "trades"},
        "must be one of fgsm, fgsm_rs, n_fgsm, pgd to be batched, got 'trades'",
    ),
    "adversarial.awp_gamma": (
        {"adversarial.epsilon": 0.1, "adversarial.awp_gamma": 0.01},
        "must be 0 to be batched, as a step makes a second pass, got 0.01",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_trial_that_cannot_be_batched_is_told_why(name):
    point, reason = REFUSED[name]
    assert why_not_batched(config_of(**point)) == f"{name}: {reason}; train it by itself"


def test_all_reasons_against_a_trial_are_named_at_once():
    reasons = why_not_batched(config_of(**{"model.dropout": 0.5, "optimizer.sam_rho": 0.1}))
    assert [line.partition(":")[0] for line in reasons.splitlines()] == ["model.dropout", "optimizer.sam_rho"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_trials_of_one_program_can_be_batched(name):
    first, *others = program(name)
    assert [why_not_batched(config) for config in (first, *others)] == [None] * (1 + len(others))
    assert [why_not_together(first, config) for config in others] == [None] * len(others)


@pytest.mark.parametrize(
    ("point", "line"),
    [
        ({"batch_size": 64}, "batch_size: must be that of the other batched trials, 200, got 64"),
        ({"model.name": "mlp"}, "model.name: must be that of the other batched trials, 'cnn', got 'mlp'"),
        ({"optimizer.name": "adamw"}, "optimizer.name: must be that of the other batched trials, 'sgd', got 'adamw'"),
        ({"data.fraction": 0.5}, "data.fraction: must be that of the other batched trials, 1.0, got 0.5"),
    ],
)
def test_a_trial_of_another_program_cannot_join(point, line):
    trials = BatchedTrials()
    trials.join("one", start(config_of()))
    with pytest.raises(ConfigError, match="must be that of the other batched trials") as refused:
        trials.join("other", start(config_of(**point)))
    assert str(refused.value) == line
    assert trials.names == ("one",)


def test_the_costs_of_members_are_shares_of_one_process():
    trials = started([config_of(seed=seed) for seed in range(4)])
    before = time.perf_counter()
    reports = trials.run_epoch()
    passed = time.perf_counter() - before
    assert 0 < sum(report.metrics["time/epoch_s"] for report in reports.values()) <= passed


BROKEN_METRIC = """
def breaks(logits, labels):
    raise ValueError("no such class")
"""


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ({"classes_per_batch": 20}, "classes_per_batch: must be"),
        ({"metrics.own.use": "breaking_metric:breaks"}, "metrics.own: breaking_metric:breaks fails with 'ValueError"),
    ],
    ids=["before its steps", "after its steps"],
)
def test_an_error_of_one_member_ends_it_and_leaves_the_others_to_the_bit(tmp_path, monkeypatch, own, problem):
    (tmp_path / "breaking_metric.py").write_text(BROKEN_METRIC)
    monkeypatch.syspath_prepend(tmp_path)
    trials = started([config_of(seed=0), config_of(seed=1, **own)])
    loop = trials.loop("0")
    outcomes = trials.run_epoch()
    assert isinstance(outcomes["1"], ConfigError)
    assert str(outcomes["1"]).startswith(problem)
    assert (outcomes["0"].epoch, trials.names) == (1, ("0",))
    assert distance(loop.run.model, model_after(loop.config, epochs=1)) <= AFTER_TWO_EPOCHS


def test_the_time_of_trials_together_is_measured_whether_they_can_be_batched_or_not():
    together, other, alone = config_of(), config_of(batch_size=700), config_of(**{"model.dropout": 0.5})
    assert 0 < epoch_s([together, together, other, alone]) < 60
