"""Recording of learning curves, `benchmarks/scheduling/record.py`."""

import gzip
import importlib
import json
import sys
from itertools import combinations
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from trainables.evaluation.core import validation

FOLDER = Path(__file__).parents[1] / "benchmarks" / "scheduling"


@pytest.fixture
def record(monkeypatch, tmp_path):
    """Return the module, which keeps its tables in a folder of the test's and trains in this process."""
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module("record")
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "_pool", ThreadPool)
    monkeypatch.setattr(validation, "ENTANGLEMENT_IMAGES", validation.ENTANGLEMENT_IMAGES)  # record() changes it
    small = module._on("digits", "mlp", 0.1, width=0.125, images=20, steps=1, fraction=0.1)
    monkeypatch.setattr(module, "TABLES", {"small": module.Table("development", small, epochs=2)})
    yield module
    for name in ("record", "describe", "images"):
        sys.modules.pop(name, None)


def run(record, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["record.py", *arguments])
    record.main()


def document(folder):
    return json.loads(gzip.decompress((folder / "small.json.gz").read_bytes()))


def test_a_recording_continues_from_its_packed_lines_and_trains_nothing_twice(record, monkeypatch, tmp_path):
    run(record, monkeypatch, "small", "--points", "2", "--processes", "1")
    first = document(tmp_path)
    (tmp_path / "small.json.gz").unlink()  # as if it had been stopped before it was written
    run(record, monkeypatch, "--pack")
    (tmp_path / "small.jsonl").unlink()

    run(record, monkeypatch, "small", "--points", "3", "--processes", "1")

    trained = [json.loads(line)["trial"] for line in (tmp_path / "small.jsonl").read_text().splitlines()]
    assert trained == ["p002-s0"]
    assert document(tmp_path)["trials"][:2] == first["trials"]
    assert [len(trial["curves"]["val/nll"]) for trial in document(tmp_path)["trials"]] == [2, 2, 2]
    assert not (tmp_path / "small.jsonl.gz").exists()


@pytest.mark.parametrize("kept", ["small.json.gz", "small.jsonl"])
def test_trials_of_other_settings_do_not_mix(record, monkeypatch, tmp_path, kept):
    run(record, monkeypatch, "small", "--points", "1", "--processes", "1")
    for path in tmp_path.iterdir():
        if path.name != kept:
            path.unlink()
    monkeypatch.setitem(record.TABLES, "small", record.Table("development", record.TABLES["small"].fixed, epochs=3))

    with pytest.raises(SystemExit, match=rf"{kept}: .*must have the settings of TABLES\['small'\]"):
        run(record, monkeypatch, "small", "--points", "2", "--processes", "1")


def test_a_test_table_shares_neither_points_nor_published_images_with_development(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    tables = importlib.import_module("record").TABLES
    for one, other in combinations(tables.values(), 2):
        assert one.points_seed != other.points_seed
        if one.fixed["data.name"] == other.fixed["data.name"] != "digits":
            assert one.skip + one.images <= other.skip or other.skip + other.images <= one.skip
