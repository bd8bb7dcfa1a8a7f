"""The command of the evidence, and the modules of the peers, imported from their folders."""

import importlib
import sys
from pathlib import Path

import pytest

EVIDENCE = Path(__file__).parents[2] / "benchmarks/evidence"
PEERS = Path(__file__).parents[2] / "benchmarks/peers"


@pytest.fixture
def evidence(monkeypatch):
    """Return the command's module; its neighbours leave with it, as their names are short."""
    monkeypatch.syspath_prepend(EVIDENCE)
    yield importlib.import_module("evidence")
    own = {path.stem for path in EVIDENCE.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def peers():
    """Return a function that imports a module of the peers; they leave with the tests, as their names are short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PEERS)
        yield importlib.import_module
    own = {path.stem for folder in (PEERS, PEERS.parent / "scheduling") for path in folder.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        sys.modules.pop(name)
