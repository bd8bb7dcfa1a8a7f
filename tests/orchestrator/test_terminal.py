"""The terminal: the live view, the summary, the plain lines, ``ravel status``."""

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from orchestrator.analysis.leaderboard import event_line, failures, log_line
from orchestrator.analysis.sweep_progress import headline, progress, trials_over, work_left
from orchestrator.cli.main import app
from orchestrator.cli.shared.live_display import LiveDisplay, PlainDisplay, display_for, live_view, print_summary
from orchestrator.decisions.budget import BudgetUse
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    EpochReported,
    RungDecided,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState
from orchestrator.tracking import runs
from orchestrator.tracking.cursor import Cursor

SPEC = (
    "name: digits\ntrial: {epochs: 9}\nspace: {use: [optimizer, snnl, mixup, adversarial]}\nsearch: {num_trials: 4}\n"
    "scheduler: {grace_period: 3, kind: stopping}\n"
)
OFF = {"snnl.weight": 0.0, "mixup.alpha": 0.0, "adversarial.epsilon": 0.0, "optimizer.lr": 0.05}


@pytest.fixture
def plan(tmp_path):
    folder = SweepFolder(tmp_path / "digits-20260101-120000")
    return make_plan(parse_spec(SPEC), folder, slots=2, now=0.0, working_directory=tmp_path)


def events(plan):
    """The baseline ran through, one was stopped at rung 3, one diverged, one was retried and still runs."""
    yield SweepStarted(time=0.0, generation=1, host="here", pid=1)
    for trial, weight in (("t000", 0.0), ("t001", -0.123456), ("t002", 0.5), ("t003", 0.25)):
        point = {**OFF, "snnl.weight": weight}
        origin = "baseline" if trial == "t000" else "search"
        config = trial_config(plan, trial, point)
        yield TrialCreated(time=1.0, trial=trial, origin=origin, point=point, config=config)
        yield AttemptStarted(time=1.0, trial=trial, attempt=1)
    for trial, epoch, accuracy in (("t000", 9, 0.97), ("t001", 3, 0.5), ("t003", 2, 0.6)):
        metrics = {"val/accuracy": accuracy}
        yield EpochReported(time=10.0, trial=trial, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics)
    yield RungDecided(time=10.0, trial="t001", rung=3, value=0.5, cutoff=0.9, competitors=2, kept=False)
    yield TrialEnded(time=11.0, trial="t001", status="stopped", rung=3)
    yield TrialEnded(time=12.0, trial="t002", status="diverged", reason="epoch 1, step 2: ce is not finite")
    yield AttemptFailed(time=13.0, trial="t003", attempt=1, cause="infrastructure", reason="its worker died")
    yield AttemptStarted(time=14.0, trial="t003", attempt=2)
    yield TrialEnded(time=15.0, trial="t000", status="completed")


def terminal(width=80):
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def test_the_live_view_fits_80_columns_and_shows_progress_the_best_what_waits_and_reasons(plan):
    console = terminal()
    console.print(live_view(plan, SweepState(events(plan))))
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    for words in (
        "3/4 trials over: 1 stopped at rung 3, 1 at full budget, 1 diverged",
        "1 running · 3/20 planned epochs",
        "15%",
        "left",
        "best t000*: val/accuracy 0.9700 after epoch 9; snnl.weight 0",
        "* baseline: every searched method off",
        "-0.1235",
        "not finite",
    ):
        assert words in text
    assert "…" not in text


def test_the_time_left_assumes_the_pace_so_far_and_the_epochs_the_scheduler_expects(plan):
    summary = progress(plan, SweepState(events(plan)), now=30.0)
    # Each of 4 trials is expected to run 3 epochs, and one in three the other 6: 20 epochs, of which 3 took 30 s.
    assert (summary.over, summary.elapsed_s, summary.left_s) == (3, 30.0, pytest.approx(170.0))
    assert headline(summary) == "15% · 3/4 trials · 1 running · 3/20 planned epochs · 0:00:30 · about 0:02:50 left"


def test_paused_and_promoted_trials_are_printed_and_counted(tmp_path):
    folder = SweepFolder(tmp_path / "digits-20260101-120000")
    spec = parse_spec(SPEC.replace("stopping", "promotion"))
    plan = make_plan(spec, folder, slots=2, now=0.0, working_directory=tmp_path)
    paused = [
        event.model_copy(update={"status": "paused"}) if "stopped" in str(event) else event for event in events(plan)
    ]
    state, lines = SweepState(), []
    for event in [*paused, TrialPromoted(time=16.0, trial="t001", rung=3)]:
        state.apply(event)
        lines.append(event_line(plan, state, event))
        if event.kind == "trial_ended" and event.status == "paused":
            summary = progress(plan, state, now=20.0)
            assert "3 running · 1 paused" in headline(summary)
            assert work_left(summary).startswith("3 running, 1 paused at rung 3 · ")
            assert trials_over(summary) == "0/4 trials over"
    shown = [line.split(" ", 1)[1].split("  [")[0] for line in lines if line]
    assert shown[1] == "t001 paused at rung 3 after epoch 3: val/accuracy 0.5000"
    assert shown[-1] == "t001 promoted from rung 3"


SWEPT = """
name: planned
trial: {data.name: digits, model.name: mlp, epochs: 9, optimizer.name: sgd}
space: {use: [mixup], parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}}
search: {num_trials: 20, sampler: random, seed: 3}
scheduler: {%s}
"""


@pytest.mark.parametrize(
    "scheduler",
    [
        "budget_fraction: 0.3",
        "budget_fraction: 0.3, audit: 0.5",
        "grace_period: 1, kind: stopping",
        "grace_period: 1, kind: promotion",
        "grace_period: 1, resource: gradient_evaluations",
        "name: pasha",
        "name: hyperband, kind: stopping",
        "name: median",
        "name: none",
    ],
)
def test_the_planned_share_is_100_percent_when_a_sweep_is_finished_and_less_before(scheduler, virtual_sweep):
    sweep = virtual_sweep(SWEPT % scheduler, workers=4)
    state, shares = SweepState(), []
    for event in sweep.events:
        state.apply(event)
        shares.append(progress(sweep.plan, state, now=event.time).share)
    assert shares[0] == 0
    assert max(shares) < 1
    assert shares[-1] > 0.75
    state.apply(SweepEnded(time=event.time, status="completed"))
    summary = progress(sweep.plan, state, now=event.time)
    assert (summary.share, summary.to_start, summary.left_s) == (1, 0, None)
    assert headline(summary).startswith("100% · 20/20 trials · ")


def test_an_interrupted_sweep_is_not_finished_and_names_what_is_left(plan):
    state = SweepState(events(plan))
    state.apply(TrialEnded(time=16.0, trial="t003", status="interrupted"))
    state.apply(SweepEnded(time=16.0, status="interrupted"))
    summary = progress(plan, state, now=20.0)
    assert summary.share < 1
    assert work_left(summary) == "1 interrupted · 3/20 planned epochs"


def test_a_time_limit_is_the_planned_budget_where_it_is_used_up_first(tmp_path):
    spec = parse_spec(SPEC + "budget: {wall_clock_s: 40}\n")
    folder = SweepFolder(tmp_path / "digits-20260101-120000")
    limited = make_plan(spec, folder, slots=2, now=0.0, working_directory=tmp_path)
    summary = progress(limited, SweepState(events(limited)), now=30.0)
    assert (summary.share, summary.left_s) == (0.75, 10.0)


def test_a_resume_of_a_completed_sweep_leaves_its_elapsed_time_as_it_was(plan):
    state = SweepState([*events(plan), SweepEnded(time=20.0, status="completed")])
    before = headline(progress(plan, state, now=9e6))
    state.apply(SweepStarted(time=5e6, generation=2, host="here", pid=2))
    state.apply(SweepEnded(time=5e6 + 0.1, status="completed"))
    assert headline(progress(plan, state, now=9e6)) == before
    assert before.endswith("0:00:20")


def test_a_clock_that_is_set_back_makes_no_elapsed_time_and_no_budget(tmp_path):
    spec = parse_spec(SPEC + "budget: {wall_clock_s: 40}\n")
    folder = SweepFolder(tmp_path / "digits-20260101-120000")
    limited = make_plan(spec, folder, slots=2, now=0.0, working_directory=tmp_path)
    state = SweepState(events(limited))
    budget = BudgetUse(limited, state)
    for at in (39.0, -3600.0, -3599.0):  # of which the last two are a second apart
        state.apply(AttemptFailed(time=at, trial="t003", attempt=1, cause="infrastructure", reason="lost"))
    assert progress(limited, state, now=-3599.0).elapsed_s == 40.0
    assert budget.is_spent(now=-3599.0)
    assert budget.is_spent(now=-7200.0)


def test_nothing_is_estimated_before_a_trial_is_over(plan):
    summary = progress(plan, SweepState(list(events(plan))[:5]), now=30.0)
    assert summary.left_s is None
    assert (summary.share, trials_over(summary)) == (0.0, "0/4 trials over")


def test_plain_lines_say_what_ended_and_why(plan, tmp_path):
    console = Console(file=io.StringIO(), width=80)
    callback = display_for(console)
    assert isinstance(callback, PlainDisplay)
    callback.on_connect("local")
    with EventLog(tmp_path / "events.jsonl") as log:
        store = EventStore(log, SweepState(), listeners=(callback.on_event,))
        callback.on_start(plan, store, list)
        for event in events(plan):
            store.append(event)
        callback.on_end()
    first, *rest = console.file.getvalue().splitlines()
    lines = [line.split(" ", 1)[1] for line in rest]
    assert first == "starting Ray ..."
    assert lines[0] == "4 trials of at most 9 epochs"
    assert [line.split("  [")[0] for line in lines[1:]] == [
        "digits-20260101-120000: 4 trials",
        "t001 stopped at rung 3 after epoch 3: val/accuracy 0.5000",
        "t002 diverged after epoch 0: nothing measured (epoch 1, step 2: ce is not finite)",
        "t003 attempt 1 failed (infrastructure): its worker died; retrying",
        "t000 full budget (baseline) after epoch 9: val/accuracy 0.9700",
    ]


def test_a_terminal_gets_the_live_leaderboard_and_is_left_clean(plan, tmp_path):
    console = terminal()
    callback = display_for(console)
    assert isinstance(callback, LiveDisplay)
    with EventLog(tmp_path / "events.jsonl") as log:
        store = EventStore(log, SweepState(events(plan)))
        callback.on_start(plan, store, list)
        callback.on_end()
    assert "t000*" in console.file.getvalue()
    callback.on_end()


def test_the_summary_names_the_best_the_baseline_and_the_two_commands(plan):
    console = terminal()
    print_summary(console, plan, SweepState(events(plan)), command=".venv/bin/ravel", sweep=plan.sweep)
    lines = console.file.getvalue().splitlines()
    assert "best t000: val/accuracy 0.9700 after epoch 9; baseline t000: 0.9700" in lines
    assert lines[-2:] == ["  .venv/bin/ravel ui", "  .venv/bin/ravel compare digits-20260101-120000"]


def test_a_failure_is_printed_with_its_reason(plan):
    assert failures(SweepState(events(plan))) == ["t002 diverged: epoch 1, step 2: ce is not finite"]


def test_every_event_has_a_line_in_the_log(plan):
    for event in events(plan):
        assert event.kind in log_line(event)
        assert "\n" not in log_line(event)


def status_of(plan, tmp_path, *arguments):
    result = CliRunner().invoke(app, ["status", plan.sweep, "--storage", str(tmp_path), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_status_as_json_has_the_planned_share_what_waits_and_the_best_trial(plan, tmp_path):
    plan.save(SweepFolder(tmp_path / plan.sweep))
    with EventLog(SweepFolder(tmp_path / plan.sweep).events) as log:
        for event in events(plan):
            log.append(event)
    plain = json.loads(status_of(plan, tmp_path, "--json"))
    assert (plain["epochs_run"], plain["epochs_planned"], plain["epochs_full"]) == (3, 20, 36)
    assert (plain["share"], plain["to_start"], plain["paused_by_rung"]) == (0.15, 0, {})
    best = {"trial": "t000", "score": 0.97, "epoch": 9, "parameters": OFF}
    assert plain["best"] == best
    assert (plain["driver"], plain["elapsed_s"]) == ("gone", 15.0)  # its clock stops with its driver
    assert "best t000*: val/accuracy 0.9700 after epoch 9" in status_of(plan, tmp_path)


def test_status_says_what_mlflow_has_yet_to_take(plan, tmp_path):
    folder = SweepFolder(tmp_path / plan.sweep)
    plan.save(folder)
    with EventLog(folder.events) as log:
        for event in events(plan):
            log.append(event)
    lag = json.loads(status_of(plan, tmp_path, "--json"))["mlflow_behind"]
    assert lag == len(list(events(plan)))
    assert f"MLflow has {lag} events yet to take" in status_of(plan, tmp_path)
    cursor = Cursor()
    cursor.move_to(folder.events.stat().st_size, folder)
    cursor.save(folder.cursor)
    assert "yet to take" not in status_of(plan, tmp_path)


def test_a_reason_too_long_for_a_tag_is_shortened_in_words():
    whole, long = "x" * 6000, "y" * 9000
    assert runs.state_tags("failed", reason=whole)["ravel.reason"] == whole
    reason = runs.trial_state_tags("failed", reason=long)["ravel.reason"]
    assert reason == "y" * 1000 + " ... (9000 characters in all: ravel logs SWEEP)"
