"""The API for Python and notebooks: one import, a sweep that is open for reading, a launch in the background."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ravel
from orchestrator.errors import Interrupted, OrchestratorError, PreflightError, SpecError, SweepNotFound
from orchestrator.state.event_log import EventLog
from orchestrator.state.sweep_folder import SweepFolder

SMALL = {
    "name": "small",
    "trial": {"data.name": "digits", "model.name": "mlp", "epochs": 9, "optimizer.name": "sgd"},
    "search": {"num_trials": 3},
    "scheduler": {"grace_period": 1, "reduction_factor": 3},
}


HELD = """
def before_epoch(loop):  # until the orders were answered
    while loop.epoch and not pathlib.Path(__file__).with_name("answered").exists():
        time.sleep(0.05)
"""
SPEC = """
name: virtual
trial: {epochs: 27, optimizer.name: sgd}
space: {use: [mixup], parameters: {optimizer.lr: {float: [0.001, 1.0], log: true}}}
search: {num_trials: 24}
"""


@pytest.fixture
def sweep(virtual_sweep, tmp_path):
    """A sweep of 24 trials that ended, open for reading."""
    swept, folder = virtual_sweep(SPEC), SweepFolder(tmp_path / "results" / "virtual")
    folder.path.mkdir(parents=True)
    swept.plan.save(folder)
    with EventLog(folder.events) as log:
        for event in swept.events:
            log.append(event)
    return ravel.open(folder.path)


def test_every_public_name_is_exported_and_importing_them_loads_no_heavy_library():
    program = "import sys, ravel; names = [getattr(ravel, n) for n in ('SweepSpec', 'load_spec', 'SearchSpace')]; "
    program += "print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert not {"torch", "ray", "mlflow", "optuna", "pandas"} & set(done.stdout.split())
    assert all(getattr(ravel, name) is not None for name in ravel.__all__)
    with pytest.raises(AttributeError, match="it exports OrchestratorError"):
        _ = ravel.Tuner


def test_an_open_sweep_has_its_trials_the_best_first_a_table_and_a_page(sweep):
    scores = [trial.score for trial in sweep.trials]
    assert scores == sorted(scores, reverse=True)
    assert sweep.best().trial.id in {trial.trial.id for trial in sweep.trials}
    assert len(sweep.dataframe()) == len(sweep.result.state.trials)
    assert sweep.trials[0].trial.id in sweep._repr_html_()
    assert not sweep.is_running
    assert repr(sweep).startswith("<Sweep virtual: ")


def test_the_page_of_a_sweep_does_not_colour_the_numbers_of_its_name(sweep, monkeypatch):
    monkeypatch.setattr(type(sweep), "name", "virtual-20260101-120000-1a2b")
    assert "virtual-20260101-120000-1a2b  " in sweep._repr_html_()


def test_a_sweep_that_is_missing_is_named(tmp_path):
    with pytest.raises(SweepNotFound, match="no sweep 'none' here"):
        ravel.open("none", storage=tmp_path)


def test_figures_compare_trials_at_one_epoch_and_name_it(sweep):
    epoch = sweep.plot.comparable_epoch()
    measured = [trial for trial in sweep.result.state.trials.values() if epoch in trial.epochs]
    figure = sweep.plot.parallel()
    assert f"at epoch {epoch}, n = {len(measured)} trials" in figure.layout.title.text
    scores, (lowest, *_) = figure.data[0].dimensions[-1]["values"], figure.data[0].dimensions[-1].tickvals
    assert len(scores) == len(sweep.result.state.trials)
    assert sum(score > lowest for score in scores) == len(measured) < len(scores)
    grey, points, best = sweep.plot.history().data
    assert len(points.x) == len(measured)
    assert len(points.x) + len(grey.x) == len(sweep.trials)
    assert list(best.y) == sorted(best.y)
    with pytest.raises(OrchestratorError, match="epoch: must be one that a trial measured"):
        sweep.plot.parallel(epoch=10_000)


def test_a_launch_in_the_background_that_cannot_run_raises_what_a_launch_raises(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"trial\.epochz: unknown parameter"):
        ravel.launch(ravel.SweepSpec(name="a", trial={"epochz": 3}), background=True)
    missing = {"data.name": "mnist", "data.root": str(tmp_path / "none")}
    with pytest.raises(PreflightError, match="the data set 'mnist' is not available"):
        ravel.launch(ravel.SweepSpec(name="a", trial=missing), background=True)
    with pytest.raises(ValueError, match="callback: must be None in the background"):
        ravel.launch(ravel.SweepSpec(**SMALL), callback=object(), background=True)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_sweep_in_the_background_is_extended_stopped_resumed_read_and_forked(tmp_path, monkeypatch, plant):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", plant(tmp_path, HELD)["PYTHONPATH"])
    sweep = ravel.launch(ravel.SweepSpec(**SMALL, resources={"max_concurrent": 1}), background=True)
    try:
        assert sweep.is_running
        with pytest.raises(TimeoutError, match=f"{sweep.name}: still runs after"):
            sweep.wait(0.01)
        while "t000" not in sweep.result.state.trials:
            time.sleep(0.05)
        assert sweep.stop(trial="t000", wait_s=60).trials == ("t000",)
        answer = ravel.open("small").extend(trials="+1", set={"resources.max_concurrent": 2}, wait_s=60)
        assert (answer.outcome, answer.settings) == (
            "accepted",
            {"search.num_trials": 4, "resources.max_concurrent": 2},
        )
        assert str(sweep.stop()).endswith(": accepted\n  stops the sweep; ravel resume continues it")
        assert not sweep.is_running
    finally:
        sweep._driver.process.kill()
    with pytest.raises(OrchestratorError, match="must have a driver to be stopped"):
        sweep.stop()
    with pytest.raises(Interrupted, match=r"stopped by order of .*@.*; nothing measured is lost.*ravel resume"):
        sweep.wait()
    assert ravel.open("small").progress.status == "interrupted"
    (tmp_path / "answered").touch()
    result = ravel.resume(sweep.folder)
    assert result.state.ended.status == "completed"
    assert result.state.trials["t000"].stopped_by_order
    assert len(result.state.trials) == 4
    assert [order.outcome for order in sweep.orders] == ["accepted", "accepted", "accepted"]
    assert sweep.progress.share == 1.0
    assert Path("results", sweep.name).is_dir()
    assert json.loads(Path("results", sweep.name, "plan.json").read_text())["sweep"] == sweep.name
    settings = {"trial.epochs": 1, "search.num_trials": 2}
    younger = sweep.fork("younger", set=settings, best=1, address="processes", background=True)
    forked = younger.wait(120)
    assert forked.plan.parent.sweep == sweep.name
    assert forked.state.trials["t001"].origin == "point"
