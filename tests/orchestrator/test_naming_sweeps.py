"""A sweep is named by its id, its name, or its folder, and a storage without sweeps says so."""

import pytest
from typer.testing import CliRunner

from orchestrator.cli import main
from orchestrator.errors import SweepNotFound
from orchestrator.state.sweep_lookup import find_sweep

SWEEP = "digits-20260101-120000-ab12"


@pytest.fixture
def storage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / SWEEP).mkdir(parents=True)
    (tmp_path / "results" / SWEEP / "plan.json").write_text("{}")
    return tmp_path / "results"


@pytest.mark.parametrize(
    "sweep", [SWEEP, f"{SWEEP}/", "digits/", f"results/{SWEEP}", f"./results/{SWEEP}/", "results/digits"]
)
def test_a_sweep_is_found_by_its_id_its_name_or_its_folder(storage, sweep):
    assert find_sweep("results", sweep).path == storage / SWEEP


def test_a_path_replaces_the_storage(storage, tmp_path):
    assert find_sweep(tmp_path / "elsewhere", f"{storage}/{SWEEP}").sweep == SWEEP
    with pytest.raises(SweepNotFound, match=f"{tmp_path}/nowhere: no sweep 'digits' here"):
        find_sweep("results", "nowhere/digits")


def test_a_storage_without_sweeps_says_so_with_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main.app, ["list"])
    assert result.exit_code == 0
    assert f"no sweeps in {tmp_path}/results" in result.output.replace("\n", "")
    assert CliRunner().invoke(main.app, ["list", "--json"]).output.strip() == "[]"
