"""Real sweeps in batches, with one worker: specs, faults to plant, the command, and what is read of them."""

import os

from process_sweeps import PROCESSES, mark_of, ravel
from sweep_evidence import Evidence
from sweep_invariants import violations

from orchestrator.state.sweep_lookup import find_sweep

ONE_CORE = {"SLURM_CPUS_PER_TASK": "1"}
"""One worker, so that the order of what is measured is that of the lanes."""
SLOW = """
name: slow
trial: {data.name: digits, model.name: mlp, epochs: 6, optimizer.name: sgd}
space: {use: [mixup]}
search: {num_trials: 4}
scheduler: {name: none}
evaluation: {robust_epsilon: 0.0}
resources: {batch: 4}
"""
UNLIKE = """
name: unlike
trial: {data.name: digits, model.name: mlp, epochs: 2, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {batch_size: {choice: [64, 128]}, mixup.detached: {choice: [true, false]}}
search:
  num_trials: 6
  sampler: random
  points:
    - {batch_size: 64, mixup.alpha: 1.0, mixup.layers: hidden, mixup.detached: true}
    - {batch_size: 64, mixup.alpha: 1.0, mixup.layers: hidden, mixup.detached: false}
    - {batch_size: 64, mixup.alpha: 0.5, mixup.layers: hidden, mixup.detached: false}
    - {batch_size: 128, mixup.alpha: 0.5, mixup.layers: hidden, mixup.detached: false}
scheduler: {name: none}
evaluation: {robust_epsilon: 0.0}
resources: {batch: 4}
"""
SLOWLY = """
def before_epoch(loop):
    time.sleep(0.2)
"""


def one_worker(folder, variables=os.environ):
    """Return the variables of a sweep with one worker, each of whose processes has the mark of a folder."""
    return {**variables, **ONE_CORE, **mark_of(folder)}


def launched(folder, spec, variables=None, code=0):
    """Launch a sweep in a folder, and return what it printed."""
    (folder / "spec.yaml").write_text(spec)
    variables = variables or one_worker(folder)
    return ravel("launch", "spec.yaml", "--id", "sweep-1", *PROCESSES, cwd=folder, environment=variables, code=code)


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def assert_invariants(folder, before=()):
    broken = violations(Evidence.read(find_sweep(folder / "results"), folder / "mlflow.db", before=tuple(before)))
    assert broken == {}, broken
