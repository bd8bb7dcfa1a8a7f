"""Runs in MLflow have the names of their trials, the summary run says how to compare them; old sweeps come along."""

import json

import planted_sweeps as planted
import pytest

from orchestrator.cli import analyse
from orchestrator.errors import OrchestratorError
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import SweepEnded, SweepStarted
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.tracking import note, runs, views
from orchestrator.tracking.store.store import open_store, search, tracking_uri
from orchestrator.tracking.tracker import Tracker

SPEC = planted.SPEC.replace("num_trials: 48", "num_trials: 4")


@pytest.fixture
def swept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return planted.write(
        SweepFolder(tmp_path / "results" / "planted-1"),
        SPEC,
        lambda _, epoch: {"val/accuracy": epoch / 40},
        lambda _: 3,
    )


def sent(result, *, replay=False):
    """Bring MLflow up to date, and return its runs by name."""
    Tracker(result.plan, result.folder, replay=replay).catch_up()
    client = open_store(tracking_uri(result.plan))
    experiment = client.get_experiment_by_name(result.plan.experiment)
    found = list(search(client, experiment.experiment_id, result.sweep))
    assert len({run.info.run_name for run in found}) == len(found)
    return client, {run.info.run_name: run for run in found}


def points(client, run):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "val/accuracy")]


def test_the_run_of_a_trial_has_the_trials_name_and_tags_with_its_sweep(swept):
    _, named = sent(swept)
    assert sorted(named) == ["planted-1", "t000", "t001", "t002", "t003"]
    assert named["t001"].data.tags["ravel.trial"] == "planted-1/t001"
    assert named["t001"].data.tags["ravel.sweep"] == "planted-1"


@pytest.mark.parametrize("replay", [False, True], ids=["next driver", "ravel sync"])
def test_an_old_sweep_is_sent_into_the_runs_that_it_has_and_renames_them(swept, monkeypatch, replay):
    with monkeypatch.context() as old:
        old.setattr(runs, "trial_tags", _with_former_names(runs.trial_tags))
        client, before = sent(swept)
    assert sorted(before) == ["planted-1", *(f"{trial} planted-1" for trial in ("t000", "t001", "t002", "t003"))]
    client.update_run(before["t002 planted-1"].info.run_id, name="my favourite")
    had = contents(client, before)
    with EventLog(swept.folder.events) as log:  # a driver that resumed it
        log.append(SweepStarted(time=500.0, generation=2, host="here", pid=2))
        log.append(SweepEnded(time=500.0, status="completed"))
    client, after = sent(swept, replay=replay)
    assert sorted(after) == ["my favourite", "planted-1", "t000", "t001", "t003"]
    assert contents(client, after) == had


def contents(client, named):
    """Status, end and points of each run of a trial, by its id."""
    trials = [run for run in named.values() if run.data.tags["ravel.kind"] == "trial"]
    return {run.info.run_id: (run.info.status, run.info.end_time, points(client, run)) for run in trials}


def _with_former_names(trial_tags):
    def tags(plan, trial):
        return {**trial_tags(plan, trial), "mlflow.runName": runs.former_name(plan.sweep, trial.id)}

    return tags


def test_the_summary_run_says_how_to_compare_at_one_epoch_and_links_its_views(swept):
    _, named = sent(swept)
    run = named["planted-1"]
    text = run.data.tags[note.TAG]
    assert "`ravel compare planted-1`" in text
    assert f"(#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/figures?" in text
    assert text.count("viewStateShareKey=") == len(views.views(swept.plan))


def test_a_description_that_a_user_wrote_stays_and_one_that_is_absent_is_added(swept):
    client, named = sent(swept)
    run = named["planted-1"].info.run_id
    client.set_tag(run, note.TAG, "The one for the paper")
    _, named = sent(swept, replay=True)
    assert named["planted-1"].data.tags[note.TAG] == "The one for the paper"
    client.delete_tag(run, note.TAG)
    _, named = sent(swept, replay=True)
    assert named["planted-1"].data.tags[note.TAG].startswith(note.OPENING)


def test_mlflow_takes_the_description_of_the_longest_name_and_the_widest_space(tmp_path):
    from mlflow.utils.validation import _validate_tag

    spec = parse_spec("name: digits\nspace: {use: [optimizer, snnl, mixup, adversarial]}")
    plan = make_plan(spec, SweepFolder(tmp_path / "s"), slots=2, now=1.0, working_directory=tmp_path)
    plan = plan.model_copy(update={"sweep": "a" * 63 + "-20260101-120000"})
    text = note.note_of(plan, experiment="1" * 20, run="f" * 32)
    _validate_tag(note.TAG, text)
    assert len(text) < 5000


def test_a_figure_that_is_tracked_is_an_artifact_of_the_summary_run(swept, capsys):
    client, named = sent(swept)
    analyse.plot(swept.sweep, "curves", track=True, folder=str(swept.folder.path.parent))
    run = named["planted-1"].info.run_id
    assert [file.path for file in client.list_artifacts(run, "figures")] == ["figures/curves.html"]
    assert capsys.readouterr().out.splitlines() == ["planted-1-curves.html"]


def test_a_figure_of_a_sweep_that_mlflow_lacks_is_drawn_and_the_reason_named(swept, capsys):
    with pytest.raises(OrchestratorError, match=r"MLflow has no run of it yet; first: ravel sync planted-1"):
        analyse.plot(swept.sweep, "curves", track=True, folder=str(swept.folder.path.parent))
    assert capsys.readouterr().out.splitlines() == ["planted-1-curves.html"]


def test_the_table_ends_with_costs_and_the_metrics_of_the_machine(tmp_path):
    spec = parse_spec(SPEC + "tracking: {system_metrics: true}\n")
    plan = make_plan(spec, SweepFolder(tmp_path / "s"), slots=2, now=1.0, working_directory=tmp_path)
    (table,) = (view for view in views.views(plan) if view.name == "table")
    columns = [column.partition("`")[2].rstrip("`") for column in table.state["columnOrder"]]
    assert columns[:3] == ["val/accuracy", "ravel.status", "ravel.rung"]
    assert columns[3:6] == ["mixup.alpha", "mixup.layers", "mixup.per_sample"]
    families = [name.partition("/")[0] for name in columns if "/" in name]
    last = [family in {"time", "cost", "system"} for family in families]
    assert last == sorted(last)
    assert families[-3:] == ["system"] * 3
    assert json.loads(table.tag[1])["selectedColumns"] == table.state["columnOrder"]
