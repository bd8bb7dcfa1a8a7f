"""Results of the peers: how processes are measured, what is stored, and what the page says of it."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[2] / "benchmarks/peers"


# Processes


def test_a_descendant_in_a_session_of_its_own_counts_and_is_ended(peers, tmp_path):
    tree = peers("process_tree")
    busy = "import pathlib, time\nwhile time.process_time() < 0.6: pass\npathlib.Path('done').touch()\ntime.sleep(600)"
    start = (
        f"import pathlib, subprocess, time\nsubprocess.Popen({[sys.executable, '-c', busy]}, start_new_session=True)"
    )
    wait = "while not pathlib.Path('done').exists(): time.sleep(0.05)\ntime.sleep(2)"  # a sample or more after its work
    command = [sys.executable, "-c", f"{start}\n{wait}"]
    usage = tree.measured(command, environment=dict(os.environ), folder=tmp_path, cores=1)
    assert usage.cpu_s > 0.55
    assert usage.wall_s > 2
    assert usage.rss_mb >= usage.pss_mb > 5
    assert tree.marked(tmp_path) == []


def test_a_command_that_fails_ends_the_run_with_its_output(peers, tmp_path):
    command = [sys.executable, "-c", "print('what went wrong'); raise SystemExit(3)"]
    with pytest.raises(SystemExit, match=r"ended with 3:\n(.*\n)*what went wrong"):
        peers("process_tree").measured(command, environment=dict(os.environ), folder=tmp_path, cores=1)


def test_more_cores_than_there_are_is_refused(peers, tmp_path):
    with pytest.raises(SystemExit, match="cores: must be at least 4096"):
        peers("process_tree").measured(["true"], environment={}, folder=tmp_path, cores=4096)


def test_a_runner_that_is_ended_ends_what_it_started(peers, tmp_path):
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom process_tree import measured\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "measured(['sleep', '600'], environment={}, folder=Path(sys.argv[1]), cores=1)"
    )
    runner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=PEERS)
    tree, deadline = peers("process_tree"), time.monotonic() + 60
    while not tree.marked(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(60) == 143
    assert tree.marked(tmp_path) == []
    with suppress(ProcessLookupError):
        runner.kill()


# Results and page


@pytest.fixture
def result(peers):
    """``result(peer, round, **changes)``: one that was made up."""

    def of(peer="ravel-local", number=0, **changes):
        results = peers("results")
        given = {
            "work": "plain",
            "size": results.Size(),
            "wall_s": 300.0,
            "first_epoch_s": 12.0,
            "target_s": 100.0,
            "epochs": 60,
            "trials": 24,
            "best_accuracy": 0.9871,
            "cpu_s": 500.0,
            "pss_mb": 900,
            "rss_mb": 1500,
            "others": 0.01,
            "time": 1_700_000_000,
            "revision": "abc",
            "versions": {"torch": "2.13.0"},
            "machine": {"processor": "P", "cores": 2, "memory_gb": 8, "system": "Linux 6"},
        }
        return results.Result(peer=peer, round=number, **{**given, **changes})

    return of


def test_a_stored_result_is_read_as_it_was(peers, result, tmp_path):
    results, path = peers("results"), tmp_path / "results.jsonl"
    assert results.read_results(path) == []
    both = [result(), result("optuna", 3, target_s=None)]
    for one in both:
        results.append_result(path, one)
    assert results.read_results(path) == both


@pytest.mark.parametrize("line", ["{", "{}", '{"format": 2}', '{"format": 1, "work": "plain"}', "[]"])
def test_a_line_that_is_no_result_is_named(line, peers, tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"results\.jsonl:1: must be a result of format 1, got"):
        peers("results").read_results(path)


def test_runs_of_two_machines_or_versions_are_not_compared(peers, result):
    blocks_of = peers("page").blocks_of
    both = [result(), result("optuna", versions={"torch": "2.13.0", "optuna": "5"})]
    assert "torch 2.13.0, optuna 5" in blocks_of(both)["versions"]
    with pytest.raises(SystemExit, match=r"machine: must be that of the stored runs, .*; give another file"):
        blocks_of([*both, result(number=1, machine={"processor": "Q"})])
    with pytest.raises(SystemExit, match="optuna: must have the versions of the stored runs"):
        blocks_of([*both, result("optuna", 1)])


def test_a_round_has_each_peer_once_in_a_rotated_order_and_stored_runs_are_not_repeated(peers, result):
    runner, size = peers("peers"), peers("results").Size()
    plan = {"works": ["plain"], "names": ["ravel-local", "ray-tune", "optuna"], "rounds": 3, "size": size}
    todo = list(runner.missing([], **plan))
    assert [name for _, name, number in todo if number == 0] == ["ravel-local", "ray-tune", "optuna"]
    assert [name for _, name, number in todo if number == 1] == ["ray-tune", "optuna", "ravel-local"]
    assert [name for _, name, number in todo if number == 2] == ["optuna", "ravel-local", "ray-tune"]
    stored = [
        result("ray-tune", 1),
        result("optuna", 0, work="regularized"),
        result("optuna", 2, size=replace(size, points=3)),
    ]
    assert list(runner.missing(stored, **plan)) == [run for run in todo if run != ("plain", "ray-tune", 1)]


def test_a_summary_counts_each_epoch_once_and_takes_the_first_time_of_the_target(peers):
    results = peers("results")
    report = results.Report
    reports = [report(30, 1, 2, 0.985), report(12, 0, 1, 0.9), report(20, 1, 1, 0.98), report(21, 1, 1, 0.98)]
    assert results.summary(reports, began=10) == {
        "first_epoch_s": 2,
        "target_s": 10,
        "epochs": 3,
        "trials": 2,
        "best_accuracy": 0.985,
    }
    assert results.summary(reports[1:2], began=10)["target_s"] is None


def test_a_time_that_half_of_the_runs_did_not_reach_has_no_median(peers, result):
    medians = peers("results").medians
    some = [result(target_s=value) for value in (10.0, None, 30.0)]
    assert medians(some, ["target_s", "wall_s"]) == {"target_s": 30.0, "wall_s": 300.0}
    assert medians([*some, result(target_s=None)], ["target_s"]) == {"target_s": None}


def rows_of(text, head):
    """Return the rows of a table by their first cell, each with the cells by their heads."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(head))
    names = [cell.strip() for cell in lines[first].strip("|").split("|")]
    found = {}
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found[cells[0]] = dict(zip(names, cells, strict=True))
    return found


def test_the_tables_have_medians_and_ratios_of_the_same_round(peers, result):
    page = peers("page")
    walls = {"ravel-local": (100, 200, 100, 100, 100), "optuna": (150, 400, 160, 170, 140)}
    text = page.tables([result(peer, n, wall_s=float(s)) for peer, own in walls.items() for n, s in enumerate(own)])
    measured, ratios = rows_of(text, "| peer | runs"), rows_of(text, "| peer | wall time |")
    assert measured["Optuna"]["wall time, s"] == "160"
    assert (
        measured["Ravel, `--address local`"] | {"runs": "5", "best accuracy, %": "98.71"}
        == measured["Ravel, `--address local`"]
    )
    assert ratios.keys() == {"Optuna"}
    assert ratios["Optuna"]["wall time"] == "1.60 (1.40 to 2.00)"
    assert ratios["Optuna"]["epochs"] == "1.00 (1.00 to 1.00)"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"wall_s": 299.0, "best_accuracy": 0.982}, ("3: missed", "+0.20, met")),
        ({"wall_s": 300.0, "best_accuracy": 0.9821}, ("3: met", "+0.21, missed")),
        ({"wall_s": 900.0, "best_accuracy": 0.97}, ("3: met", "-1.00, met")),
    ],
)
def test_goals_stand_next_to_the_ratios_with_what_became_of_them(other, said, peers, result):
    ours = [result(wall_s=100.0, best_accuracy=0.98), result(number=1, wall_s=1.0)]
    page = peers("page")
    ratios = rows_of(page.tables([*ours, result("optuna", **other), result("wandb")]), "| peer | wall time |")
    assert tuple(ratios["Optuna"][head] for head in page.GOAL_HEADS) == said
    assert ratios["W&B agents"][page.GOAL_HEADS[0]] == ""


def test_few_runs_are_all_listed_and_a_target_that_was_missed_is_said(peers, result):
    page = peers("page")
    own = [result(), result(number=1, wall_s=310.0), result("optuna", target_s=None), result("optuna", 1)]
    text = page.tables(own)
    measured, ratios = rows_of(text, "| peer | runs"), rows_of(text, "| peer | wall time |")
    assert measured["Ravel, `--address local`"]["wall time, s"] == "305 (300, 310)"
    assert measured["Optuna"]["98 % after, s"] == "not reached (not reached, 100)"
    assert ratios["Optuna"]["98 % after"] == "1.00 (1.00 to 1.00; 1 of 2 rounds)"


def test_a_disturbed_machine_is_said(peers, result):
    text = peers("page").machine([result(), result(number=1, others=0.2), result(number=2)])
    assert text.startswith("P, 2 cores, 8 GB, Linux 6. 3 runs in 3 rounds, revision abc. ")
    assert "1.0 % of the cores' time in the median run, and 20.0 % at most" in text


def test_blocks_without_a_run_say_how_to_measure(peers):
    blocks = peers("page").blocks_of([])
    assert blocks.keys() == {"machine", "versions", "plain", "regularized"}
    assert all("Not measured yet" in block and "peers.py run" in block for block in blocks.values())


def test_a_page_without_a_marker_is_refused(peers):
    with pytest.raises(ValueError, match="<!-- peers: plain -->"):
        peers("page").with_blocks("no marker", {"plain": "text"})


def test_the_page_is_what_is_stored(peers):
    page, results = peers("page"), peers("results")
    stored = [one for one in results.read_results(results.RESULTS) if one.size == results.Size()]
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.with_blocks(text, page.blocks_of(stored)) == text


def test_every_program_is_on_the_page_and_has_an_environment(peers):
    text = (PEERS.parents[1] / "docs" / "benchmarks.md").read_text()
    programs, environments = peers("programs").PROGRAMS, peers("environments")
    for program in programs.values():
        assert program.title in text
        assert program.environment is None or program.environment in environments.REQUIREMENTS
    pinned = environments.CONSTRAINTS.read_text().lower()
    needed = {requirement for own in environments.REQUIREMENTS.values() for requirement in (*environments.COMMON, *own)}
    assert all("==" in name or f"\n{name.partition('[')[0]}==" in pinned for name in needed)


def test_an_environment_for_other_requirements_is_refused(peers, tmp_path):
    environments = peers("environments")
    (tmp_path / "optuna").mkdir()
    mark = tmp_path / "optuna" / environments.INSTALLED
    for text in (None, '["torch"]'):
        if text is not None:
            mark.write_text(text)
        with pytest.raises(SystemExit, match=r"must be made first; run peers\.py setup --environments"):
            environments.python_of(tmp_path, "optuna")
    mark.write_text(json.dumps([*environments.COMMON, *environments.REQUIREMENTS["optuna"]]))
    assert environments.python_of(tmp_path, "optuna") == tmp_path / "optuna" / "bin" / "python"
    assert math.isfinite(len(environments.versions_of(Path(sys.executable), ["torch"])))
