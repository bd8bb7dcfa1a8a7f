"""Change a sweep from Python: the answers and the refusals of the command line, word for word."""

import contextlib
import doctest
import io
import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from typer.testing import CliRunner

import ravel
from orchestrator.cli.main import app
from orchestrator.errors import OrchestratorError, RefusedOrder, SpecError, SweepCopied
from orchestrator.orders.book import book_of

SWEEP = "digits-20261129-112245-bcdb"
POINT = {"optimizer.lr": 0.25, "mixup.alpha": 1.0}


def ravel_says(*arguments):
    result = CliRunner().invoke(app, arguments)
    return str(result.exception) if isinstance(result.exception, OrchestratorError) else result.output.rstrip("\n")


@pytest.fixture
def sweep(finished):
    """A sweep of 9 trials of 9 epochs that ended, open in Python."""
    return ravel.open(finished(name=SWEEP).path)


CHANGES = {
    "trials": ({"trials": "+4"}, ["--trials", "+4"]),
    "trials in all": ({"trials": 12}, ["--trials", "12"]),
    "epochs": ({"epochs": 27}, ["--epochs", "27"]),
    "settings": (
        {"set": {"resources.max_concurrent": 2, "budget.gpu_s": 1e5, "scheduler.audit": 0.25}},
        ["--set", "resources.max_concurrent=2", "--set", "budget.gpu_s=100000.0", "--set", "scheduler.audit=0.25"],
    ),
    "a setting to null": ({"trials": "+1", "set": {"budget.target": None}}, ["--trials", "+1"]),
    "points": ({"points": [POINT, POINT]}, ["--add-point", "points.json"]),
    "nothing": ({}, []),
    "a smaller number": ({"trials": 4}, ["--trials", "4"]),
    "a wrong number": ({"trials": "many"}, ["--trials", "many"]),
    "two numbers": (
        {"trials": "+1", "set": {"search.num_trials": 4}},
        ["--trials", "+1", "--set", "search.num_trials=4"],
    ),
    "a fixed field": ({"set": {"search.sampler": "gp"}}, ["--set", "search.sampler=gp"]),
    "no failed trial": ({"retry_failed": True}, ["--retry-failed"]),
    "a point outside the space": ({"points": [{"optimizer.lr": 3.0}]}, ["--add-point", "outside.json"]),
}


@pytest.mark.parametrize("has_driver", [True, False])
@pytest.mark.parametrize("case", CHANGES)
def test_python_and_the_command_line_extend_and_refuse_in_the_same_words(finished, desk_of, case, has_driver):
    folder, (keywords, arguments) = finished(name=SWEEP), CHANGES[case]
    root = folder.path.parents[1]
    (root / "points.json").write_text(json.dumps([POINT, POINT]))
    (root / "outside.json").write_text(json.dumps({"optimizer.lr": 3.0}))
    shutil.copytree(folder.path, root / "before")
    said = []
    for give in (lambda: python_says(folder, keywords), lambda: ravel_says("extend", SWEEP, *arguments)):
        with contextlib.chdir(root), desk_of(folder) if has_driver else contextlib.nullcontext():
            said.append(give())
        shutil.rmtree(folder.path)
        shutil.copytree(root / "before", folder.path)
    assert said[0] == said[1]
    assert said[0].partition(": ")[0] in {SWEEP, "--trials"}


def python_says(folder, keywords):
    try:
        return str(ravel.open(folder.path).extend(**keywords))
    except OrchestratorError as error:
        return str(error)


def test_an_answer_holds_what_changed(sweep, desk_of):
    with desk_of(sweep.folder):
        answer = sweep.extend(trials="+4", epochs=27)
    assert (answer.sweep, answer.outcome) == (SWEEP, "accepted")
    assert answer.settings == {"search.num_trials": 13, "trial.epochs": 27}
    assert answer.trials == ("t000", "t003", "t008")
    assert "t000, t003, t008 reopened" in answer.notes
    assert sweep.result.plan.spec.search.num_trials == 13


def test_trials_and_the_sweep_are_stopped_by_a_driver_and_only_by_one(finished, desk_of):
    sweep = ravel.open(finished(name=SWEEP, until=12).path)
    with pytest.raises(OrchestratorError, match=r"must have a driver to be stopped, .*; ravel resume .* continues it"):
        sweep.stop()
    with desk_of(sweep.folder) as left:
        name = sweep.result.state.with_status("running", "waiting", "interrupted")[0].id
        assert sweep.stop(trial=name).trials == (name,)
        with pytest.raises(RefusedOrder, match="must run or wait to be stopped, it is over: stopped") as error:
            sweep.stop(trial=[name, "t042"])
        assert len(error.value.reasons) == 2
        assert str(sweep.stop()) == f"{SWEEP}: accepted\n  stops the sweep; ravel resume continues it"
    assert [leave.cause for leave in left] == ["order"]


def test_a_sweep_that_has_run_to_its_end_needs_no_stop(finished):
    sweep = ravel.open(finished(name=SWEEP).path)
    message = "must run to be stopped, and it has run to its end; ravel extend .* adds trials or epochs"
    with pytest.raises(OrchestratorError, match=message):
        sweep.stop()


def test_an_order_to_stop_a_driver_that_has_just_ended_is_not_written(sweep, monkeypatch):
    monkeypatch.setattr("orchestrator.changing.held_generation", lambda _: 1)
    for trial in (None, "t000"):
        with pytest.raises(OrchestratorError, match="must run to be stopped, and it has run to its end"):
            sweep.stop(trial=trial)
    assert book_of(sweep.folder).names() == []


def test_an_order_says_what_it_will_do_after_those_that_wait_too(sweep):
    said = [sweep.extend(trials="+4") for _ in range(2)]
    assert [answer.notes for answer in said] == [("search.num_trials: 9 to 13",), ("search.num_trials: 13 to 17",)]
    assert [answer.outcome for answer in said] == ["written", "written"]
    with pytest.raises(RefusedOrder, match="must be >= 9, the trials that exist; got 4"):
        sweep.extend(trials=4)
    assert len(book_of(sweep.folder).names()) == 2
    applied = sweep.extend(trials="+1", now=True)
    assert (applied.outcome, applied.settings) == ("accepted", {"search.num_trials": 18})


def test_orders_given_at_once_are_all_answered_once_and_each_from_the_number_in_force(sweep, desk_of):
    with desk_of(sweep.folder), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ravel.open(sweep.folder.path).extend(trials="+1", wait_s=60), range(8)))
    assert {answer.outcome for answer in answers} == {"accepted"}
    assert sorted(answer.settings["search.num_trials"] for answer in answers) == list(range(10, 18))
    assert [order.outcome for order in sweep.orders] == ["accepted"] * 8


def test_a_limit_of_trials_at_a_time_is_set_and_taken_away(sweep):
    for value in (2, None):
        assert sweep.extend(set={"resources.max_concurrent": value}, now=True).settings == {
            "resources.max_concurrent": value
        }
        assert sweep.result.plan.spec.resources.max_concurrent == value


def test_a_copy_of_a_sweep_takes_no_order_though_its_lock_says_that_a_driver_runs(finished, desk_of, tmp_path):
    folder = finished(name=SWEEP, until=12)
    with desk_of(folder):
        shutil.copytree(folder.path, tmp_path / "copies" / SWEEP)
        copied = ravel.open(tmp_path / "copies" / SWEEP)
        assert copied.is_running
        for order in (copied.stop, lambda: copied.stop(trial="t000"), lambda: copied.extend(trials="+1")):
            with pytest.raises(SweepCopied, match="a copy of"):
                order()
    assert book_of(copied.folder).names() == []


@pytest.mark.parametrize("seconds", [math.nan, -1.0])
def test_a_wait_that_is_no_number_of_seconds_is_refused_before_an_order_is_written(sweep, seconds):
    with pytest.raises(SpecError, match="--wait: must be a number of seconds >= 0, got"):
        sweep.extend(trials="+1", wait_s=seconds)
    assert book_of(sweep.folder).names() == []


@pytest.mark.parametrize("name", ["t0\udcff", "t00\n3", "../t003", "", "t" * 5000])
def test_a_trial_of_any_name_is_refused_in_one_line(finished, desk_of, name):
    folder = finished(name=SWEEP, until=12)
    with desk_of(folder), pytest.raises((RefusedOrder, SpecError)) as error:
        ravel.open(folder.path).stop(trial=name)
    *_, reason = str(error.value).split("\n")
    assert len(str(error.value).split("\n")) == (1 if isinstance(error.value, SpecError) else 2)
    assert "must be " in reason
    assert len(reason) < 420


def test_an_order_that_no_driver_answers_in_time_says_so(sweep, desk_of, monkeypatch):
    monkeypatch.setattr("orchestrator.execution.order_desk.OrderDesk.serve", lambda *_: None)
    with desk_of(sweep.folder), pytest.raises(OrchestratorError, match=r"written, and not answered within 0\.1 s; see"):
        sweep.extend(trials="+1", wait_s=0.1)


@pytest.mark.parametrize("method", ["stop", "extend"])
def test_the_examples_of_the_docstrings_run(finished, desk_of, tmp_path, monkeypatch, method):
    folder = finished(
        EIGHT_TRIALS.replace("EIGHT", "8" if method == "extend" else "9"),
        name=SWEEP,
        until=None if method == "extend" else 40,
    )
    monkeypatch.chdir(tmp_path)
    text = getattr(ravel.Sweep, method).__doc__.replace("# doctest: +SKIP", "")
    example = doctest.DocTestParser().get_doctest(text, {"ravel": ravel}, method, None, None)
    assert len(example.examples) >= 2
    output = io.StringIO()
    with desk_of(folder):
        result = doctest.DocTestRunner().run(example, out=output.write)
    assert (result.failed, output.getvalue()) == (0, "")


EIGHT_TRIALS = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd}
space: {use: [mixup], parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}}
search: {num_trials: 8, seed: 5, sampler: random}
scheduler: {name: none}
"""
