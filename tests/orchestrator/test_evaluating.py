"""`ravel evaluate` and `ravel transfer`, on a sweep with trained models and a real tracking store."""

import csv
import json
import re
import shutil
from dataclasses import replace

import pytest
import torch

from orchestrator.analysis.evaluation.target import find_target, subject_of
from orchestrator.errors import OrchestratorError, SpecError, SweepNotFound
from trainables.engine import checkpoint

SUBSET = ("--subset", "60")


@pytest.fixture
def sweep(tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    return trained.swept(tmp_path)


def client_of(sweep):
    from mlflow import MlflowClient

    return MlflowClient(sweep.plan.tracking_uri)


def run_of(sweep, trial):
    client = client_of(sweep)
    experiment = client.get_experiment_by_name(sweep.plan.experiment).experiment_id
    (run,) = client.search_runs([experiment], f"tags.`ravel.trial` = '{sweep.sweep}/{trial}'")
    return run


def artifacts_of(sweep, trial, suite):
    artifacts = client_of(sweep).list_artifacts(run_of(sweep, trial).info.run_id, f"evaluation/{suite}")
    return sorted(artifact.path.rpartition("/")[2] for artifact in artifacts)


@pytest.mark.parametrize(
    ("text", "name"),
    [("digits-1/t000", "digits-1/t000"), ("digits-1", "digits-1/t001"), ("digits-1/t001", "digits-1/t001")],
)
@pytest.mark.usefixtures("sweep")
def test_a_trial_is_named_by_its_sweep_and_a_sweep_means_its_best(text, name):
    target = find_target(text, results="results")
    assert target.name == name
    assert (target.checkpoint / "state.pt").is_file()
    assert sorted(target.epoch_checkpoints) == [1, 2]


def test_a_trial_is_named_by_its_run_in_mlflow(sweep):
    target = find_target(run_of(sweep, "t000").info.run_id, results="results")
    assert (target.name, target.plan.sweep) == ("digits-1/t000", "digits-1")


def test_a_checkpoint_folder_belongs_to_no_sweep(sweep, tmp_path):
    shutil.copytree(sweep.folder.tune / "t000" / "2", tmp_path / "elsewhere")
    target = find_target("elsewhere", results="results")
    assert (target.name, target.plan, target.epoch_checkpoints) == (f"{tmp_path.name}/elsewhere", None, {})


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("digits-1/t009", SweepNotFound, "no trial 't009'"),
        ("digits-1/t002", OrchestratorError, "the checkpoint of epoch 1 is missing"),
        ("nothing", SweepNotFound, "nothing"),
        (".", OrchestratorError, "a checkpoint folder must hold state.pt, this one does not"),
        ("0" * 32, OrchestratorError, "name a run of this store, SWEEP/TRIAL, or a checkpoint folder"),
    ],
    ids=["trial", "checkpoint", "sweep", "folder", "run"],
)
@pytest.mark.usefixtures("sweep")
def test_what_is_not_there_is_refused_with_what_to_do(text, error, message):
    with pytest.raises(error, match=message):
        find_target(text, results="results")


@pytest.mark.usefixtures("sweep")
def test_the_subject_has_the_trials_own_images_and_its_radius():
    subject = subject_of(find_target("digits-1", results="results"), outliers=["rotated"])
    assert (len(subject.train), len(subject.val), len(subject.test)) == (1078, 360, 359)
    assert (subject.epsilon, subject.norm, list(subject.outliers)) == (0.1, "linf", ["rotated"])
    assert torch.equal(subject.outliers["rotated"].labels_N, subject.test.labels_N)
    assert not subject.model.training


@pytest.mark.usefixtures("sweep")
def test_a_set_of_outliers_that_cannot_be_read_is_refused():
    with pytest.raises(SpecError, match="--ood nowhere: must be a folder, got /nowhere"):
        subject_of(find_target("digits-1", results="results"), outliers=["nowhere=/nowhere"])


def test_evaluating_prints_writes_and_tracks_the_same_numbers(sweep, ravel, tmp_path):
    out, _ = ravel("evaluate", "digits-1/t001", "--suite", "clean", *SUBSET)
    document = json.loads((tmp_path / "evaluations/digits-1-t001/clean/report.json").read_text())
    analyses = document["analyses"].values()
    (metrics,) = [analysis["metrics"] for analysis in analyses if "test/accuracy" in analysis["metrics"]]
    assert 0.5 < metrics["test/accuracy"] <= 1
    assert f"{metrics['test/accuracy']:.4g}" in out
    assert "60" in out  # the limit is printed
    run = run_of(sweep, "t001")
    assert run.data.metrics["test/accuracy"] == metrics["test/accuracy"]
    (point,) = client_of(sweep).get_metric_history(run.info.run_id, "test/accuracy")
    assert point.step == 2
    for name, analysis in document["analyses"].items():
        assert {f"{name}.html", f"{name}.json"} <= set(artifacts_of(sweep, "t001", "clean"))
        with (tmp_path / f"evaluations/digits-1-t001/clean/{name}.csv").open(newline="") as file:
            header, *rows = csv.reader(file)
        assert header == analysis["columns"]
        assert len(rows) == len(analysis["rows"]) > 0


def test_a_repeated_evaluation_is_read_not_measured_and_tracked_once(sweep, ravel, monkeypatch):
    first, _ = ravel("evaluate", "digits-1/t001", "--suite", "clean,flattening", *SUBSET, "--json")

    def never(_name):
        return lambda *_: pytest.fail("measured twice")

    monkeypatch.setattr("trainables.evaluation.core.report.suite_of", never)
    second, _ = ravel("evaluate", "digits-1/t001", "--suite", "clean,flattening", *SUBSET, "--json")
    assert json.loads(second) == json.loads(first)
    client, run = client_of(sweep), run_of(sweep, "t001").info.run_id
    assert {len(client.get_metric_history(run, name)) for name in client.get_run(run).data.metrics} <= {1, 2}
    assert len(client.get_metric_history(run, "test/accuracy")) == 1
    tables = json.loads(client.get_run(run).data.tags["mlflow.loggedArtifacts"])
    assert len(tables) == len({table["path"] for table in tables})


def test_without_mlflow_the_numbers_are_there_all_the_same(sweep, ravel):
    client = client_of(sweep)
    client.delete_run(run_of(sweep, "t000").info.run_id)
    out, err = ravel("evaluate", "digits-1/t000", "--suite", "clean", *SUBSET)
    assert "not in MLflow: digits-1/t000: MLflow has no run of it yet; first: ravel sync digits-1" in err
    assert "tables and figures: evaluations/digits-1-t000" in out
    _, err = ravel("evaluate", "digits-1/t000", "--suite", "clean", *SUBSET, "--no-track")
    assert "MLflow" not in err


def test_a_checkpoint_folder_is_evaluated_without_a_run(sweep, ravel, tmp_path):
    shutil.copytree(sweep.folder.tune / "t000" / "2", tmp_path / "elsewhere")
    out, err = ravel("evaluate", "elsewhere", *SUBSET, "--out", "reports")
    assert "tables and figures: reports" in out
    assert not err
    assert (tmp_path / "reports/clean/report.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["evaluate", "digits-1", "--suite", "clean,colour"],
            "--suite: must be of clean, .* or all, or module:function of your own, got colour",
        ),
        (["evaluate", "digits-1", "--suite", "robust", "--epsilon", "0"], "--epsilon: must be > 0 pixels"),
        (["transfer", "digits-1", "--attack", "pgd-l2"], "--attack: must be one under linf, .* got 'pgd-l2'"),
        (["transfer", "digits-1", "--attack", "bogus"], "--attack: must be one of fgsm, .*, lbfgs, got 'bogus'"),
        (["transfer", "digits-1", "--trials", "t001"], "--trials: must name two trials or more, got t001"),
    ],
    ids=["suite", "epsilon", "norm", "attack", "trials"],
)
@pytest.mark.usefixtures("sweep")
def test_wrong_arguments_are_refused(ravel, arguments, message):
    _, err = ravel(*arguments, code=2)
    assert re.search(message, err.replace("\n", " "))


def test_transfer_reports_for_each_pair_how_many_images_fool_the_other(sweep, ravel, tmp_path):
    out, err = ravel("transfer", "digits-1", "--attack", "fgsm", "--epsilon", "0.3", "--subset", "50")
    assert not err
    assert "t000" in out
    assert "t001" in out
    document = json.loads((tmp_path / "evaluations/digits-1-transfer/transfer/report.json").read_text())
    assert list(document["analyses"]) == ["fgsm"]
    experiment = client_of(sweep).get_experiment_by_name(sweep.plan.experiment).experiment_id
    (summary,) = client_of(sweep).search_runs([experiment], "tags.`ravel.kind` = 'sweep'")
    metrics = document["analyses"]["fgsm"]["metrics"]
    assert "transfer/fgsm@0.3_across" in metrics
    assert {name.replace("@", ":") for name in metrics} <= set(summary.data.metrics)


def test_the_claim_of_a_model_that_hides_its_gradients_is_printed_as_refused(sweep, ravel, tmp_path):
    saved = checkpoint.load(sweep.folder.tune / "t001" / "2")
    loud = {name: tensor * 1e4 if name.startswith("head.") else tensor for name, tensor in saved.model.items()}
    checkpoint.save(tmp_path / "masked", replace(saved, model=loud))
    out, _ = ravel("evaluate", "masked", "--suite", "robust", *SUBSET, "--out", "reports")
    assert "refused: " in out
    document = json.loads((tmp_path / "reports/robust/report.json").read_text())
    ladder = document["analyses"]["ladder"]
    assert ladder["refusals"]
    assert not [name for name in ladder["metrics"] if "@" in name]
    assert any("refused" in map(str, row) for row in ladder["rows"])


def test_what_the_run_shows_is_what_was_sent_last(sweep, ravel):
    for arguments in ([], ["--subset", "20"], []):
        out, _ = ravel("evaluate", "digits-1/t001", *arguments, "--json")
        (measured,) = [analysis["metrics"] for analysis in json.loads(out)["clean"]["analyses"].values()]
        assert run_of(sweep, "t001").data.metrics["test/nll"] == measured["test/nll"]


@pytest.mark.usefixtures("sweep")
def test_a_suite_that_cannot_be_measured_leaves_the_others_alone(ravel, tmp_path):
    _, err = ravel("evaluate", "digits-1/t001", "--suite", "units,clean", "--subset", "12", code=3)
    assert "not measured: units: " in err
    assert "--subset 12 may be too few" in err
    assert (tmp_path / "evaluations/digits-1-t001/clean/report.json").is_file()
