"""Population based training: which member is over, what takes its place, and that a log repeats it."""

import json
from pathlib import Path

import pytest

from orchestrator.analysis.leaderboard import best_lines, event_line
from orchestrator.analysis.lineage import schedule
from orchestrator.analysis.replay import replay, what_if
from orchestrator.analysis.sweep_progress import progress
from orchestrator.cli.shared.plan_output import population
from orchestrator.decisions.budget import BudgetUse
from orchestrator.decisions.population import may_begin
from orchestrator.decisions.retention import RetentionIndex
from orchestrator.decisions.steps import Descendant
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.execution.trials.starting_point import parent_checkpoint
from orchestrator.execution.tune.searcher import LogSearcher
from orchestrator.orders.order import Order
from orchestrator.planning.changes.fork import confirmation, fork
from orchestrator.planning.loading import parse_spec
from orchestrator.scheduling.population import Pbt
from orchestrator.scheduling.trial_views import TrialView, TrialViews
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.scheduler import SchedulerSpec
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import CheckpointSaved, Descent, TrialCreated, TrialEnded, TrialPromoted, decode, encode
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import OVER, SweepState, missing_ends
from orchestrator.tracking.runs import trial_tags

SPEC = """
name: population
trial: {epochs: 9, optimizer.name: sgd}
space:
  parameters:
    mixup.alpha: {float: [0.1, 2.0]}
    optimizer.lr: {float: [1.0e-3, 0.8], log: true}
search: {num_trials: 9, seed: 5, sampler: random}
scheduler: {name: pbt, interval: 2}
"""
WORKERS = [1, 2, 5, 9]


def descendants(state):
    return [trial for trial in state.trials.values() if trial.descent is not None]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_population_replays_bit_for_bit_from_its_log(virtual_sweep, workers):
    sweep = virtual_sweep(SPEC, workers=workers)
    found = replay(sweep.plan, [decode(encode(event)) for event in sweep.events])
    assert found.differences == ()
    assert found.counts["trial_created"] == len(sweep.state.trials) > 9


def test_descendants_are_no_new_members_for_a_sweep_that_is_extended(virtual_sweep):
    sweep = virtual_sweep(SPEC)
    search = sweep.plan.spec.search.model_copy(update={"num_trials": 12})
    plan = sweep.plan.model_copy(update={"spec": sweep.plan.spec.model_copy(update={"search": search})})
    assert len(sweep.state.trials) >= 12
    assert BudgetUse(plan, sweep.state).unstarted(now=0.0) == 3


def test_another_perturbation_in_the_log_is_found_by_replay(virtual_sweep):
    sweep = virtual_sweep(SPEC)
    at = next(i for i, event in enumerate(sweep.events) if isinstance(event, TrialCreated) and event.descent)
    point = {**sweep.events[at].point, "mixup.alpha": 1.0}
    forged = [*sweep.events[:at], sweep.events[at].model_copy(update={"point": point})]
    assert [each.event for each in replay(sweep.plan, forged).differences] == [at + 1]


def test_a_sequential_population_repeats_exactly(virtual_sweep):
    first, second = (virtual_sweep(SPEC, workers=1) for _ in range(2))
    assert [encode(event) for event in first.events] == [encode(event) for event in second.events]


def test_a_driver_killed_at_any_decision_comes_to_the_samepopulation(virtual_sweep):
    sweep = virtual_sweep(SPEC, workers=1)
    points = {name: (trial.point, trial.descent, trial.status) for name, trial in sweep.state.trials.items()}
    moments = [i for i, event in enumerate(sweep.events, start=1) if isinstance(event, TrialCreated | TrialPromoted)]
    for moment in moments[8::6]:
        state = sweep.restarted(sweep.events[:moment]).state
        assert {name: (trial.point, trial.descent, trial.status) for name, trial in state.trials.items()} == points


def test_a_driver_killed_between_a_copy_and_the_end_of_the_replaced_member_ends_it_once(virtual_sweep):
    sweep = virtual_sweep(SPEC, workers=1)
    at = next(i for i, event in enumerate(sweep.events) if isinstance(event, TrialCreated) and event.descent)
    state = SweepState(sweep.events[: at + 1])
    (end,) = missing_ends(state, pauses=True, now=sweep.events[at].time)
    assert end == sweep.events[at + 1]
    assert end.status == "stopped"


@pytest.mark.parametrize("workers", WORKERS)
def test_a_population_costs_the_epochs_of_its_members_and_of_the_baseline(virtual_sweep, workers):
    sweep = virtual_sweep(SPEC, workers=workers)
    assert sweep.state.epochs_run == 9 * 9
    assert {trial.status for trial in sweep.state.trials.values()} <= OVER
    assert len(sweep.state.with_status("completed")) == 9
    summary = progress(sweep.plan, sweep.state, now=sweep.state.last_time)
    assert (summary.over, summary.num_trials, summary.to_start) == (len(sweep.state.trials), len(sweep.state.trials), 0)


def test_a_descendant_begins_at_the_rung_of_its_parent_with_values_near_its_own(virtual_sweep):
    state = virtual_sweep(SPEC.replace("interval: 2", "interval: 2, resample: 0.0"), workers=2).state
    assert descendants(state)
    for trial in descendants(state):
        parent = state.trials[trial.descent.parent]
        assert min(trial.epochs) == trial.descent.epoch + 1
        assert trial.config["seed"] != parent.config["seed"]
        for name, how in trial.descent.changes.items():
            factor = float(how.removeprefix("x "))
            assert trial.point[name] == pytest.approx(min(max(parent.point[name] * factor, 0.001), 2.0))


def test_only_the_listed_parameters_are_perturbed(virtual_sweep):
    state = virtual_sweep(SPEC.replace("interval: 2", "interval: 2, perturb: [mixup.alpha]"), workers=2).state
    assert descendants(state)
    for trial in descendants(state):
        assert trial.point["optimizer.lr"] == state.trials[trial.descent.parent].point["optimizer.lr"]


def test_the_baseline_is_neither_replaced_nor_copied(virtual_sweep):
    for workers in WORKERS:
        state = virtual_sweep(
            SPEC, workers=workers, metrics=lambda point, _: {"val/accuracy": -point["mixup.alpha"]}
        ).state
        assert state.trials["t000"].status == "completed"
        assert all(trial.descent.parent != "t000" for trial in descendants(state))


def member(name, value, *, level=2, **fields):
    return TrialView(name, maximum=9, level=level, values={level: (value,)}, state="paused", **fields)


def test_the_worst_quantile_is_replaced_by_the_best_and_all_others_go_on():
    scheduler = Pbt((2, 4), 0.25)
    views = TrialViews([member(f"t{i}", float(i)) for i in range(8)] + [member("base", 99.0, exempt=True)])
    parents = {name: scheduler.parents(views, name) for name in views if name != "base"}
    assert {name: found for name, found in parents.items() if found} == {"t0": ("t7", "t6"), "t1": ("t7", "t6")}
    assert scheduler.promote(views, unstarted=0) == "t7"
    assert scheduler.promote(views, unstarted=1) is None


def test_the_member_that_lags_behind_is_taken_first():
    views = TrialViews([member("ahead", 1.0, level=4), member("behind", 0.0)])
    assert Pbt((2, 4), 0.25).promote(views, unstarted=0) == "behind"


def begun(name, descent=None, point=None):
    head = {"time": 0.0, "trial": name, "origin": "pbt" if descent else "search"}
    return TrialCreated(**head, point=point or {}, config={"epochs": 9}, descent=descent)


def test_the_schedule_of_a_lineage_is_the_chain_of_its_trials():
    first, second = (begun(name, None, {"optimizer.lr": lr}) for name, lr in (("t001", 0.1), ("t002", 0.3)))
    third = begun("t003", Descent(parent="t001", epoch=2, replaces="t002"), {"optimizer.lr": 0.08})
    fourth = begun("t004", Descent(parent="t003", epoch=6, replaces="t001"), {"optimizer.lr": 0.1})
    state = SweepState([first, second, third, fourth])
    parts = [(part.trial, part.epoch, part.point["optimizer.lr"]) for part in schedule(state, "t004")]
    assert parts == [("t001", 0, 0.1), ("t003", 2, 0.08), ("t004", 6, 0.1)]


def test_the_best_trial_is_shown_with_its_schedule_and_each_copy_in_words(virtual_sweep):
    sweep = virtual_sweep(SPEC, workers=2, metrics=lambda point, epoch: {"val/accuracy": epoch * point["mixup.alpha"]})
    best = sweep.state.best(sweep.plan.spec.objective)
    parts, lines = schedule(sweep.state, best.id), best_lines(sweep.plan, sweep.state)
    assert len(parts) > 1
    assert lines[-len(parts) - 1] == "  schedule, as its weights were trained:"
    assert lines[-1].startswith(f"    epochs {parts[-1].epoch + 1} to 9 as {best.id}: mixup.alpha ")
    event = next(event for event in sweep.events if isinstance(event, TrialCreated) and event.descent)
    line = event_line(sweep.plan, sweep.state, event)
    descent = event.descent
    words = f"{event.trial} continues {descent.parent} from epoch {descent.epoch} in the place of {descent.replaces}: "
    assert words in line


def test_mlflow_has_the_parent_of_a_descendant_and_the_epoch(virtual_sweep):
    sweep = virtual_sweep(SPEC)
    child = descendants(sweep.state)[0]
    tags = trial_tags(sweep.plan, child)
    expected = {"ravel.parent_trial": f"virtual/{child.descent.parent}", "ravel.parent_epoch": str(child.descent.epoch)}
    assert expected.items() <= tags.items()
    assert not expected.keys() & trial_tags(sweep.plan, sweep.state.trials["t001"]).keys()


def test_a_parent_keeps_its_checkpoints_until_its_descendants_are_over():
    descent = Descent(parent="t001", epoch=2, replaces="t002")
    state = SweepState([begun("t001"), begun("t002"), begun("t003", descent)])
    for name in ("t001", "t002"):
        state.apply(CheckpointSaved(time=1.0, trial=name, epoch=2, path=f"tune/{name}-1-g1/checkpoint_000000"))
        state.apply(TrialEnded(time=2.0, trial=name, status="stopped", rung=2))
    index, objective = RetentionIndex(state), SweepSpec(name="a").objective
    assert index.droppable(objective, keep_best=1) == ["t002"]
    state.apply(TrialEnded(time=3.0, trial="t003", status="completed"))
    assert index.droppable(objective, keep_best=1) == ["t001", "t002"]


def test_a_worker_is_told_what_a_descendant_continues_and_what_changed(virtual_sweep, tmp_path):
    sweep = virtual_sweep(SPEC)
    child, folder = descendants(sweep.state)[0], SweepFolder(tmp_path / "results" / "virtual")
    parent = parent_checkpoint(folder, sweep.state, child)
    assert Path(parent["checkpoint"]).name == f"{child.descent.parent}-{child.descent.epoch}"
    assert set(parent["changed"]) == {*child.descent.changes, "seed"}
    assert parent_checkpoint(folder, sweep.state, sweep.state.trials["t001"]) is None


def test_an_order_may_change_the_budget_of_a_population_and_not_its_size(virtual_sweep):
    orders = [
        (6.5, Order(id="a" * 32, time=0.0, author="me", action="extend", settings=("budget.wall_clock_s=1000",))),
        (6.6, Order(id="b" * 32, time=0.0, author="me", action="extend", more_trials=3)),
    ]
    sweep = virtual_sweep(SPEC, workers=9, orders=orders)
    accepted, refused = sweep.state.orders["a" * 32], sweep.state.orders["b" * 32]
    assert accepted.kind == "order_accepted"
    reason = "must not be pbt to get more trials, points or epochs, as its population began together; use ravel fork"
    assert refused.reasons == (f"scheduler.name: {reason}",)


def test_what_constant_points_are_needed_for_is_refused(virtual_sweep, tmp_path):
    sweep, folder = virtual_sweep(SPEC), SweepFolder(tmp_path / "results" / "virtual")
    with pytest.raises(SpecError, match="must not be pbt to simulate other settings"):
        what_if(sweep.plan, sweep.state, ["scheduler.name=asha"], workers=1)
    with pytest.raises(
        SpecError, match="--best: must be 0 to fork virtual, as the values of its best trials are the ends"
    ):
        fork(sweep.plan, sweep.state, folder, name="next", settings=(), best=3)
    with pytest.raises(OrchestratorError, match="must not be a sweep under pbt to be confirmed"):
        confirmation(sweep.plan, sweep.state, folder, name="again", top=1, seeds=2, suites=("basic",))


def test_a_spec_without_a_population_is_written_as_before_it():
    fields = (
        "name",
        "kind",
        "grace_period",
        "reduction_factor",
        "budget_fraction",
        "brackets",
        "resource",
        "strata",
        "audit",
    )
    assert tuple(SchedulerSpec().model_dump(mode="json")) == fields


def test_the_event_of_a_trial_without_a_parent_is_written_as_before_populations():
    event = TrialCreated(time=1.0, trial="t000", origin="baseline", point={}, config={"epochs": 3})
    fields = ["v", "time", "kind", "trial", "origin", "point", "config", "seq", "prev", "crc"]
    assert list(json.loads(encode(event))) == fields


def test_a_plan_says_how_many_members_are_replaced():
    assert population(parse_spec(SPEC)) == "8 members and the baseline, up to 2 of them replaced at each rung"


MESSAGES = {
    "scheduler.kind=stopping": "scheduler.kind: must be promotion or auto for pbt, whose members pause; got 'stopping'",
    "scheduler.audit=0.5": (
        "scheduler.audit: must be left out for pbt, which has interval, quantile, resample and perturb; got 0.5"
    ),
    "search.seeds=3": (
        "search.seeds: must be 1 for scheduler pbt, as each member has its own seed; train its schedule with "
        "other seeds; got 3"
    ),
    "resources.workers=2": (
        "resources.workers: must be 1 for scheduler pbt, as a trial of several workers cannot continue another one; "
        "got 2"
    ),
    "trial.seed=3": (
        "trial.seed: must be left out for scheduler pbt, so that a copy has other batches than its parent"
    ),
    "scheduler.interval=9": (
        "scheduler.interval: must be below the epochs of a trial (9), or no member is ever replaced; got 9"
    ),
    "search.num_trials=4": (
        "search.num_trials: must be >= 5 for scheduler pbt with quantile 0.25: the baseline and 4 members, of which 1 "
        "is replaced at an interval; got 4"
    ),
    "scheduler.perturb=[mixup.alfa]": (
        "scheduler.perturb: must be parameters that are searched, got 'mixup.alfa'; did you mean 'mixup.alpha'?"
    ),
    "space.parameters.model.width={float: [1, 2]}": (
        "space.parameters.model.width: cannot change in the middle of training, as scheduler pbt would have it; fix it "
        "in trial, or name those that may: scheduler.perturb: [mixup.alpha, optimizer.lr]"
    ),
    "objective=[val/accuracy max, val/nll min]": (
        "objective: must be one metric for scheduler pbt, which needs one order; got 2"
    ),
    "scheduler.brackets=2": (
        "scheduler.brackets: must be left out for pbt, which has interval, quantile, resample and perturb; got 2"
    ),
    "scheduler.strata=[mixup.alpha]": (
        "scheduler.strata: must be left out for pbt, which has interval, quantile, resample and perturb; got "
        "['mixup.alpha']"
    ),
    "scheduler.name=asha": "scheduler.interval: must be left out for asha, as pbt alone has it; got 2",
}


@pytest.mark.parametrize("setting", MESSAGES)
def test_what_a_population_cannot_have_is_refused_in_words(setting):
    with pytest.raises(SpecError) as error:
        parse_spec(SPEC, [setting])
    assert str(error.value) == MESSAGES[setting]


def handed_out(sweep, events, saved):
    """What the searcher hands out to Tune after these events, and the events that it appends."""
    state, appended = SweepState(events), []
    decisions = DecisionState(sweep.plan, state)

    class Log:
        def append(self, event, _body=None):
            appended.append(event)

    store = EventStore(Log(), state, folds=(decisions,))
    searcher = LogSearcher(
        decisions,
        store,
        limit=lambda: 9,
        device=None,
        checkpoint_of=lambda _: saved,
        parent_of=lambda _: {"changed": []},
    )
    return searcher.suggest("tune"), appended


def test_a_free_worker_gets_the_descendant_and_the_log_has_its_creation_first(virtual_sweep):
    sweep = virtual_sweep(SPEC, workers=1)
    at = next(i for i, event in enumerate(sweep.events) if isinstance(event, TrialCreated) and event.descent)
    config, appended = handed_out(sweep, sweep.events[:at], None)
    assert [(event.kind, event.trial) for event in appended] == [
        ("trial_created", sweep.events[at].trial),
        ("trial_ended", sweep.events[at].descent.replaces),
    ]
    assert appended[0].descent == sweep.events[at].descent
    assert (config["ravel.trial"], config["ravel.parent"]) == (sweep.events[at].trial, {"changed": []})


def test_a_descendant_waits_until_its_parent_has_saved_what_it_continues(virtual_sweep):
    sweep = virtual_sweep(SPEC, workers=1)
    at = next(i for i, event in enumerate(sweep.events) if isinstance(event, TrialCreated) and event.descent)
    descent = sweep.events[at].descent
    leaves = {("checkpoint_saved", descent.parent), ("trial_ended", descent.parent)}
    before = [event for event in sweep.events[:at] if (event.kind, getattr(event, "trial", None)) not in leaves]
    state = SweepState(before)
    decisions = DecisionState(sweep.plan, state)
    step = Descendant(sweep.events[at].trial, sweep.events[at].point, descent)
    assert state.trials[descent.parent].status == "running"
    assert not may_begin(decisions, step)
    assert may_begin(DecisionState(sweep.plan, SweepState(sweep.events[:at])), step)
