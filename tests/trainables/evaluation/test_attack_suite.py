"""Attacks of growing strength: each stage against its attack, partly measured stages, and the suite."""

import pytest
import torch
from torch import nn

from trainables.attacks import evaluating
from trainables.config.trial import DataConfig, TrialConfig
from trainables.data import Split, load_splits, load_test
from trainables.evaluation.core.evaluation_attack import withstands
from trainables.evaluation.core.intervals import wilson
from trainables.evaluation.core.prediction import balanced_subset
from trainables.evaluation.core.results import EvaluationBudget, Subject
from trainables.evaluation.core.suites import suite_of
from trainables.evaluation.robustness import attack_suite
from trainables.evaluation.robustness.attack_stages import AccuracyUnderAttack, AttackStage
from trainables.evaluation.robustness.attack_suite import accuracy_under_attack, suite
from trainables.evaluation.robustness.gradient_ascent import ascent, start_noise
from trainables.tasks.classifier.training import train


@pytest.fixture(scope="module")
def honest():
    torch.set_num_threads(1)
    return train(TrialConfig.from_point({"epochs": 4, "model.name": "mlp"})).model


@pytest.fixture(scope="module")
def test_split():
    return load_test(DataConfig())


@pytest.fixture(scope="module")
def few(test_split):
    return balanced_subset(test_split, size=80)


def recorder():
    steps = []
    return steps, lambda what, fraction: steps.append((what, fraction))


def subject(model, split, **changes):
    splits = load_splits(DataConfig())
    return Subject(model, splits.train, splits.val, split, **{"epsilon": 0.1, **changes})


SMALL = EvaluationBudget(images=40, restart_images=10, distortion_images=1)


def test_a_fully_measured_sequence_is_counted_and_falls(honest, few):
    outcome = accuracy_under_attack(honest, few, epsilon=0.05, budget=EvaluationBudget())
    assert [stage.attack for stage in outcome.stages] == ["clean", "fgsm", "pgd-20", "pgd-50x10"]
    assert not any(stage.estimated for stage in outcome.stages)
    worst = [stage.worst for stage in outcome.stages]
    assert worst == sorted(worst, reverse=True)
    assert all(stage.worst == stage.at_most for stage in outcome.stages)
    assert all((stage.low, stage.high) == wilson(round(stage.worst * 80), 80) for stage in outcome.stages)
    assert outcome.limits == ("AA-lite did not run: the worst case is over FGSM and PGD alone",)


def test_metrics_are_named_by_attack_and_radius(honest, few):
    outcome = accuracy_under_attack(honest, few, epsilon=0.05, budget=EvaluationBudget()).metrics()
    names = ["fgsm", "pgd-20", "pgd-50x10", "worst", "worst-at-most"]
    assert list(outcome) == [f"robust/{name}@0.05" for name in names]
    assert outcome["robust/worst@0.05"] == outcome["robust/pgd-50x10@0.05"]


def test_the_restarts_break_what_ten_separate_attacks_break_together(honest, few):
    broken_by_any = torch.zeros(80, dtype=torch.bool)
    for restart in range(10):
        noise = start_noise(few, norm="linf", seed=0, purpose=f"pgd-50, restart {restart}")
        attack = ascent(honest, epsilon=0.1, norm="linf", steps=50, step_size=0.025, noise_NCHW=noise)
        broken_by_any |= ~withstands(few, attack)
    outcome = accuracy_under_attack(honest, few, epsilon=0.1, budget=EvaluationBudget())
    pgd_20 = ascent(
        honest,
        epsilon=0.1,
        norm="linf",
        steps=20,
        step_size=0.025,
        noise_NCHW=start_noise(few, norm="linf", seed=0, purpose="pgd-20"),
    )
    fgsm = ascent(honest, epsilon=0.1, norm="linf", steps=1, step_size=0.1)
    left = withstands(few, pgd_20) & withstands(few, fgsm) & ~broken_by_any
    assert outcome.stages[-1].worst == int(left.sum()) / 80


def test_partly_measured_restarts_give_an_estimate_and_an_upper_bound(honest, few):
    whole = accuracy_under_attack(honest, few, epsilon=0.1, budget=EvaluationBudget())
    part = accuracy_under_attack(honest, few, epsilon=0.1, budget=EvaluationBudget(restart_images=10))
    stage = part.stages[-1]
    assert (stage.attacked, stage.estimated) == (10, True)
    assert whole.stages[-1].worst <= stage.at_most <= part.stages[-2].worst
    assert stage.low <= stage.worst <= min(stage.at_most, stage.high)
    assert part.limits[0].startswith("restarts met 10 images, sampled from the ")
    assert part.table().rows[-1][-1] == "estimated"


def test_the_estimate_is_unbiased_and_the_bound_is_not():
    """Over all samples its mean is the number that restarts on all images would give."""
    generator = torch.Generator().manual_seed(0)
    survivors, total = torch.arange(80) < 50, 80
    breakable = torch.zeros(80, dtype=torch.bool).index_fill_(
        0, torch.randperm(50, generator=generator)[:20], value=True
    )
    truth = 30 / total
    estimates, bounds = [], []
    for seed in range(400):
        sample = attack_suite._sample(survivors, size=10, seed=seed)
        stage = attack_suite._restarted("x", 10, survivors & ~(breakable & sample), sample, before=50)
        estimates.append(stage.worst)
        bounds.append(stage.at_most)
    # One estimate deviates by 50 / 80 sqrt(0.4 0.6 / 10 40 / 49) = 0.087, so the mean of 400 by 0.0044.
    assert sum(estimates) / 400 == pytest.approx(truth, abs=0.015)
    assert sum(bounds) / 400 > truth + 0.15


def test_the_interval_of_an_estimate_covers_the_truth():
    generator = torch.Generator().manual_seed(1)
    covered = 0
    for seed in range(200):
        survivors = torch.rand(200, generator=generator) < 0.6
        robust = survivors & (torch.rand(200, generator=generator) < 0.7)
        sample = attack_suite._sample(survivors, size=30, seed=seed)
        stage = attack_suite._restarted("x", 30, survivors & (robust | ~sample), sample, before=int(survivors.sum()))
        covered += stage.low <= 0.42 <= stage.high
    assert covered >= 190


def test_without_restarts_the_stages_end_before_them_and_says_so(honest, few):
    outcome = accuracy_under_attack(honest, few, epsilon=0.1, budget=EvaluationBudget(restart_images=0))
    assert outcome.stages[-1].attack == "pgd-20"
    assert outcome.limits[0].startswith("restarts did not run")
    assert "robust/pgd-50x10@0.1" not in outcome.metrics()


def test_images_that_are_wrong_before_are_not_robust(honest, few):
    wrong = Split(few.images_NCHW, (few.labels_N + 1) % 10)
    outcome = accuracy_under_attack(honest, wrong, epsilon=0.1, budget=EvaluationBudget())
    assert outcome.stages[0].accuracy < 0.1
    assert outcome.stages[-1].worst <= outcome.stages[0].worst


def test_aa_lite_is_the_last_rung_where_the_budget_has_it(honest, few, monkeypatch):
    strong = attack_suite.aa_lite
    monkeypatch.setattr(attack_suite, "aa_lite", lambda *images, **named: strong(*images, steps=5, queries=20, **named))
    small = few.take(torch.arange(30))
    outcome = accuracy_under_attack(honest, small, epsilon=0.1, budget=EvaluationBudget(aa_lite=True))
    assert [stage.attack for stage in outcome.stages][-2:] == ["pgd-50x10", "aa-lite"]
    assert outcome.stages[-1].worst <= outcome.stages[-2].worst
    assert outcome.metrics()["robust/aa-lite@0.1"] == outcome.metrics()["robust/worst@0.1"]
    assert outcome.limits == ()


def test_autoattack_meets_what_withstood_and_has_its_own_name(honest, few, monkeypatch):
    strong = attack_suite.autoattack
    monkeypatch.setattr(
        attack_suite, "autoattack", lambda *images, **named: strong(*images, steps=5, queries=20, **named)
    )
    small = few.take(torch.arange(30))
    budget = EvaluationBudget(autoattack=True, restart_images=0)
    outcome = accuracy_under_attack(honest, small, epsilon=0.1, budget=budget)
    assert [stage.attack for stage in outcome.stages][-2:] == ["pgd-20", "autoattack"]
    assert outcome.stages[-1].attacked == round(outcome.stages[-2].worst * len(small))
    assert outcome.metrics()["robust/autoattack@0.1"] == outcome.metrics()["robust/worst@0.1"]
    assert not any("did not run: the worst case" in limit for limit in outcome.limits)


def test_autoattack_needs_four_classes(few):
    two = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    halves = Split(few.images_NCHW, few.labels_N % 2)
    budget = EvaluationBudget(autoattack=True, restart_images=0)
    outcome = accuracy_under_attack(two, halves, epsilon=0.1, budget=budget)
    assert "AutoAttack did not run: it needs 4 classes, got 2" in outcome.limits


def test_aa_lite_needs_four_classes(few):
    two = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    halves = Split(few.images_NCHW, few.labels_N % 2)
    outcome = accuracy_under_attack(two, halves, epsilon=0.1, budget=EvaluationBudget(aa_lite=True, restart_images=0))
    assert "AA-lite did not run: it needs 4 classes, got 2" in outcome.limits


def test_a_refused_claim_shows_no_number_but_the_clean_one(honest, few):
    outcome = accuracy_under_attack(
        honest, few, epsilon=0.1, budget=EvaluationBudget(), refusals=("black box: beats it",)
    )
    assert outcome.metrics() == {}
    rows = {row[0]: row for row in outcome.table().rows}
    assert isinstance(rows["clean"][2], float)
    assert all(set(rows[name][2:7]) == {"refused"} for name in ("fgsm", "pgd-20", "pgd-50x10"))
    plot = outcome.figure()
    assert "REFUSED" in plot.layout.title.text
    assert list(plot.data[0].x) == ["clean"]
    assert [note.text for note in plot.layout.annotations] == ["refused"] * 3


def test_a_weaker_attack_that_breaks_more_refuses_the_claim(honest, few):
    class Turned(torch.autograd.Function):
        """Gradients that point the right way at images and the wrong way elsewhere."""

        @staticmethod
        def forward(ctx, x):
            levels = x * 255
            ctx.exact = bool((levels - levels.round()).abs().max() < 1e-3)
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient if ctx.exact else -gradient

    class Overfitted(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = honest

        def forward(self, x):
            return self.model(Turned.apply(x))

    outcome = accuracy_under_attack(Overfitted(), few, epsilon=0.15, budget=EvaluationBudget(restart_images=0))
    assert [line.split(":")[0] for line in outcome.refusals] == ["fgsm and pgd-20, all images"]
    assert outcome.metrics() == {}


def test_the_figure_has_a_bar_and_an_interval_for_each_rung():
    stages = (
        AttackStage("clean", 9, 0.9, 0.9, 0.8, 1.0, 0.9, estimated=False),
        AttackStage("fgsm", 9, 0.5, 0.5, 0.3, 0.7, 0.5, estimated=False),
    )
    plot = AccuracyUnderAttack(0.1, "linf", 9, stages).figure()
    assert list(plot.data[0].y) == [0.9, 0.5]
    assert plot.data[0].error_y.array[1] == pytest.approx(0.2)
    assert plot.layout.title.text == "Accuracy under attack, linf ball of radius 0.1, 9 images"


def test_the_suite_is_found_by_name():
    assert suite_of("robust") is suite


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_suite_measures_an_honest_model(honest, test_split, norm):
    steps, record = recorder()
    epsilon = 0.1 if norm == "linf" else 0.8
    outcome = suite(subject(honest, test_split, epsilon=epsilon, norm=norm), SMALL, record)
    assert list(outcome) == ["masking", "ladder", "curve", "distortion"]
    assert all(result.refusals == () for result in outcome.values())
    metrics = {name: value for result in outcome.values() for name, value in result.metrics().items()}
    assert {f"robust/worst@{epsilon:g}", "robust/lbfgs_rms", f"robust/curve@{epsilon:g}"} <= metrics.keys()
    assert torch.tensor(list(metrics.values())).isfinite().all()
    cut = "test: 40 of 359 images, class-balanced"
    assert [result.limits[0] for result in outcome.values()] == [
        "red flags: 100 of 359 images, class-balanced",
        *[cut] * 3,
    ]
    fractions = [fraction for _, fraction in steps]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_curve_and_stages_meet_the_same_noise(honest, test_split):
    outcome = suite(subject(honest, test_split), SMALL, recorder()[1])
    metrics = outcome["ladder"].metrics() | outcome["curve"].metrics()
    assert metrics["robust/curve@0.1"] <= metrics["robust/pgd-20@0.1"]
    assert metrics["robust/curve@0.1"] >= metrics["robust/pgd-20@0.1"] - 2 / 40


def test_one_red_flag_takes_every_number_of_the_suite_with_it(honest, test_split):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = honest

        def forward(self, x):
            return 1e4 * self.model(x)

    outcome = suite(subject(Scaled(), test_split), SMALL, recorder()[1])
    assert outcome["masking"].metrics()["robust/red_flags"] >= 1
    for name in ("ladder", "curve", "distortion"):
        assert outcome[name].refusals[: len(outcome["masking"].refusals)] == outcome["masking"].refusals
        assert outcome[name].metrics() == {}


def test_the_suite_gives_equal_results_for_equal_seeds_and_leaves_the_model_alone(honest, test_split):
    before = {name: value.clone() for name, value in honest.state_dict().items()}
    honest.zero_grad()
    with evaluating(honest):
        honest.train()
        one, other = (suite(subject(honest, test_split, seed=7), SMALL, recorder()[1]) for _ in range(2))
        assert honest.training
    assert one == other
    assert all(torch.equal(value, before[name]) for name, value in honest.state_dict().items())
    assert all(parameter.grad is None for parameter in honest.parameters())


def test_a_subject_without_a_radius_is_refused(honest, test_split):
    with pytest.raises(ValueError, match=r"subject\.epsilon: must be finite and > 0 for the suite 'robust', got 0"):
        suite(subject(honest, test_split, epsilon=0.0), SMALL, recorder()[1])
