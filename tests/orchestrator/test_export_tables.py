"""Tables of a sweep as CSV and Parquet: exact, in a stable order, and safe to open."""

import csv
import io
import math
import shutil
from pathlib import Path

import pytest
import varied_sweep as varied

from orchestrator.export import registry
from orchestrator.export.csv_files import csv_text
from orchestrator.export.history import SweepHistory
from orchestrator.export.parquet_files import column_type, parquet_bytes
from orchestrator.export.tables import Table, tables
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.events import EpochReported
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState


@pytest.fixture
def folder(tmp_path):
    return varied.write(tmp_path)


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def exported(folder, **arguments):
    """The two tables as a reader of CSV gets them, rows by trial and by (trial, epoch)."""
    place = registry.export(folder, "csv", folder.path.parent.parent / "tables", **arguments).path
    texts = [(place / name).read_bytes().decode() for name in ("trials.csv", "reports.csv")]
    trials, reports = map(rows_of, texts)
    return {row["trial"]: row for row in trials}, {(row["trial"], int(row["epoch"])): row for row in reports}


def test_each_number_of_a_csv_reads_back_as_the_number_in_the_log(folder):
    trials, reports = exported(folder)
    logged = [event for event, _ in read_events(folder.events) if isinstance(event, EpochReported)]
    for event in logged:
        row = reports[event.trial, event.epoch]
        assert float(row["time"]) == event.time
        measured = {name: value for name, value in event.metrics.items() if value is not None}
        assert {name: float(row[f"metrics.{name}"]) for name in measured} == measured
    assert len(logged) == len(reports) == 36
    assert float(trials["t001"]["params.optimizer.lr"]) == 0.1 + 0.2
    assert float(trials["t001"]["objective.val/accuracy"]) == 1 / 3 + 0.5


def test_a_metric_that_was_not_finite_is_nan_and_one_that_was_not_measured_is_empty(folder):
    _, reports = exported(folder)
    assert reports["t005", 2]["metrics.val/accuracy"] == "nan"
    assert reports["t001", 1]["metrics.val/ece"] == "nan"
    assert reports["t001", 2]["metrics.val/ece"] == ""


def test_infinities_survive_in_both_formats():
    pq = pytest.importorskip("pyarrow.parquet")
    table = Table("t", {"metrics.a": [math.inf, -math.inf, math.nan, None, 5e-324], "epoch": [1, 2, 3, 4, 5]})
    assert [row["metrics.a"] for row in rows_of(csv_text(table))] == ["inf", "-inf", "nan", "", "5e-324"]
    column = pq.read_table(io.BytesIO(parquet_bytes(table, {})))["metrics.a"].to_pylist()
    assert column[:2] + column[3:] == [math.inf, -math.inf, None, 5e-324]
    assert math.isnan(column[2])


def test_columns_are_parameters_then_objectives_then_the_rest(folder):
    trials, reports = tables(SweepHistory.read(folder))
    assert list(trials.columns) == [
        "trial",
        "state",
        *(
            f"params.{name}"
            for name in (
                "optimizer.name",
                "optimizer.lr",
                "optimizer.momentum",
                "mixup.alpha",
                "snnl.weight",
                "batch_size",
                "adversarial.steps",
                "adversarial.epsilon",
            )
        ),
        "objective.val/accuracy",
        "objective_epoch",
        "epoch",
        "budget",
        "rung",
        "origin",
        "seed",
        "attempts",
        "failed_attempts",
        "created_at",
        "started_at",
        "ended_at",
        "training_s",
        "gpu_s",
        "cause",
        "reason",
        *(f"metrics.{name}" for name in ("val/accuracy", "cost/gpu_s", "time/epoch_s", "val/ece", "val/nll")),
        "config",
    ]
    metrics = [f"metrics.{name}" for name in ("val/accuracy", "cost/gpu_s", "time/epoch_s", "val/ece", "val/nll")]
    assert list(reports.columns) == ["trial", "epoch", *metrics, "attempt", "since_restore", "time", "host"]


def test_the_order_of_columns_does_not_depend_on_what_was_reported_first(tmp_path):
    first = varied.write(tmp_path / "a")
    trials = dict(reversed(varied.TRIALS.items()))
    second = varied.write(tmp_path / "b", trials=trials)
    columns = [[list(table.columns) for table in tables(SweepHistory.read(folder))] for folder in (first, second)]
    assert columns[0] == columns[1]


def test_a_trial_has_its_state_times_costs_seed_and_reason(folder):
    trials, _ = exported(folder)
    assert {name: row["state"] for name, row in trials.items()} == {
        name: status for name, (_, status, _) in varied.TRIALS.items()
    }
    row = trials["t002"]
    assert (row["training_s"], row["gpu_s"], row["epoch"], row["budget"]) == ("4.5", "2.25", "9", "9")
    assert float(row["ended_at"]) - float(row["created_at"]) == pytest.approx(50)
    assert int(row["seed"]) > 0
    assert trials["t003"]["rung"] == "3"
    assert (trials["t006"]["attempts"], trials["t006"]["failed_attempts"], trials["t006"]["cause"]) == (
        "2",
        "1",
        "user",
    )
    assert [trials[name]["ended_at"] for name in ("t004", "t007", "t008")] == ["", "", ""]  # they may continue


def test_a_text_for_people_is_no_formula_and_a_value_is_never_changed(tmp_path):
    trials = {"t001": ({**varied.SGD, **varied.REST}, "failed", [])}
    reason = exported(varied.write(tmp_path, trials=trials))[0]["t001"]["reason"]
    assert reason == "'" + varied.REASON
    table = Table("t", {"params.a": ["=1+1", "-5", "@x"], "params.b": [-5, -0.5, None]})
    assert [row["params.a"] for row in rows_of(csv_text(table))] == ["=1+1", "-5", "@x"]
    assert [row["params.b"] for row in rows_of(csv_text(table))] == ["-5", "-0.5", ""]


def test_values_that_a_spreadsheet_takes_for_formulas_are_named(tmp_path, monkeypatch):
    folder = varied.write(tmp_path)
    monkeypatch.setitem(varied.TRIALS["t001"][0], "optimizer.name", "sgd")  # none so far
    assert registry.export(folder, "csv", tmp_path / "a").notes == ()
    point = {**varied.SGD, **varied.REST, "adversarial.attack": "=evil"}
    other = varied.write(tmp_path, name="varied-2", trials={"t001": (point, "failed", [])})
    (note,) = registry.export(other, "csv", tmp_path / "b").notes
    assert note.startswith("trials.csv: params.adversarial.attack: a spreadsheet may take")


def test_with_an_epoch_objectives_are_those_of_that_epoch_alone(folder):
    trials, _ = exported(folder, epoch=3)
    values = {name: row["objective.val/accuracy"] for name, row in trials.items() if row["objective.val/accuracy"]}
    assert values == {"t000": "0.3", "t001": "0.4", "t002": "0.45", "t003": "0.9", "t004": "0.2"}
    assert trials["t002"]["metrics.val/nll"] == repr(1.0 - 3 / 10)
    assert trials["t007"]["objective_epoch"] == ""


def test_an_epoch_that_was_reported_twice_counts_once_as_in_the_sweep_state(folder):
    again = {"trial": "t003", "attempt": 2, "epoch": 3, "since_restore": 1, "metrics": {"val/accuracy": 0.1}}
    with EventLog(folder.events) as log:
        log.append(EpochReported(time=1.8e9, **again))
    trials, reports = exported(folder)
    assert reports["t003", 3]["metrics.val/accuracy"] == trials["t003"]["objective.val/accuracy"] == "0.9"


def test_parquet_has_the_cells_of_the_csv_with_their_types(folder):
    pq = pytest.importorskip("pyarrow.parquet")
    place = registry.export(folder, "parquet", folder.path.parent / "parquet").path
    for table in tables(SweepHistory.read(folder)):
        read = pq.read_table(place / f"{table.name}.parquet")
        assert read.column_names == list(table.columns)
        for name, cells in table.columns.items():
            column = read[name].to_pylist()
            assert [repr(cell) for cell in column] == [_repr(cell, column_type(cells)) for cell in cells], name
    types = {field.name: str(field.type) for field in pq.read_schema(place / "trials.parquet")}
    assert types["params.batch_size"] == types["params.adversarial.steps"] == "int64"
    assert types["params.optimizer.lr"] == types["created_at"] == "double"
    assert types["reason"] == types["trial"] == "string"


def _repr(cell, kind):
    return repr(float(cell) if kind == "float64" and cell is not None else cell)


def test_a_parquet_column_of_several_types_has_json_texts():
    pq = pytest.importorskip("pyarrow.parquet")
    table = Table("t", {"params.a": [1, "auto", True, None, 0.5]})
    column = pq.read_table(io.BytesIO(parquet_bytes(table, {})))["params.a"].to_pylist()
    assert column == ["1", '"auto"', "true", None, "0.5"]


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
def test_logs_of_earlier_formats_are_exported(tmp_path, version):
    assets, folder = Path(__file__).parent / "assets", SweepFolder(tmp_path / "results" / "old-1")
    shutil.copytree(assets / "plan_v1", folder.path)
    shutil.copy(assets / f"events_v{version}.jsonl", folder.events)
    state = SweepState.read(folder.events)
    trials, reports = exported(folder)
    assert list(trials) == list(state.trials)
    assert len(reports) == state.epochs_run
    assert registry.export(folder, "optuna", tmp_path / "study.db").path.read_bytes().startswith(b"SQLite format 3")


def test_a_sweep_without_a_trial_has_tables_without_rows(tmp_path):
    folder = varied.write(tmp_path, trials={"t001": varied.TRIALS["t008"]})
    trials, reports = exported(folder)
    assert list(trials) == ["t001"]
    assert reports == {}
