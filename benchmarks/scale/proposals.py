"""CPU time of one proposal by sampler, for a sweep that has as many trials as the one in a folder.

`scale.py` runs it in a process of its own, and it prints JSON: milliseconds by sampler, the mean of a few.
"""

import argparse
import json
import time
from pathlib import Path

from orchestrator.analysis.result import SweepResult
from orchestrator.decisions.propose import Proposer
from orchestrator.spec.model import SweepSpec
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState

SAMPLERS = ("random", "auto", "tpe")
TIMES = 3


def milliseconds(spec: SweepSpec, state: SweepState, sampler: str) -> float:
    """Return the CPU time of a proposal, without what is built once."""
    search = spec.search.model_copy(update={"sampler": sampler, "num_trials": 2 * len(state.trials)})
    proposer = Proposer(spec.model_copy(update={"search": search}), state)
    proposer.propose()
    took = []
    for _ in range(TIMES):
        state.changes.append(next(reversed(state.trials)))  # as if one more trial had reported
        began = time.process_time()
        proposer.propose()
        took.append(time.process_time() - began)
    return 1e3 * sum(took) / TIMES


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    result = SweepResult.read(find_sweep(parser.parse_args().folder))
    costs = {f"{name}_ms": milliseconds(result.plan.spec, result.state, name) for name in SAMPLERS}
    print(json.dumps(costs))


if __name__ == "__main__":
    main()
