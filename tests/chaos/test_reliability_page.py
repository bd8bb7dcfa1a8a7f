"""The page on reliability is what its runs say."""

import json
from dataclasses import replace

import pytest
import reliability_page
from kill_moments import KINDS, drawn
from outcomes import VARIABLE, Outcome, append, read

LOST = {"points": 0, "trials": 0, "decisions": 0}


@pytest.fixture
def outcomes(tmp_path):
    """Three outcomes in a file: two of one fault, of which one lost points, and one of another."""
    path = tmp_path / "results.jsonl"
    first = Outcome(drawn("GCS killed", 3), code=3, noticed_s=2.0, seconds=5.0, retries=1, lost=LOST)
    append(first, path)
    append(replace(first, noticed_s=None, seconds=9.0, lost={**LOST, "points": 4}, faults=["a point is lost"]), path)
    append(Outcome(drawn("raylet killed", 0), code=0, suite="chaos", lost=LOST), path)
    return list(read(path))


def test_the_page_in_the_repository_is_that_of_the_runs_in_the_repository():
    assert reliability_page.PAGE.read_text() == reliability_page.page(list(read(reliability_page.RESULTS)))


def test_no_run_in_the_repository_is_of_code_that_is_in_no_commit():
    assert not [run for run in read(reliability_page.RESULTS) if run["revision"].endswith("+")]


def test_a_row_sums_its_runs(outcomes):
    assert "| kill -9 of the GCS | 2 | 1 | 2 | 4, 0, 0 | 2.0 (at most 2.0; 1 of 2) | 7.0 (at most 9.0) |" in (
        reliability_page.table("kills", outcomes)
    )
    assert "GCS" not in reliability_page.table("chaos", outcomes)


def test_a_broken_run_is_named_with_its_seed(outcomes):
    (line,) = reliability_page.broken(outcomes).splitlines()
    assert line.startswith("- GCS killed, seed 3, at `")
    assert line.endswith("a point is lost")


def test_every_fault_has_a_row_in_its_table():
    from chaos_faults import CHOICES

    assert list(reliability_page.SUITES["kills"]) == list(KINDS)
    assert list(reliability_page.SUITES["chaos"]) == list(CHOICES)


def test_an_outcome_has_its_revision_its_machine_and_its_moment(outcomes):
    first = outcomes[0]
    assert (first["kind"], first["seed"], first["place"]) == ("GCS killed", 3, drawn("GCS killed", 3).place)
    assert first["machine"]["cores"] > 0
    assert len(first["revision"].rstrip("+")) == 12
    assert "output" not in first


def test_outcomes_are_appended_to_the_file_that_the_environment_names_and_to_none_otherwise(tmp_path, monkeypatch):
    outcome = Outcome(drawn("GCS killed", 3), code=3)
    monkeypatch.delenv(VARIABLE, raising=False)
    append(outcome)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named.jsonl"))
    append(outcome)
    append(outcome)
    assert [run["seed"] for run in read(tmp_path / "named.jsonl")] == [3, 3]


def test_a_run_whose_moment_did_not_come_is_not_recorded(tmp_path):
    append(Outcome(drawn("GCS killed", 3), faults=["the moment never came"]), tmp_path / "results.jsonl")
    assert not (tmp_path / "results.jsonl").exists()


def test_outcomes_of_another_format_are_refused(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({"v": 2}) + "\n")
    with pytest.raises(ValueError, match=r"results.jsonl:1: must be of format 1, is 2"):
        list(read(path))
