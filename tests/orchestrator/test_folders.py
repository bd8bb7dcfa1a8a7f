"""Folders of a spec: no variable is taken for a name, and ``~`` is the home of the launch."""

import json

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.errors import SpecError, WrongLocation
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.trial_configs import trial_config
from orchestrator.spec.tracking_address import address_problem
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lookup import create_folder, find_sweep, list_sweeps, try_out
from trainables.config.trial import DataConfig
from trainables.data import cache_folder

PLACES = ["storage.uri", "trial.data.root", "trial.data.cache", "tracking.uri"]
SPEC = "name: digits\ntrial: {data.name: mnist}\n"


@pytest.mark.parametrize("text", ["$SCRATCH/ravel", "${SCRATCH}/ravel", "/data/$USER", "s3://team/$USER"])
def test_a_variable_in_a_storage_is_refused_with_its_name_and_what_to_write(text):
    with pytest.raises(SpecError) as refused:
        parse_spec(SPEC, [f"storage.uri={text}"])
    (problem,) = refused.value.problems
    assert problem.path == "storage.uri"
    assert "nothing expands $" in problem.message
    assert "write its value, or name it after --set, where a shell does" in problem.message


@pytest.mark.parametrize("place", PLACES)
def test_a_variable_is_refused_in_every_folder_and_address_of_a_spec(place):
    with pytest.raises(SpecError) as refused:
        parse_spec(SPEC, [f"{place}={'sqlite:///' if place == 'tracking.uri' else ''}$SCRATCH/x"])
    assert [problem.path for problem in refused.value.problems] == [place]


def test_a_variable_is_refused_in_a_searched_folder_and_in_that_of_a_gan():
    space = "space: {parameters: {data.root: {choice: [/a, $B/c]}}}\n"
    with pytest.raises(SpecError, match=r"space\.parameters\.data\.root: must have no variable"):
        parse_spec("name: digits\ntrial: {data.name: mnist}\n" + space)
    with pytest.raises(SpecError, match=r"trial\.gan\.classifier: must have no variable"):
        parse_spec("name: digits\ntrial: {task: gan, data.name: digits, gan.classifier: $HOME/c}\n")


def test_a_password_with_a_dollar_is_no_variable():
    assert address_problem("postgresql://ada:pa$word@host/db") is None


def test_no_command_makes_a_folder_named_like_a_variable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC + "storage: {uri: $SCRATCH/ravel}\n")
    for arguments in (["launch", "spec.yaml"], ["launch", "spec.yaml", "--dry-run"]):
        assert CliRunner().invoke(app, arguments).exit_code != 0
    for write in (try_out, lambda storage: create_folder(storage, "digits-1")):
        with pytest.raises(WrongLocation, match="must have no variable"):
            write("$SCRATCH/ravel")
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_sweep_that_an_earlier_version_put_into_such_a_folder_can_still_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = SweepFolder(tmp_path / "$SCRATCH" / "digits-20260101-120000")
    plan = make_plan(parse_spec(SPEC), folder, slots=1, now=1.0, working_directory=tmp_path)
    folder.path.mkdir(parents=True)
    storage = plan.spec.storage.model_copy(update={"uri": "$SCRATCH"})
    plan.model_copy(update={"spec": plan.spec.model_copy(update={"storage": storage})}).save(folder)
    assert SweepPlan.load(folder).spec.storage.uri == "$SCRATCH"
    assert find_sweep("$SCRATCH", "digits").path == folder.path
    assert len(list_sweeps("$SCRATCH")) == 1


def test_the_plan_keeps_the_home_of_the_launch_for_whoever_resumes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    spec = parse_spec(SPEC, ["trial.data.root=~/data", "tracking.uri=sqlite:///~/mlflow.db"])
    folder = SweepFolder(tmp_path / "digits-20260101-120000")
    plan = make_plan(spec, folder, slots=1, now=1.0, working_directory=tmp_path)
    text = plan.model_dump_json()
    monkeypatch.setenv("HOME", "/home/bob")
    again = SweepPlan.model_validate_json(text)
    assert trial_config(again, "t000", {})["data.root"] == "/home/ada/data"
    assert again.tracking_uri == "sqlite:////home/ada/mlflow.db"
    assert "~" not in json.dumps(again.spec.document()["trial"])


def test_the_home_of_a_user_that_is_not_there_is_named():
    with pytest.raises(WrongLocation, match=r"~nobody-here/x: after ~ must come a / or a user of this machine"):
        try_out("~nobody-here/x")


def test_the_cache_of_the_environment_may_be_in_the_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("RAVEL_CACHE", "~/cache")
    assert cache_folder(DataConfig()).as_posix() == "/home/ada/cache"
