"""The command of the evidence, imported from its folder."""

import importlib
import sys
from pathlib import Path

import pytest

EVIDENCE = Path(__file__).parents[2] / "benchmarks/evidence"


@pytest.fixture
def evidence(monkeypatch):
    """Return the command's module; its neighbours leave with it, as their names are short."""
    monkeypatch.syspath_prepend(EVIDENCE)
    yield importlib.import_module("evidence")
    own = {path.stem for path in EVIDENCE.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        sys.modules.pop(name)
