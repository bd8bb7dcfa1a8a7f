"""Trials are compared at equal epochs, and a difference that can be chance is said to be that."""

import json
import random
import struct
from pathlib import Path
from statistics import NormalDist, correlation

import planted_sweeps as planted
import pytest

from orchestrator.analysis.comparison import images
from orchestrator.analysis.comparison.comparison import compare
from orchestrator.analysis.comparison.effects import bootstrap_mean, effects
from orchestrator.analysis.comparison.epochs import comparable_epoch, epoch_of_best
from orchestrator.analysis.comparison.importance import importances
from orchestrator.analysis.figures.registry import draw
from orchestrator.analysis.leaderboard import by_epoch, comparison_lines
from orchestrator.errors import SpecError
from orchestrator.state.sweep_folder import SweepFolder
from trainables.evaluation.core.intervals import wilson

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/comparison_vectors.json").read_text())
"""Made with statsmodels and scipy by vectors/make_comparison_vectors.py."""
SPEC = planted.SPEC.replace("num_trials: 48", "num_trials: NUMBER")


@pytest.fixture(scope="module")
def misleading(tmp_path_factory):
    return planted.misleading(tmp_path_factory.mktemp("misleading"))


def swept(tmp_path, number, *, stop, curve=lambda _, epoch: {"val/accuracy": 0.5 + epoch / 100}):
    return planted.write(SweepFolder(tmp_path / "results" / "s-1"), SPEC.replace("NUMBER", str(number)), curve, stop)


def at_last_epochs(result):
    """What a chart of the last epoch of each trial compares."""
    return {trial.id: trial.last("val/accuracy") for trial in result.state.trials.values()}


def with_alpha(result, values):
    some = [name for name in values if planted.alpha(result.state.trials[name].point)]
    return correlation([planted.alpha(result.state.trials[name].point) for name in some], [values[n] for n in some])


def test_at_equal_epochs_alpha_helps_where_the_last_epochs_say_the_opposite(misleading):
    compared = compare(misleading.plan, misleading.state, epoch=3)
    assert with_alpha(misleading, compared.values) > 0.5
    assert with_alpha(misleading, at_last_epochs(misleading)) < -0.2


def test_the_default_slice_of_alpha_rises(misleading):
    points = next(trace for trace in draw(misleading, "slice").data if trace.mode == "markers")
    on = [(x, y) for x, y in zip(points.x, points.y, strict=True) if x >= 0]
    epoch = comparable_epoch(misleading.plan, misleading.state)
    reached = [trial for trial in misleading.state.trials.values() if epoch in trial.epochs]
    assert len(points.x) == len(reached)
    assert correlation([x for x, _ in on], [y for _, y in on]) > 0.5


def test_the_effect_of_alpha_is_positive_at_equal_epochs_and_negative_at_the_last_ones(misleading):
    compared = compare(misleading.plan, misleading.state, epoch=3)
    parts = effects(misleading.plan, misleading.state, compared)
    (alone,) = (part for part in parts if part.methods == "mixup.alpha")
    assert alone.interval[0] > 0
    last = at_last_epochs(misleading)
    assert sum(last[name] - last["t000"] for name in alone.differences) < 0


def test_importance_at_equal_epochs_is_alphas_and_at_the_last_ones_that_of_what_stops_trials(misleading):
    compared = compare(misleading.plan, misleading.state, epoch=3)
    fanova, ped_anova = importances(misleading.plan, misleading.state, compared)
    assert fanova.shares["mixup.alpha: strength"] > 0.7
    assert fanova.intervals["mixup.alpha: strength"][0] > 0.5
    assert "mixup.alpha: strength" in list(ped_anova.shares)[:2]
    for part in (fanova, ped_anova):
        assert all(low <= high for low, high in part.intervals.values())
        assert sum(part.shares.values()) == pytest.approx(1)
    mixed = type(compared)(**{**vars(compared), "values": at_last_epochs(misleading)})
    assert next(iter(importances(misleading.plan, misleading.state, mixed)[0].shares)) == "batch_size"


def test_the_default_figure_of_importance_puts_alpha_first_where_the_last_epochs_put_what_stops_trials(misleading):
    fanova = next(trace for trace in draw(misleading, "importance").data if trace.type == "bar")
    shares = dict(zip(fanova.y, fanova.x, strict=True))
    assert max(shares, key=shares.get) == "mixup.alpha: strength"
    assert "batch_size" not in shares  # all trials with a small batch were stopped before
    compared = compare(misleading.plan, misleading.state)
    mixed = type(compared)(**{**vars(compared), "values": at_last_epochs(misleading)})
    control, _ = importances(misleading.plan, misleading.state, mixed)
    assert control.shares["batch_size"] > 2 * control.shares["mixup.alpha: strength"]


def test_the_epoch_of_comparison_is_the_highest_that_twelve_trials_reached(tmp_path):
    count = iter(range(40))
    result = swept(tmp_path, 20, stop=lambda _: (None, 9, 3)[next(count) // 7])
    assert [sum(epoch in t.epochs for t in result.state.trials.values()) for epoch in (3, 9, 27)] == [20, 15, 8]
    assert comparable_epoch(result.plan, result.state) == 9
    assert len(compare(result.plan, result.state).greyed) == 5


def test_of_fewer_than_twelve_trials_half_are_enough(tmp_path):
    count = iter(range(40))
    result = swept(tmp_path, 8, stop=lambda _: None if next(count) < 3 else 3)
    assert comparable_epoch(result.plan, result.state) == 27
    assert len(compare(result.plan, result.state).values) == 4


def test_the_best_is_compared_at_the_epoch_of_its_own_value(misleading):
    state, plan = misleading.state, misleading.plan
    best = state.best(plan.spec.objective)
    compared = compare(plan, state, epoch=epoch_of_best(plan, state))
    assert compared.best == best.id
    assert compared.values[best.id] == best.score(plan.spec.objective)


def test_the_leaderboard_ranks_trials_of_equal_epochs_among_themselves(misleading):
    board = by_epoch(misleading.state, misleading.plan.spec.objective)
    keys = [(-trial.epoch, -trial.last("val/accuracy")) for trial in board]
    assert keys == sorted(keys)
    assert board[0] == misleading.state.best(misleading.plan.spec.objective)
    by_value = misleading.state.ranked(misleading.plan.spec.objective)
    assert len(by_value) == len(board)


@pytest.mark.parametrize("number", [40, 256, 359, 360, 10_000])
def test_the_number_of_images_follows_from_the_accuracies(number):
    rng = random.Random(number)
    counts = [rng.randrange(int(0.8 * number), number) for _ in range(30)]
    assert images.num_images([count / number for count in counts]) == number
    single = [struct.unpack("f", struct.pack("f", count / number))[0] for count in counts]
    assert images.num_images(single) == number


def test_values_that_are_no_shares_of_images_have_no_number():
    rng = random.Random(0)
    assert images.num_images([rng.random() for _ in range(50)]) is None
    assert images.num_images([0.5, 0.75, 0.25]) is None


@pytest.mark.parametrize("rivals", [1, 47])
def test_trials_that_differ_by_a_few_images_are_never_apart(rivals):
    assert not any(images.is_apart(10_000, 10_000 - few, images=10_000, rivals=rivals) for few in range(5))
    assert images.is_apart(9_500, 9_000, images=10_000, rivals=rivals)


@pytest.mark.parametrize("case", VECTORS["wilson"], ids=lambda case: f"{case['hits']} of {case['images']}")
def test_one_sided_wilson_ends_are_those_of_statsmodels(case):
    ends = wilson(case["hits"], case["images"], z=NormalDist().inv_cdf(1 - case["level"]))
    assert ends == pytest.approx(case["interval"], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("rivals", [1, 7, 47])
def test_trials_are_apart_where_newcombes_interval_and_the_paired_test_of_statsmodels_say_so(rivals):
    cases = [case for case in VECTORS["separated"] if case["rivals"] == rivals]
    ours = [images.is_apart(case["best"], case["hits"], images=case["images"], rivals=rivals) for case in cases]
    assert ours == [case["is_apart"] for case in cases]
    assert {True, False} == set(ours)


@pytest.mark.parametrize("case", VECTORS["effects"], ids=lambda case: f"{len(case['values'])} trials")
def test_the_interval_of_an_effect_is_scipys_percentile_bootstrap(case):
    low, high = bootstrap_mean(dict(enumerate(case["values"])), seed=5)
    width = case["interval"][1] - case["interval"][0]
    assert (low, high) == pytest.approx(case["interval"], abs=0.06 * width)  # ours has 2,000 resamples


def called_worse(seed, *, trials, rivals, number=360):
    """Simulate equal trials; return True if the first is called worse than the best of them."""
    rng = random.Random(seed)
    hits = [sum(rng.random() < 0.9 for _ in range(number)) for _ in range(trials)]
    return images.is_apart(max(hits), hits[0], images=number, rivals=rivals)


def test_of_equal_trials_a_given_one_is_called_worse_at_less_than_the_nominal_rate():
    sweeps, trials = 300, 24
    wrong = sum(called_worse(seed, trials=trials, rivals=trials - 1) for seed in range(sweeps))
    naive = sum(called_worse(seed, trials=trials, rivals=1) for seed in range(sweeps))
    assert wrong <= images.SIGNIFICANCE * sweeps < naive


def test_the_set_is_named_with_ties_the_interval_and_what_was_left_out(tmp_path):
    values = {"t000": 351, "t001": 354, "t002": 354, "t003": 300, "t004": 320}
    names = iter(values)
    offset = {}

    def curve(point, epoch):
        name = offset.setdefault(id(point), next(names) if id(point) not in offset else None)
        return {"val/accuracy": (values[name] - (27 - epoch)) / 360}

    stops = iter([None, None, None, 3])
    result = swept(tmp_path, 5, stop=lambda _: next(stops), curve=curve)
    names = "t001, t002, t000 (baseline)"
    assert comparison_lines(result.plan, result.state) == [
        f"3 of 4 trials cannot be told apart from the best at 360 validation images, epoch 27: {names}",
        "t001 0.9833 at epoch 27 (95 %: 0.9641 to 0.9923)",
        "equal at the top: t001, t002",
        "not compared, without a value at epoch 27: 1 trials",
    ]


def test_without_images_only_equal_values_are_named_and_the_reason_is(tmp_path):
    text = SPEC.replace("NUMBER", "4") + "objective: {metric: val/nll, mode: min}\n"
    result = planted.write(
        SweepFolder(tmp_path / "results" / "s-1"),
        text,
        lambda point, epoch: {"val/nll": 1 / epoch + point["optimizer.lr"]},
        lambda _: None,
    )
    compared = compare(result.plan, result.state)
    assert compared.images is None
    assert compared.sentence().startswith("1 of 4 trials has the best value at epoch 27: ")
    assert "no interval: the log does not show on how many images val/nll was measured" in compared.notes()[0]


def test_an_epoch_that_no_trial_measured_is_refused(misleading):
    with pytest.raises(SpecError, match="epoch: must be one that a trial measured val/accuracy at, got 99"):
        compare(misleading.plan, misleading.state, epoch=99)
