"""The audit, on sweeps whose false stops are known."""

import math
import random

import pytest

from orchestrator.analysis.audit import audit, spearman, wilson

SPEC = """
name: audited
trial: {epochs: 9, optimizer.name: sgd}
space: {parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}}
search: {num_trials: 60, seed: SEED, sampler: random}
scheduler: {grace_period: 1, reduction_factor: 3, kind: KIND, audit: SHARE}
"""


def swept(virtual_sweep, *, kind="stopping", share="1.0", seed=0, metrics=None):
    text = SPEC.replace("SHARE", share).replace("SEED", str(seed)).replace("KIND", kind)
    return virtual_sweep(text, metrics=metrics)


def faithful(point, epoch):
    return {"val/accuracy": epoch / 10 + point["optimizer.lr"] / 100}


def misleading(point, epoch):
    """Rank at the rungs in reverse of the end."""
    lead = point["optimizer.lr"] / 100
    return {"val/accuracy": epoch / 10 + (lead if epoch < 9 else -lead)}


@pytest.mark.parametrize("kind", ["stopping", "promotion"])
def test_where_rungs_rank_as_the_end_does_nothing_was_lost(virtual_sweep, kind):
    sweep = swept(virtual_sweep, kind=kind, metrics=faithful)
    report = audit(sweep.plan, sweep.state)
    assert report.audited == report.rejected > 20
    assert report.false_stops == 0
    assert report.regret.value == 0.0
    assert {round(correlation.value, 9) for correlation in report.rank_correlation.values()} == {1.0}


def test_where_rungs_mislead_the_audit_says_so(virtual_sweep):
    sweep = swept(virtual_sweep, metrics=misleading)
    report = audit(sweep.plan, sweep.state)
    assert report.false_stop_rate.value > 0.5
    assert report.regret.value > 0
    assert {round(correlation.value, 9) for correlation in report.rank_correlation.values()} == {-1.0}
    assert "beat the best kept" in report.lines()[0]


def test_a_share_of_the_rejected_is_sampled_blind_and_audited(virtual_sweep):
    shares = []
    for seed in range(5):
        sweep = swept(virtual_sweep, share="0.3", seed=seed, metrics=faithful)
        report = audit(sweep.plan, sweep.state)
        shares.append(report.audited / report.rejected)
    assert 0.15 < sum(shares) / len(shares) < 0.45


def test_without_an_audit_the_report_says_that_nothing_was_measured(virtual_sweep):
    sweep = swept(virtual_sweep, share="0.0", metrics=faithful)
    report = audit(sweep.plan, sweep.state)
    assert (report.audited, report.false_stops) == (0, 0)
    assert math.isnan(report.false_stop_rate.value)
    assert report.lines() == [f"audit: none of {report.rejected} rejected trials has run to its end"]


def test_the_interval_of_the_rate_holds_the_true_rate_about_19_times_in_20():
    rng, held = random.Random(0), 0
    for _ in range(2_000):
        rate = wilson(sum(rng.random() < 0.2 for _ in range(25)), 25)
        held += rate.low <= 0.2 <= rate.high
    assert 0.91 < held / 2_000 < 0.98


def test_spearman_agrees_with_scipy():
    from scipy.stats import spearmanr

    rng = random.Random(1)
    pairs = [(float(rng.randint(0, 6)), float(rng.randint(0, 6))) for _ in range(40)]
    assert spearman(pairs) == pytest.approx(spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)
    assert math.isnan(spearman([(1.0, 2.0), (1.0, 3.0)]))
