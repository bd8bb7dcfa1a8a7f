"""A trial's model in MLflow's registry, against a real store and a model that was trained."""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from orchestrator.analysis.result import SweepResult
from orchestrator.cli.main import app
from orchestrator.cli.serve import best_at_full_budget
from orchestrator.errors import OrchestratorError, SpecError, SweepNotFound
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state.events import SweepStarted
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.tracking.registry import register, requirements, save_model
from orchestrator.tracking.tracker import Tracker
from trainables import TrialConfig
from trainables.tasks.classifier.run import start


@pytest.fixture
def sweep(tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    return trained.swept(tmp_path)


@pytest.fixture(scope="module")
def unregistered(tmp_path_factory, trained):
    """The same, for tests that leave it as it is."""
    return trained.swept(tmp_path_factory.mktemp("unregistered"))


def client_of(result):
    from mlflow import MlflowClient

    return MlflowClient(result.plan.tracking_uri)


def loaded(result, uri, **keywords):
    """As anybody loads a model: by its address alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow 3.17 warns about type hints of its own models when it is imported
        from mlflow import pyfunc

    with pytest.MonkeyPatch.context() as patch:  # MLflow's own setter would leave it in the environment
        patch.setenv("MLFLOW_TRACKING_URI", result.plan.tracking_uri)
        return pyfunc.load_model(uri, **keywords)


def images(count=40):
    return np.random.default_rng(0).random((count, 1, 8, 8), dtype=np.float32)


def ravel(*arguments, code=0):
    result = CliRunner().invoke(app, arguments, catch_exceptions=True)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout


def test_a_model_loaded_by_its_alias_answers_bit_for_bit_as_the_trials_own(sweep):
    best = best_at_full_budget(sweep)
    assert best.trial.id == "t001"
    found = register(sweep.plan, best)
    assert (found.uri, found.version, found.is_new) == ("models:/digits@champion", 1, True)
    served = loaded(sweep, found.uri)
    with torch.inference_mode():
        expected = best.load_model()(torch.from_numpy(images())).numpy()
    given = served.predict(images())
    assert given.dtype == np.float32
    assert np.array_equal(given, expected)
    other = sweep.named("t000").load_model()
    assert not np.array_equal(given, other(torch.from_numpy(images())).detach().numpy())


def test_the_signature_says_images_in_and_logits_out_and_refuses_all_else(sweep):
    served = loaded(sweep, register(sweep.plan, sweep.best()).uri, model_config={"device": "cpu"})
    (pixels,), (logits,) = served.metadata.signature.inputs, served.metadata.signature.outputs
    assert (pixels.shape, pixels.type) == ((-1, 1, 8, 8), np.dtype("float32"))
    assert (logits.shape, logits.name) == ((-1, 10), "logits")
    assert served.predict(served.input_example).shape == (1, 10)
    for wrong, law in (
        ((images() * 255).astype(np.uint8), "uint8"),
        (images()[:, 0], r"\(40, 8, 8\)"),
        (images() * 255, "divide bytes by 255"),
        (np.full((1, 1, 8, 8), np.nan, dtype=np.float32), "must lie in"),
    ):
        with pytest.raises(Exception, match=law):
            served.predict(wrong)


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    """A checkpoint of a model that was trained on three folders of images; the folders are gone."""
    from PIL import Image

    root, rng = tmp_path_factory.mktemp("animals"), np.random.default_rng(0)
    for part, size in (("train", 12), ("test", 2)):
        for name in ("zebra", "ant", "heron"):
            folder = root / "images" / part / name
            folder.mkdir(parents=True)
            for index in range(size):
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    data = {"data.name": "image_folder", "data.root": str(root / "images"), "data.cache": str(root / "cache")}
    point = {**data, "model.name": "mlp", "model.width": 0.1, "batch_size": 8, "epochs": 1, "precision": "float32"}
    trial = start(TrialConfig.from_point(point))
    trial.run_epoch()
    trial.save(root / "checkpoint")
    shutil.rmtree(root / "images")
    return root / "checkpoint"


def test_a_registered_model_of_an_image_folder_names_its_classes_in_the_order_of_its_outputs(animals, tmp_path):
    from mlflow import pyfunc

    save_model(animals, tmp_path / "model")
    model = pyfunc.load_model(str(tmp_path / "model"))
    assert model.metadata.metadata == {"class_names": ["ant", "heron", "zebra"]}
    assert model.predict(np.zeros((2, 3, 8, 8), dtype=np.float32)).shape == (2, 3)


def test_a_model_of_a_published_set_has_no_names_and_its_checkpoint_no_new_part(sweep, tmp_path):
    from mlflow.models import Model

    place = sweep.best().checkpoint()
    assert "class_names" not in torch.load(place / "state.pt", weights_only=True)
    save_model(place, tmp_path / "model")
    assert Model.load(str(tmp_path / "model")).metadata is None


def test_what_is_registered_holds_no_pickle_and_pins_what_it_needs(sweep, tmp_path):
    found = register(sweep.plan, sweep.best())
    folder = Path(client_of(sweep).download_artifacts(found.run, "model/epoch-2", str(tmp_path)))
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]
    assert files["served_model.py"].read_text().startswith('"""Code of every registered model')
    torch.load(files["artifacts/2/state.pt"], weights_only=True)
    needed = files["requirements.txt"].read_text().split()
    assert set(requirements()) < set(needed)
    assert {name.partition("==")[0] for name in needed} == {"mlflow", "ravel-sweeps", "torch", "numpy"}
    assert not [name for name in needed if "+" in name]


def test_a_version_says_where_it_comes_from_and_what_it_measured(sweep):
    found = register(sweep.plan, sweep.best())
    client = client_of(sweep)
    version = client.get_model_version_by_alias("digits", "champion")
    run = client.get_run(version.run_id)
    assert run.data.tags["ravel.trial"] == "digits-1/t001" == found.trial
    assert version.source.startswith(run.info.artifact_uri)
    tags = version.tags
    assert (tags["ravel.sweep"], tags["ravel.trial"], tags["ravel.epoch"]) == ("digits-1", "digits-1/t001", "2")
    assert (tags["ravel.objective"], tags["ravel.score"]) == ("val/accuracy max", "0.9")
    assert (tags["val/accuracy"], tags["train/loss"], tags["val/nll"]) == ("0.9", "0.25", "null")
    assert tags["ravel.spec_fingerprint"] == sweep.plan.fingerprint
    assert tags.get("ravel.git_commit") == sweep.plan.provenance.git_commit
    assert "Trial t001 (completed) of sweep digits-1, after epoch 2 of 2: val/accuracy 0.9" in version.description
    assert "- `snnl.weight`: 0.5" in version.description


def test_registering_twice_moves_the_alias_and_makes_no_second_version(sweep):
    best, other = sweep.best(), sweep.named("t000")
    versions = [register(sweep.plan, each) for each in (best, other, best)]
    assert [(each.version, each.is_new) for each in versions] == [(1, True), (2, True), (1, False)]
    client = client_of(sweep)
    assert client.get_model_version_by_alias("digits", "champion").version == 1
    assert len(client.search_model_versions("name = 'digits'")) == 2
    register(sweep.plan, best, alias="candidate")
    assert client.get_registered_model("digits").aliases == {"champion": 1, "candidate": 1}
    assert register(sweep.plan, best, name="other").is_new


def test_a_trial_that_went_on_is_another_version_and_the_first_one_stays_as_it_was(sweep, trained, tmp_path):
    folder = SweepFolder(tmp_path / "results" / "digits-2")
    shutil.copytree(sweep.folder.tune, folder.tune)
    plan = make_plan(parse_spec(trained.spec), folder, slots=2, now=5.0, working_directory=tmp_path)
    plan.save(folder)
    trained.write(
        folder,
        [SweepStarted(time=1.0, generation=1, host="here", pid=1)],
        trained.begun("t001"),
        trained.epoch_of("t001", 1, 0.5),
    )
    answers = []
    for epoch in (1, 2):
        Tracker(plan, folder).catch_up()
        found = register(plan, SweepResult.read(folder).named("t001"))
        assert (found.version, found.is_new) == (epoch, True)
        answers.append(loaded(sweep, f"models:/digits/{epoch}").predict(images()))
        trained.write(folder, trained.epoch_of("t001", 2, 0.9))
    assert not np.array_equal(*answers)
    assert np.array_equal(loaded(sweep, "models:/digits/1").predict(images()), answers[0])


def test_a_run_that_was_purged_and_synced_gets_a_version_of_its_own(sweep):
    first = register(sweep.plan, sweep.best())
    client_of(sweep)._tracking_client.store._hard_delete_run(first.run)
    Tracker(sweep.plan, sweep.folder, replay=True).catch_up()
    second = register(sweep.plan, sweep.best())
    assert (second.version, second.is_new) == (2, True)
    assert second.run != first.run
    assert loaded(sweep, second.uri).predict(images()).shape == (40, 10)


def test_the_registry_is_in_the_store_of_the_sweep_wherever_mlflow_looks_by_default(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    register(sweep.plan, sweep.best())
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.usefixtures("sweep")
def test_the_command_registers_the_best_at_full_budget_or_the_trial_that_is_named():
    said = ravel("register", "digits-1")
    assert said.startswith("models:/digits@champion: version 1 (new), digits-1/t001, val/accuracy 0.9000 after epoch 2")
    told = json.loads(ravel("register", "digits-1", "--trial", "t000", "--name", "mine", "--alias", "old", "--json"))
    assert (told["uri"], told["version"], told["trial"]) == ("models:/mine@old", 1, "digits-1/t000")
    assert "(registered before)" in ravel("register", "digits-1")


@pytest.mark.parametrize(
    ("trial", "law"),
    [
        ("t002", r"digits-1/t002: the checkpoint of epoch 1 is missing.*another trial"),
        ("t003", r"digits-1/t003: it has not measured val/accuracy"),
    ],
)
def test_a_trial_without_a_model_is_refused(unregistered, trial, law):
    with pytest.raises(OrchestratorError, match=law):
        register(unregistered.plan, unregistered.named(trial))


def test_an_unknown_trial_is_refused(unregistered):
    with pytest.raises(SweepNotFound, match=r"no trial 't9'; see `ravel status"):
        unregistered.named("t9")


def test_without_a_full_run_no_best_trial_can_be_registered(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = SweepFolder(tmp_path / "results" / "digits-1")
    folder.path.mkdir(parents=True)
    make_plan(parse_spec(trained.spec), folder, slots=2, now=5.0, working_directory=tmp_path).save(folder)
    trained.write(folder, trained.begun("t000"), trained.epoch_of("t000", 1, 0.95), trained.ended("t000", "stopped"))
    with pytest.raises(OrchestratorError, match=r"full budget yet, the best so far is t000; .*--trial"):
        best_at_full_budget(SweepResult.read(folder))


def test_a_trial_without_a_run_or_with_a_deleted_one_names_the_remedy(sweep):
    best, client = sweep.best(), client_of(sweep)
    moved = sweep.plan.model_copy(update={"tracking_uri": sweep.plan.tracking_uri.replace("mlflow", "empty")})
    with pytest.raises(OrchestratorError, match=r"t001: MLflow has no run of it yet.*ravel sync digits-1"):
        register(moved, best)
    experiment = client.get_experiment_by_name("digits").experiment_id
    client.delete_experiment(experiment)
    with pytest.raises(OrchestratorError, match="restore it"):
        register(sweep.plan, best)


def test_a_store_that_is_away_is_named_without_its_password(unregistered):
    away = unregistered.plan.model_copy(update={"tracking_uri": "http://ada:hunter2@127.0.0.1:9"})
    with pytest.raises(OrchestratorError, match=r"http://\*\*\*@127.0.0.1:9: .*try again later") as caught:
        register(away, unregistered.best())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "law"),
    [
        ({"name": "a/b"}, "--name: must be a text without"),
        ({"alias": "latest"}, "--alias: must be of letters"),
        ({"alias": "V12"}, "--alias: must be of letters"),
        ({"name": "it's", "alias": ""}, "--name.*\n--alias"),
    ],
)
def test_a_name_that_mlflow_does_not_take_is_refused_before_anything_is_sent(unregistered, names, law):
    with pytest.raises(SpecError, match=law):
        register(unregistered.plan, unregistered.best(), **names)
    assert client_of(unregistered).search_registered_models() == []


def test_mlflow_takes_our_other_aliases(sweep):
    aliases = ["v", "v1x", "latest-2", "2026_01"]
    for alias in aliases:
        register(sweep.plan, sweep.best(), alias=alias)
    assert set(client_of(sweep).get_registered_model("digits").aliases) == set(aliases)


def test_asking_for_help_imports_neither_mlflow_nor_torch():
    code = "import sys, orchestrator.cli.main; assert not {'mlflow', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
