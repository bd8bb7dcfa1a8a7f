"""The audit: what it says of sweeps whose truth is known."""

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
    """Who leads at the rungs ends last."""
    lead = point["optimizer.lr"] / 100
    return {"val/accuracy": epoch / 10 + (lead if epoch < 9 else -lead)}


@pytest.mark.parametrize("kind", ["stopping", "promotion"])
def test_where_rungs_rank_as_the_end_does_nothing_was_lost(virtual_sweep, kind):
    sweep = swept(virtual_sweep, kind=kind, metrics=faithful)
    found = audit(sweep.plan, sweep.state)
    assert found.audited == found.rejected > 20
    assert found.false_stops == 0
    assert found.regret.value == 0.0
    assert {round(each.value, 9) for each in found.rank_correlation.values()} == {1.0}


def test_where_rungs_mislead_the_audit_says_so(virtual_sweep):
    sweep = swept(virtual_sweep, metrics=misleading)
    found = audit(sweep.plan, sweep.state)
    assert found.false_stop_rate.value > 0.5
    assert found.regret.value > 0
    assert {round(each.value, 9) for each in found.rank_correlation.values()} == {-1.0}
    assert "beat the best kept" in found.lines()[0]


def test_a_share_of_the_rejected_is_audited_and_drawn_blind(virtual_sweep):
    shares = []
    for seed in range(5):
        sweep = swept(virtual_sweep, share="0.3", seed=seed, metrics=faithful)
        found = audit(sweep.plan, sweep.state)
        shares.append(found.audited / found.rejected)
    assert 0.15 < sum(shares) / len(shares) < 0.45


def test_without_an_audit_it_says_that_nothing_was_measured(virtual_sweep):
    sweep = swept(virtual_sweep, share="0.0", metrics=faithful)
    found = audit(sweep.plan, sweep.state)
    assert (found.audited, found.false_stops) == (0, 0)
    assert math.isnan(found.false_stop_rate.value)
    assert found.lines() == [f"audit: none of {found.rejected} rejected trials has run to its end"]


def test_the_interval_of_the_rate_holds_the_true_rate_about_19_times_in_20():
    chance, held = random.Random(0), 0
    for _ in range(2_000):
        found = wilson(sum(chance.random() < 0.2 for _ in range(25)), 25)
        held += found.low <= 0.2 <= found.high
    assert 0.91 < held / 2_000 < 0.98


def test_spearman_agrees_with_scipy():
    from scipy.stats import spearmanr

    chance = random.Random(1)
    pairs = [(float(chance.randint(0, 6)), float(chance.randint(0, 6))) for _ in range(40)]
    assert spearman(pairs) == pytest.approx(spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)
    assert math.isnan(spearman([(1.0, 2.0), (1.0, 3.0)]))
