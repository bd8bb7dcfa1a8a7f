"""The benchmark of scale: its file of results, its tables, and the log that it cuts in half."""

import json
import sys
from pathlib import Path

import pytest

from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.events import EpochReported, SweepEnded, SweepStarted, TrialCreated, TrialEnded
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState

FOLDER = Path(__file__).parents[2] / "benchmarks/scale"
MACHINE = {
    **dict.fromkeys(("processor", "system", "python", "ray", "torch", "optuna", "mlflow", "sqlalchemy"), "x"),
    "cores": 2,
    "memory_gb": 25,
    "busy_cores": 0.0,
}


@pytest.fixture
def row(module):
    def make(stage, size, *, busy=0.0, **values):
        return module("results").Row(stage, size, values, MACHINE | {"busy_cores": busy}, "abc")

    return make


def test_the_last_line_of_a_unit_counts(module, tmp_path, capsys):
    results = module("results").Results(tmp_path / "results.jsonl")
    for seconds in (3.0, 2.0):
        results.append("status", 50, {"seconds": seconds}, busy=0.1)
    results.append("replay", 50, {"seconds": 1.0}, busy=1.7)
    rows = results.rows()
    assert [(unit, rows[unit].values["seconds"], rows[unit].is_busy) for unit in sorted(rows)] == [
        (("replay", 50), 1.0, True),
        (("status", 50), 2.0, False),
    ]
    assert [json.loads(line)["size"] for line in capsys.readouterr().out.splitlines()] == [50, 50, 50]


@pytest.mark.parametrize(("line", "words"), [("{", "must be a line of JSON"), ('{"format": 9}', "must have format 1")])
def test_a_line_that_is_none_is_named(module, tmp_path, line, words):
    path = tmp_path / "results.jsonl"
    path.write_text(f"\n{line}\n".lstrip())
    with pytest.raises(ValueError, match=rf"results\.jsonl:1: {words}"):
        module("results").Results(path).rows()


def test_a_run_skips_what_is_measured_and_reads_a_sweep_before_it_is_removed(module, tmp_path, monkeypatch, capsys):
    scale, measured = module("scale"), []

    def measure(unit, work):
        folder = work / f"processes-{unit.size}"
        folder.mkdir(parents=True, exist_ok=True)
        measured.append((*unit, folder.exists()))
        return {"seconds": 1.0}

    monkeypatch.setattr(scale, "measure", measure)
    monkeypatch.setattr(scale, "busy_cores", lambda: 0.0)
    results, work = module("results").Results(tmp_path / "results.jsonl"), tmp_path / "work"
    chosen = scale.units(["processes", "status", "sync"], [50])
    assert [tuple(unit) for unit in chosen] == [("processes", 1), ("processes", 50), ("status", 50), ("sync", 50)]
    scale.run(chosen[:3], results, work, again=False, keep=False)
    assert measured == [("processes", 1, True), ("processes", 50, True), ("status", 50, True)]
    assert list(work.iterdir()) == []
    measured.clear()
    scale.run(chosen, results, work, again=False, keep=False)
    assert measured == [("processes", 50, True), ("sync", 50, True)], "the sweep is made once more, and is no result"
    assert "min left" in capsys.readouterr().out


def test_memory_and_time_of_plain_tune_are_those_over_a_sweep_of_one_trial(module, row):
    rows = {
        (stage, size): row(stage, size, seconds=10 + size / 10, cpu_s=5 + size / 100, peak_mb=200 + each * size)
        for stage, each in (("tune none", 0.05), ("processes", 0.01))
        for size in (1, 1000)
    }
    page = module("page")
    assert page.memory_kb(rows, "tune none", 1000) == pytest.approx(51.2)
    assert page.over_empty(rows, "tune none", 1000, "seconds") == pytest.approx(0.1)
    assert "worker processes (bound: 0.5): 0.20 at 1,000 trials" in page.bounds(rows)
    assert page.bounds(rows).count("not measured yet") == 3


def test_a_growing_cost_of_a_trial_is_seen(module, row):
    rows = {
        ("ray", size): row("ray", size, seconds=10 + (size - 1) * whole, s_per_trial=alone)
        for size, whole, alone in ((1, 0.0, 0.1), (1000, 0.2, 0.1), (20_000, 0.4, 0.25))
    }
    bounds = module("page").bounds(rows)
    assert "a private Ray (bound: 1.5): 2.50" in bounds
    assert "2.00 from the launch until MLflow has all" in bounds


def test_a_unit_that_began_on_a_busy_machine_is_marked(module, row):
    rows = {("status", size): row("status", size, seconds=1.0, cpu_s=0.5, peak_mb=90.0, busy=size) for size in (0, 2)}
    lines = module("page").readers_table(rows).splitlines()
    assert [line.split("|")[2] for line in lines[2:]] == [" 0 ", " 2 * "]


def test_the_page_shows_the_stored_results(module, repository, tmp_path):
    page, results = module("page"), module("results")
    copy = tmp_path / "scaling.md"
    copy.write_text((repository / "docs/scaling.md").read_text())
    page.write(results.Results(repository / "docs/scaling.jsonl").rows(), copy)
    assert copy.read_text() == (repository / "docs/scaling.md").read_text()


def test_a_page_without_a_marker_is_refused(module, tmp_path):
    (tmp_path / "page.md").write_text("<!-- scale bounds: begin -->\n")
    with pytest.raises(ValueError, match="must have the markers <!-- scale bounds: begin -->"):
        module("page").write({}, tmp_path / "page.md")


def events(trials):
    yield SweepStarted(time=1.0, generation=1, host="here", pid=1)
    for index in range(trials):
        name = f"t{index:03d}"
        yield TrialCreated(time=2.0, trial=name, origin="search", point={"a": 0.5}, config={"epochs": 1, "a": 0.5})
        yield EpochReported(time=3.0, trial=name, attempt=1, epoch=1, since_restore=1, metrics={"score": 0.5})
        yield TrialEnded(time=4.0, trial=name, status="completed")
    yield SweepEnded(time=5.0, status="completed")


@pytest.mark.parametrize("segment_bytes", [600, 2**20])
def test_a_log_is_cut_after_the_end_of_a_trial(module, tmp_path, segment_bytes):
    folder = SweepFolder(tmp_path / "results" / "scale-20260101-000000")
    folder.path.mkdir(parents=True)
    make_plan(parse_spec("name: scale"), folder, slots=1, now=0.0, working_directory=tmp_path).save(folder)
    with EventLog(folder.events, segment_bytes=segment_bytes) as log:
        for event in events(10):
            log.append(event)
    module("sweeps").cut(tmp_path, 5)
    state = SweepState(event for event, _ in read_events(folder.events))
    assert (len(state.trials), state.ended) == (5, None)
    assert [trial.status for trial in state.trials.values()] == ["completed"] * 5


def test_a_command_is_watched_to_its_end(module, tmp_path):
    watched = module("watched")
    code = "import time; block = b'x' * 50_000_000\nwhile time.process_time() < 0.5: pass"
    run = watched.watch([sys.executable, "-c", code], tmp_path, environ={})
    assert run.cpu_s > 0.3
    assert run.peak_mb > 50
    assert run.began < run.samples[0].time < run.ended
    with pytest.raises(SystemExit, match="boom"):
        watched.watch([sys.executable, "-c", "raise SystemExit('boom')"], tmp_path, environ={})


def test_a_command_that_is_asked_to_stop_gets_a_signal(module, tmp_path):
    started = tmp_path / "started"
    code = f"""import pathlib, time
try:
    pathlib.Path({str(started)!r}).touch()
    time.sleep(200)
except KeyboardInterrupt:
    print('stopped')"""
    run = module("watched").watch([sys.executable, "-c", code], tmp_path, environ={}, stop=started.exists)
    assert run.seconds < 200
    assert (tmp_path / "output.txt").read_text() == "stopped\n"
