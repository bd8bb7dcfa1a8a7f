"""Modules of the benchmarks, imported from their folders; they leave with the tests, as their names are short."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

EVIDENCE = Path(__file__).parents[2] / "benchmarks/evidence"
PEERS = Path(__file__).parents[2] / "benchmarks/peers"


@contextmanager
def imports_from(folder, *further):
    """Import modules of a folder, which is looked in first; they and those of further folders leave with the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module
    own = {path.stem for each in (folder, *further) for path in each.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        sys.modules.pop(name)


@pytest.fixture
def evidence():
    """Return the command's module."""
    with imports_from(EVIDENCE) as imported:
        yield imported("evidence")


@pytest.fixture
def dose(evidence):
    """Return the modules of the section on doses."""
    parts = ("doses", "grid", "page", "questions")
    own = {name: importlib.import_module(f"sections.dose.{name}") for name in parts}
    return SimpleNamespace(section=evidence.load("dose"), evidence=evidence, **own)


@pytest.fixture(scope="module")
def peers():
    """Return a function that imports a module of the peers."""
    with imports_from(PEERS, PEERS.parent / "scheduling") as imported:
        yield imported


@pytest.fixture
def module(request):
    """Return a function that imports a module of the ``FOLDER`` of the tests' module."""
    with imports_from(request.module.FOLDER) as imported:
        yield imported
