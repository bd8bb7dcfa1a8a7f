"""Trials are compared at each rung, and across sweeps, at one epoch that the output names."""

import json
import re
import subprocess
import sys

import planted_sweeps as planted
import pytest
from typer.testing import CliRunner

from orchestrator.analysis.comparison.across import common_epoch, compare_across, differences
from orchestrator.analysis.comparison.comparison import compare
from orchestrator.analysis.comparison.rungs import OUTCOMES, rungs_of
from orchestrator.analysis.figures.registry import draw
from orchestrator.cli.main import app
from orchestrator.errors import OrchestratorError
from orchestrator.state.events import TrialEnded
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState

SPEC = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd}
space: {use: [mixup], parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}}
search: {num_trials: 14, seed: 3, sampler: random}
scheduler: {SCHEDULER}
"""
SCHEDULERS = [
    "grace_period: auto",
    "grace_period: auto, budget_fraction: 0.5, audit: 0.5",
    "grace_period: 1, kind: stopping",
    "grace_period: 1, kind: stopping, audit: 0.5",
    "grace_period: 1, kind: promotion",
    "grace_period: 1, kind: promotion, brackets: 3",
    "name: pasha, grace_period: 1, audit: 0.2",
    "name: none",
]


@pytest.fixture(scope="module")
def misleading(tmp_path_factory):
    return planted.misleading(tmp_path_factory.mktemp("misleading"))


def another(result, *, epochs=27, data="digits", metric="val/accuracy", name="wider"):
    """A second sweep next to another one, of 20 trials that all run their full budget."""
    text = planted.SPEC.replace("name: planted", f"name: {name}").replace("num_trials: 48", "num_trials: 20")
    text = text.replace("epochs: 27", f"epochs: {epochs}, data.name: {data}")
    text += f"objective: {{metric: {metric}, mode: max}}\n"
    folder = SweepFolder(result.folder.path.parent / f"{name}-1")
    return planted.write(folder, text, lambda _, epoch: {metric: (150 + 7 * epoch) / 360}, lambda _: None)


def ravel(result, *arguments, code=0):
    ended = CliRunner().invoke(app, [*arguments, "--storage", str(result.folder.path.parent)])
    assert ended.exit_code == code, ended.output
    return ended.stdout


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_outcomes_at_a_rung_are_those_of_the_log_at_every_moment_of_a_sweep(virtual_sweep, scheduler):
    sweep = virtual_sweep(SPEC.replace("SCHEDULER", scheduler), workers=3)
    cuts = {len(sweep.events), *range(40, len(sweep.events), 23)}
    for state in (SweepState(sweep.events[:cut]) for cut in sorted(cuts)):
        for rung in rungs_of(sweep.plan, state):
            reached = {trial.id for trial in state.trials.values() if rung.epoch in trial.values("val/accuracy")}
            assert set(rung.outcomes) == set(rung.comparison.values) == reached
            assert sum(rung.counts.values()) == len(reached)
            ran_on = {name for name in reached if state.trials[name].epoch > rung.epoch}
            assert {name for name, words in rung.outcomes.items() if words in {"promoted", "audited"}} >= ran_on
            ends = [trial.end for trial in state.trials.values() if trial.end is not None]
            for status in ("stopped", "paused"):
                ended = {end.trial for end in ends if end.status == status and end.rung == rung.epoch}
                assert {name for name, words in rung.outcomes.items() if words == status} == ended
    assert rung.is_last
    completed = sweep.state.with_status("completed")
    assert rung.counts.get("full budget", 0) + rung.counts.get("audited", 0) == len(completed)


def test_an_audited_trial_is_audited_from_the_rung_that_rejected_it(virtual_sweep):
    sweep = virtual_sweep(SPEC.replace("SCHEDULER", "grace_period: 1, kind: stopping, audit: 1.0"), workers=3)
    audited = [trial for trial in sweep.state.trials.values() if trial.blind_from is not None]
    assert audited
    for rung in rungs_of(sweep.plan, sweep.state):
        expected = {trial.id for trial in audited if trial.blind_from <= rung.epoch}
        assert {name for name, words in rung.outcomes.items() if words == "audited"} == expected


def test_a_trial_that_an_order_stopped_at_a_rung_is_not_called_stopped_by_it(virtual_sweep):
    sweep = virtual_sweep(SPEC.replace("SCHEDULER", "grace_period: 1, kind: stopping"), workers=3)
    first = next(event for event in sweep.events if isinstance(event, TrialEnded) and event.status == "stopped")
    state = SweepState(sweep.events[: sweep.events.index(first)])
    state.apply(first.model_copy(update={"rung": None, "reason": "ordered by ada"}))
    (rung,) = (rung for rung in rungs_of(sweep.plan, state) if rung.epoch == first.rung)
    assert rung.outcomes[first.trial] == "stopped by order"


def test_rungs_that_are_no_epochs_are_refused_with_the_remedy(virtual_sweep):
    sweep = virtual_sweep(SPEC.replace("SCHEDULER", "grace_period: 2, kind: stopping, resource: gpu_seconds"))
    with pytest.raises(OrchestratorError, match=r"scheduler\.resource must be epochs .* got gpu_seconds; .* --epoch"):
        rungs_of(sweep.plan, sweep.state)


def test_the_command_prints_a_table_for_each_rung_with_its_counts(misleading):
    text = ravel(misleading, "compare", "planted-1", "--rungs")
    assert "rung 3: 48 reached: 22 promoted, 26 stopped" in text
    assert "rung 9: 22 reached: 22 promoted" in text
    assert "full budget, epoch 27: 22 reached: 22 full budget" in text
    best = compare(misleading.plan, misleading.state, epoch=3).best
    assert f"1 {best} " in text


def test_an_epoch_beside_rungs_is_refused(misleading):
    folder = misleading.folder.path
    done = CliRunner().invoke(app, ["compare", str(folder), "--rungs", "--epoch", "3"])
    assert str(done.exception).startswith("--epoch: must be left out with --rungs"), done.output


def test_the_rungs_as_json_are_those_of_the_library(misleading):
    plain = json.loads(ravel(misleading, "compare", "planted-1", "--rungs", "--json"))["rungs"]
    assert plain == [rung.as_json() for rung in rungs_of(misleading.plan, misleading.state)]
    assert [(rung["rung"], rung["reached"]) for rung in plain] == [(3, 48), (9, 22), (27, 22)]
    assert {words for rung in plain for words in rung["counts"]} <= set(OUTCOMES)


def test_compare_names_the_epoch_and_lists_the_rest_apart(misleading):
    text = ravel(misleading, "compare", "planted-1")
    compared = compare(misleading.plan, misleading.state)
    assert f"planted-1: val/accuracy at epoch {compared.epoch}, 22 of 48 trials" in text
    assert compared.sentence().partition(":")[0] in text
    assert "not compared, without a value at epoch 27: 26 trials" in text
    last = misleading.state.trials[compared.greyed[0]].last("val/accuracy")
    assert re.search(rf"^ +{compared.greyed[0]} +\({last:.4f}\) +3/27 rung 3 ", text, re.MULTILINE)


def test_compare_at_another_epoch_is_the_comparison_there(misleading):
    plain = json.loads(ravel(misleading, "compare", "planted-1", "--epoch", "3", "--json"))
    assert plain["comparison"] == compare(misleading.plan, misleading.state, epoch=3).as_json()
    assert (plain["compare"], plain["views"]) == (None, {})  # MLflow has no run of it
    ended = CliRunner().invoke(
        app, ["compare", "planted-1", "--epoch", "99", "--storage", str(misleading.folder.path.parent)]
    )
    assert "epoch: must be one that a trial measured val/accuracy at, got 99" in str(ended.exception)


def test_status_as_json_has_the_comparison_that_its_text_prints(misleading):
    plain = json.loads(ravel(misleading, "status", "planted-1", "--json"))["comparison"]
    text = ravel(misleading, "status", "planted-1")
    low, high = plain["interval"]
    assert (plain["epoch"], plain["images"], plain["best"]) == (27, 360, plain["inseparable"][0])
    assert f"{len(plain['inseparable'])} of {len(plain['values'])} trials cannot be told apart from the best" in text
    assert f"{plain['best']} {plain['values'][plain['best']]:.4f} at epoch 27 (95 %: {low:.4f} to {high:.4f})" in text
    assert len(plain["not_compared"]) == 26


def test_sweeps_are_compared_at_the_highest_epoch_that_enough_trials_of_each_measured(misleading):
    shorter = another(misleading, epochs=9, name="shorter")
    pairs = [(result.plan, result.state) for result in (misleading, shorter)]
    compared = compare_across(pairs)
    assert (common_epoch(pairs), compared.epoch, compared.images) == (9, 9, 360)
    assert len(compared.values) == 22 + 20
    assert len(compared.greyed) == 26
    for result in (misleading, shorter):
        own = compare(result.plan, result.state, epoch=9).values
        assert {name: value for name, value in compared.values.items() if name.startswith(result.sweep)} == {
            f"{result.sweep}/{name}": value for name, value in own.items()
        }
    assert list(compared.values.values()) == sorted(compared.values.values(), reverse=True)
    assert differences(pairs) == [
        "full budgets differ (planted-1 27, shorter-1 9 epochs), so a schedule of the learning rate is at another step"
    ]


def test_sweeps_on_different_images_have_no_set_that_cannot_be_separated(misleading):
    other = another(misleading, data="mnist", name="mnist")
    pairs = [(result.plan, result.state) for result in (misleading, other)]
    compared = compare_across(pairs)
    assert compared.images is None
    assert "no interval: the sweeps have different validation images" in "\n".join(compared.lines())
    assert differences(pairs) == [
        "the sweeps have different validation images: their values differ for that reason, too"
    ]


def test_sweeps_with_different_objectives_are_not_compared(misleading):
    other = another(misleading, metric="val/robust_accuracy", name="robust")
    with pytest.raises(OrchestratorError, match=r"objective: must be the same in all sweeps .* got val/accuracy"):
        compare_across([(result.plan, result.state) for result in (misleading, other)])


def test_the_command_compares_sweeps_by_the_same_function(misleading):
    other = another(misleading, name="other")
    plain = json.loads(ravel(misleading, "compare", "planted-1", "other-1", "--json"))
    pairs = [(result.plan, result.state) for result in (misleading, other)]
    assert plain["comparison"] == compare_across(pairs).as_json()
    assert plain["sweeps"] == ["planted-1", "other-1"]
    text = ravel(misleading, "compare", "planted-1", "other-1", "--epoch", "3")
    assert "2 sweeps: val/accuracy at epoch 3, 68 of 68 trials" in text
    refused = CliRunner().invoke(
        app, ["compare", "planted-1", "other-1", "--rungs", "--storage", str(misleading.folder.path.parent)]
    )
    assert "SWEEP: must be one for --rungs and --open, got 2" in str(refused.exception)


def test_the_figure_of_rungs_has_every_trial_once_at_each_rung_that_it_reached(misleading):
    figure = draw(misleading, "rungs")
    rungs = rungs_of(misleading.plan, misleading.state)
    points = sum(len(trace.x) for trace in figure.data)
    assert points == sum(len(rung.outcomes) for rung in rungs)
    for trace in figure.data:
        assert trace.name in OUTCOMES
    titles = [axis.title.text for axis in figure.select_xaxes()]
    assert [f"rank at {rung.name} ({rung.summary})" for rung in rungs] == [title for title in titles if title]


def test_comparing_imports_neither_torch_nor_ray(misleading):
    code = (
        "import sys; from orchestrator.cli.main import app\n"
        f"try: app(['compare', 'planted-1', '--rungs', '--storage', {str(misleading.folder.path.parent)!r}])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'ray'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
