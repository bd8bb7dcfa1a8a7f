"""Pauses between attempts: random, growing, and never too long."""

import random

import pytest

from orchestrator.storage.backoff import JITTER, pause_s


@pytest.mark.parametrize(("failures", "limit_s"), [(1, 0.5), (2, 1.0), (5, 8.0), (7, 30.0), (100_000, 30.0)])
def test_a_pause_is_spread_from_zero_to_a_limit_that_doubles(failures, limit_s):
    rng = random.Random(0)
    pauses = [pause_s(failures, shortest_s=0.5, longest_s=30.0, rng=rng) for _ in range(2000)]
    assert 0 <= min(pauses) < 0.05 * limit_s
    assert 0.95 * limit_s < max(pauses) <= limit_s
    assert sum(pauses) / len(pauses) == pytest.approx(limit_s / 2, rel=0.05)


def test_the_shared_source_of_jitter_has_no_state_that_a_fork_could_copy():
    with pytest.raises(NotImplementedError):
        JITTER.getstate()
