"""Mutated specs: each is accepted or refused with messages of a line, within a time limit, without a traceback.

The seeds are fixed. An ordinary run takes a tenth of them, `make fuzz` (RAVEL_FUZZ=all) every one.
"""

import contextlib
import importlib.util
import os
import signal
from pathlib import Path

import pytest

from orchestrator.errors import MAX_LINE_LENGTH, SpecError
from orchestrator.planning.loading import parse_spec
from orchestrator.spec.model import SweepSpec

BATCH = 100
BATCHES = range(20) if os.environ.get("RAVEL_FUZZ") == "all" else range(2)
LIMIT_S = 5

_module = importlib.util.spec_from_file_location("spec_mutations", Path(__file__).with_name("spec_mutations.py"))
mutations = importlib.util.module_from_spec(_module)
_module.loader.exec_module(mutations)


@pytest.fixture(scope="module")
def texts(repository):
    return [(repository / "examples" / f"{name}.yaml").read_text() for name in ("digits", "gan", "mnist")]


@contextlib.contextmanager
def at_most(seconds):
    """Raise after so long, and set pytest's own alarm for the rest of its time afterwards."""

    def stop(*_):
        raise TimeoutError(f"longer than {seconds} s")

    handler = signal.signal(signal.SIGALRM, stop)
    rest, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, rest)


def outcome(text):
    """Return None for a spec that is answered as it must be, else the fault."""
    try:
        with at_most(LIMIT_S):
            parse_spec(text)
    except SpecError as error:
        lines = str(error).split("\n")
        return next((f"no message of a line: {line!r}" for line in lines if not 0 < len(line) <= MAX_LINE_LENGTH), None)
    except Exception as error:  # noqa: BLE001  any of them is the fault that is looked for
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("batch", BATCHES)
def test_a_mutated_spec_is_accepted_or_refused_in_a_line(batch, texts):
    fields = list(mutations.fields_of(SweepSpec))
    seeds = range(batch * BATCH, (batch + 1) * BATCH)
    faults = {seed: outcome(mutations.mutated(texts, fields, seed)) for seed in seeds}
    assert {seed: fault for seed, fault in faults.items() if fault} == {}


def test_the_same_seed_gives_the_same_mutation(texts):
    fields = list(mutations.fields_of(SweepSpec))
    mutants = [mutations.mutated(texts, fields, seed) for seed in range(50)]
    assert mutants == [mutations.mutated(texts, fields, seed) for seed in range(50)]
    assert len(set(mutants)) > 45
