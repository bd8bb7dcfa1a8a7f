"""Places of exports: whole or not at all, nothing replaced unasked; and the command line over all kinds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import varied_sweep as varied
from typer.testing import CliRunner

import ravel
from orchestrator.cli.main import app, missing_extra
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.export import libraries, registry
from orchestrator.export.output import MARK, checked
from search_spaces.errors import MissingExtraError

RAVEL = Path(sys.executable).with_name("ravel")
LIGHT = ("csv", "parquet", "optuna")


@pytest.fixture
def folder(tmp_path):
    return varied.write(tmp_path)


@pytest.mark.parametrize("kind", LIGHT)
def test_an_export_is_not_replaced_unless_forced(kind, folder, tmp_path):
    place = registry.export(folder, kind, tmp_path / "out").path
    content = {path.name: path.read_bytes() for path in ([place] if place.is_file() else place.iterdir())}
    with pytest.raises(SpecError, match=r"--out: .*out exists; name another place, or replace it with --force"):
        registry.export(folder, kind, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in ([place] if place.is_file() else place.iterdir())} == content
    assert registry.export(folder, kind, tmp_path / "out", force=True).path == place
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "results"]


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_other_hands_is_never_replaced(folder, tmp_path, force):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").touch()
    for place in ("mine", "file"):
        with pytest.raises(SpecError, match="--out: must be a new folder or an earlier export, got"):
            registry.export(folder, "csv", tmp_path / place, force=force)
    with pytest.raises(SpecError, match="--out: must be the name of a file, got the folder"):
        registry.export(folder, "optuna", tmp_path / "mine", force=force)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_an_export_that_fails_leaves_the_earlier_one_and_no_draft(tmp_path):
    output = checked(tmp_path / "out", kind="csv", sweep="varied-1", is_folder=True, force=False)
    with output.folder() as draft:
        (draft / "whole").touch()
    with pytest.raises(FileNotFoundError), output.folder() as draft:
        (draft / "absent" / "part").touch()
    assert sorted(path.name for path in output.path.iterdir()) == [MARK, "whole"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_a_link_to_an_earlier_export_the_link_alone_is_replaced(folder, tmp_path):
    earlier = registry.export(folder, "csv", tmp_path / "earlier").path
    (tmp_path / "latest").symlink_to(earlier)
    place = registry.export(folder, "csv", tmp_path / "latest", force=True).path
    assert not place.is_symlink()
    assert (earlier / "trials.csv").read_bytes() == (place / "trials.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier", "latest", "results"]


def test_a_folder_says_what_it_is(folder, tmp_path):
    place = registry.export(folder, "csv", tmp_path / "deep" / "er" / "out").path
    mark = json.loads((place / MARK).read_text())
    assert (mark["format"], mark["export"], mark["sweep"]) == (1, "csv", "varied-1")


def test_a_place_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OrchestratorError, match=r"file: must be a folder that this user can write; name another place"):
        registry.export(folder, "csv", tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "cvs"}, "kind: must be one of csv, parquet, .*got 'cvs'; did you mean 'csv'?"),
        ({"kind": "csv", "trial": "t001"}, "--trial: is for a model, and csv has all trials; leave it out"),
        ({"kind": "model", "epoch": 3}, "--epoch: is not for a model, which is that of its trial's last epoch"),
    ],
)
def test_arguments_that_a_kind_does_not_take_are_refused(folder, arguments, message):
    with pytest.raises(SpecError, match=message):
        registry.export(folder, **arguments)


def test_an_epoch_that_no_trial_measured_is_refused_before_anything_is_written(folder, tmp_path):
    with pytest.raises(OrchestratorError, match="epoch: must be one that a trial measured"):
        registry.export(folder, "csv", tmp_path / "out", epoch=40)
    assert not (tmp_path / "out").exists()


def test_a_kind_before_the_sweep_is_named_as_the_mistake():
    ended = CliRunner().invoke(app, ["export", "csv", "digits"])
    assert ended.exit_code != 0
    assert "KIND: must come after the sweep: `ravel export digits csv`" in str(ended.exception)


def test_the_log_of_an_exported_sweep_is_left_as_it_was(folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    for kind in LIGHT:
        registry.export(folder, kind, tmp_path / kind)
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before


def test_a_sweep_in_python_exports_as_the_command_line_does(folder, tmp_path):
    place = ravel.open(folder.path).export("csv", tmp_path / "python")
    command = [str(RAVEL), "export", str(folder.path), "csv", "--out", str(tmp_path / "shell")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'shell'}\n"
    for name in ("trials.csv", "reports.csv"):
        assert (tmp_path / "shell" / name).read_bytes() == (place / name).read_bytes()


def test_by_default_an_export_is_named_after_its_sweep_and_kind(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = [registry.export(folder, kind).path.name for kind in LIGHT]
    assert places == ["varied-1-csv", "varied-1-parquet", "varied-1-optuna.db"]


@pytest.mark.parametrize("kind", registry.KINDS)
def test_an_export_of_the_log_imports_neither_torch_nor_ray(kind, folder, tmp_path):
    if kind in {"tensorboard", "wandb-offline"}:
        pytest.importorskip(kind.partition("-")[0], reason="of the development group")
    code = f"""
import sys
from pathlib import Path
from orchestrator.export import registry
from orchestrator.state.sweep_folder import SweepFolder
registry.export(SweepFolder(Path({str(folder.path)!r})), {kind!r}, {str(tmp_path / "out")!r})
print(sorted({{"torch", "ray"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"


def test_no_code_of_a_user_is_imported_for_an_export_of_the_log(tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit('imported')\ndef train(lr):\n    yield {'loss': 1.0}\n")
    text = """
name: own
trial: {task: mine:train, epochs: 9}
space: {parameters: {lr: {float: [0.1, 1.0]}}}
objective: {metric: val/accuracy, mode: max}
search: {sampler: "mine:sampler", num_trials: 3}
"""
    folder = varied.write(tmp_path, text=text, name="own-1", trials={"t001": ({"lr": 0.5}, "completed", [0.5])})
    for kind in LIGHT:
        code = f"import ravel; ravel.open({str(folder.path)!r}).export({kind!r}, {str(tmp_path / kind)!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("parquet", "pyarrow is not installed: pip install 'ravel-sweeps[export]'"),
        ("optuna", "optuna is not installed: pip install 'ravel-sweeps[optuna]'"),
        ("tensorboard", "tensorboard is not installed: pip install 'ravel-sweeps[tensorboard]'"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(kind, missing, folder, tmp_path, monkeypatch):
    def without(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(libraries.importlib, "import_module", without)
    with pytest.raises(MissingExtraError) as caught:
        registry.export(folder, kind, tmp_path / "out")
    assert str(caught.value) == missing
    line = missing_extra(caught.value)
    assert line == missing + ("" if kind == "tensorboard" else ", or [all] for every command")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results"]


def test_a_library_that_lacks_one_of_its_own_is_not_called_missing(monkeypatch):
    def without(_):
        raise ModuleNotFoundError("No module named 'six'", name="six")

    monkeypatch.setattr(libraries.importlib, "import_module", without)
    with pytest.raises(ModuleNotFoundError, match="No module named 'six'"):
        libraries.library("tensorboard.summary", extra="tensorboard")


def test_wandb_that_is_missing_is_named_with_its_extra(folder, tmp_path, monkeypatch):
    from orchestrator.export import wandb_runs

    def missing(_):
        raise wandb_runs.PackageNotFoundError

    monkeypatch.setattr(wandb_runs, "version", missing)
    with pytest.raises(MissingExtraError, match=r"wandb is not installed: pip install 'ravel-sweeps\[wandb\]'"):
        registry.export(folder, "wandb-offline", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "results"]
