"""Population based training: which member is over, what takes its place, and that a log repeats it."""

import pytest

from orchestrator.analysis.replay import replay
from orchestrator.state.events import TrialCreated, decode, encode

SPEC = """
name: population
trial: {epochs: 9, optimizer.name: sgd}
space:
  parameters:
    mixup.alpha: {float: [0.1, 2.0]}
    optimizer.lr: {float: [1.0e-3, 0.8], log: true}
search: {num_trials: 9, seed: 5, sampler: random}
scheduler: {name: pbt, interval: 2}
"""


@pytest.mark.parametrize("workers", [1, 2, 5, 9])
def test_a_population_replays_bit_for_bit_from_its_log(virtual_sweep, workers):
    sweep = virtual_sweep(SPEC, workers=workers)
    found = replay(sweep.plan, [decode(encode(event)) for event in sweep.events])
    assert found.differences == ()
    assert [event for event in sweep.events if isinstance(event, TrialCreated) and event.descent]
