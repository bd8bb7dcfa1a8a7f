"""Which checkpoints a sweep keeps: the policy against a naive one, under ASHA and promotion, and in replay."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.analysis.replay import replay
from orchestrator.decisions.retention import RetentionIndex, best_first, droppable
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.spec.objective import Objective
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    CheckpointsDropped,
    EpochReported,
    OrderAccepted,
    RungDecided,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
    TrialReopened,
    decode,
    encode,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import OVER, SweepState

ONE = Objective()
TWO = parse_spec("name: a\nobjective: [{metric: val/accuracy, mode: max}, {metric: val/nll, mode: min}]").objective
SPEC = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}
search: {num_trials: 30, seed: 5, sampler: random}
scheduler: {SCHEDULER}
storage: {keep_best: 3}
"""
KINDS = ("create", "start", "fail", "report", "reject", "promote", "save", "end", "order", "reopen", "drop")


def events_of(choices):
    """Events that a log may have, from numbers: each is a kind, a trial and a value."""
    state, events = SweepState(), []
    for kind, number, value in choices:
        event = _event(kind, f"t{number:03d}", state, value)
        if event is not None:
            events.append(decode(encode(event)))
            state.apply(events[-1])
    return events


def _event(kind, name, state, value):
    head, trial = {"time": float(state.num_events), "trial": name}, state.trials.get(name)
    if trial is None:
        point = {"origin": "search", "point": {}, "config": {"epochs": 9}}
        return TrialCreated(**head, **point) if kind == "create" else None
    is_over = trial.status in OVER
    match kind:
        case "start" if not is_over:
            return AttemptStarted(**head, attempt=trial.attempts + 1)
        case "fail" if trial.status == "running":
            return AttemptFailed(**head, attempt=trial.attempts, cause="user", reason="a bug")
        case "report" if not is_over:
            metrics = {"val/accuracy": None if value == 0 else value / 8, "val/nll": (value * 5 % 8) / 8}
            epoch = trial.epoch + 1
            return EpochReported(**head, attempt=1, epoch=epoch, since_restore=1, metrics=metrics)
        case "reject" if not is_over and trial.epoch and trial.epoch not in trial.rungs:
            return RungDecided(**head, rung=trial.epoch, value=None, cutoff=None, competitors=1, kept=False)
        case "promote" if trial.status == "paused":
            return TrialPromoted(**head, rung=trial.stopping_rung)
        case "save":  # also after the end: Tune's last checkpoint may be late
            return CheckpointSaved(**head, epoch=trial.epoch, path=f"tune/{name}-{trial.attempts}/{len(state.changes)}")
        case "end" if not is_over:
            status = ("completed", "stopped", "paused", "diverged", "failed", "interrupted")[value % 6]
            return TrialEnded(**head, status=status, rung=trial.rejected_at or 1 if status == "paused" else None)
        case "order" if is_over:
            return OrderAccepted(
                time=head["time"], order=f"{state.num_events:032x}", action="extend", author="a@b", trials=(name,)
            )
        case "reopen" if name in state.to_reopen:
            return TrialReopened(**head, order=state.to_reopen[name].order, rung=None if value % 2 else 1)
        case "drop" if is_over and trial.checkpoints:
            return CheckpointsDropped(**head, keep_best=1)
    return None


def naive_droppable(state, keep_best):
    """Count for each trial those that come before it: no sorting, no fronts where one objective is given."""
    over = [
        trial
        for trial in state.trials.values()
        if trial.end is not None
        and trial.end.status in {"completed", "stopped", "diverged", "failed"}
        and trial.checkpoints
    ]
    over = [trial for trial in over if trial.id not in state.to_reopen]

    def score(trial):
        values = [
            value["val/accuracy"] for _, value in sorted(trial.epochs.items()) if value["val/accuracy"] is not None
        ]
        return values[-1] if values and trial.end.status in {"completed", "stopped"} else None

    def beats(one, other):
        if score(other) is None:
            return True
        full = one.end.status == "completed", other.end.status == "completed"
        return full[0] if full[0] != full[1] else (-score(one), one.id) < (-score(other), other.id)

    scored = [trial for trial in over if score(trial) is not None]
    return {
        trial.id
        for trial in over
        if score(trial) is None or sum(beats(rival, trial) for rival in scored if rival is not trial) >= keep_best
    }


choices = st.lists(
    st.tuples(st.sampled_from(KINDS + ("report", "save", "end") * 2), st.integers(0, 5), st.integers(0, 8)), max_size=90
)


def begun(scores, ends):
    """Trials that have measured something, have a checkpoint and left their worker."""
    for number, (score, end) in enumerate(zip(scores, ends, strict=True)):
        yield from (("create", number, 0), ("start", number, 0), ("report", number, score), ("save", number, 0))
        yield ("end", number, end)


first = st.builds(
    begun, st.lists(st.integers(0, 8), min_size=4, max_size=4), st.lists(st.integers(0, 5), min_size=4, max_size=4)
)


@settings(max_examples=300, deadline=None)
@given(first=first, choices=choices, keep_best=st.integers(1, 4))
def test_the_trials_whose_checkpoints_go_are_those_of_a_naive_policy(first, choices, keep_best):
    events = [
        TrialCreated(time=0.0, trial=f"t{i:03d}", origin="search", point={}, config={"epochs": 9}) for i in range(4)
    ]
    state = SweepState(events)
    index = RetentionIndex(state)
    for event in events_of([*first, *choices])[4:]:
        state.apply(event)
        dropped = index.droppable(ONE, keep_best=keep_best)
        assert set(dropped) == naive_droppable(state, keep_best)
        over = [trial for name, trial in state.trials.items() if name not in state.to_reopen]
        assert dropped == droppable(over, ONE, keep_best=keep_best)


@settings(max_examples=200, deadline=None)
@given(first=first, choices=choices, keep_best=st.integers(1, 4))
def test_live_and_waiting_trials_lose_nothing_whatever_happens_and_the_best_keep_theirs(first, choices, keep_best):
    state = SweepState()
    index = RetentionIndex(state)
    for event in events_of([*first, *(choice for choice in choices if choice[0] != "drop")]):
        saved = {name: list(trial.checkpoints) for name, trial in state.trials.items()}
        state.apply(event)
        for name in index.droppable(TWO, keep_best=keep_best):
            assert state.trials[name].status in OVER
            assert name not in state.to_reopen
            state.apply(CheckpointsDropped(time=event.time, trial=name, keep_best=keep_best))
        for name, trial in state.trials.items():
            if trial.status not in OVER:
                assert trial.checkpoints[: len(saved.get(name, []))] == saved.get(name, [])
        kept = [trial for trial in state.trials.values() if trial.status in OVER and trial.checkpoints]
        assert len([trial for trial in kept if trial.id not in state.to_reopen]) <= keep_best
        assert index.droppable(TWO, keep_best=keep_best) == []  # a second look finds nothing


def test_a_trial_with_a_full_budget_is_kept_before_a_better_one_that_was_stopped():
    state = SweepState(events_of([
        ("create", 0, 0), ("report", 0, 3), ("save", 0, 0), ("end", 0, 0),
        ("create", 1, 0), ("report", 1, 8), ("save", 1, 0), ("end", 1, 1),
    ]))  # fmt: skip
    assert [trial.status for trial in state.trials.values()] == ["completed", "stopped"]
    assert best_first(state.trials.values(), ONE) == ["t000", "t001"]
    assert state.best(ONE).id == "t000"
    assert droppable(state.trials.values(), ONE, keep_best=1) == ["t001"]


def test_diverged_and_failed_trials_keep_nothing_however_good_they_were():
    state = SweepState(events_of([
        *[(kind, 0, 8) for kind in ("create", "report", "save")], ("end", 0, 3),
        *[(kind, 1, 8) for kind in ("create", "report", "save")], ("end", 1, 4),
    ]))  # fmt: skip
    assert [trial.status for trial in state.trials.values()] == ["diverged", "failed"]
    assert droppable(state.trials.values(), ONE, keep_best=9) == ["t000", "t001"]


def test_a_trial_that_may_still_be_retried_keeps_its_checkpoints():
    state = SweepState(events_of([(kind, 0, 5) for kind in ("create", "start", "report", "save", "fail")]))
    assert state.trials["t000"].status == "waiting"
    assert droppable(state.trials.values(), ONE, keep_best=1) == []


def test_a_late_checkpoint_of_a_dropped_trial_is_dropped_too():
    loser = [("create", 0, 0), ("report", 0, 5), ("save", 0, 0), ("end", 0, 3)]
    state = SweepState(events_of(loser))
    state.apply(CheckpointsDropped(time=1.0, trial="t000", keep_best=1))
    assert droppable(state.trials.values(), ONE, keep_best=1) == []
    state.apply(CheckpointSaved(time=2.0, trial="t000", epoch=1, path="tune/t000-1-g1/late"))
    assert droppable(state.trials.values(), ONE, keep_best=1) == ["t000"]


def swept(virtual_sweep, tmp_path, scheduler, orders=()):
    """A virtual sweep with the checkpoints and the drops that its driver would have logged, and its plan."""
    text = SPEC.replace("SCHEDULER", scheduler)
    plan = make_plan(parse_spec(text), SweepFolder(tmp_path / "virtual"), slots=2, now=0.0, working_directory=tmp_path)
    events, state = [], SweepState()
    index = RetentionIndex(state)

    def log(event):
        events.append(event)
        state.apply(event)

    for event in virtual_sweep(text, orders=orders).events:
        if isinstance(event, EpochReported):
            log(event)
            path = f"tune/{event.trial}-{event.attempt}-g1/{event.epoch}"
            log(CheckpointSaved(time=event.time, trial=event.trial, epoch=event.epoch, path=path))
        elif not isinstance(event, CheckpointSaved):
            log(event)
        for name in index.droppable(ONE, keep_best=3):
            log(CheckpointsDropped(time=event.time, trial=name, keep_best=3))
    return plan, events


SCHEDULERS = {
    "stopping": "grace_period: 1, reduction_factor: 3, kind: stopping",
    "promotion": "grace_period: 1, reduction_factor: 3, kind: promotion",
    "budgeted promotion": "budget_fraction: 0.3, kind: promotion, audit: 0.2",
    "none": "name: none",
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_sweep_keeps_the_models_of_its_best_trials_and_every_drop_replays(virtual_sweep, tmp_path, scheduler):
    plan, events = swept(virtual_sweep, tmp_path, SCHEDULERS[scheduler])
    state = SweepState(events)
    kept = [trial.id for trial in state.trials.values() if trial.checkpoints]
    assert kept == sorted(best_first(state.trials.values(), ONE)[:3])
    assert state.best(ONE).has_final_checkpoint
    repeated = replay(plan, events)
    assert repeated.differences == ()
    assert repeated.counts["checkpoints_dropped"] == len(state.trials) - 3


def test_under_promotion_every_trial_is_promoted_from_its_checkpoint(virtual_sweep, tmp_path):
    _, events = swept(virtual_sweep, tmp_path, SCHEDULERS["promotion"])
    state, promoted, most_waiting = SweepState(), 0, 0
    for event in events:
        if isinstance(event, TrialPromoted):
            assert state.trials[event.trial].has_final_checkpoint
            promoted += 1
        state.apply(event)
        waiting = state.with_status("paused")
        assert all(trial.has_final_checkpoint for trial in waiting)
        most_waiting = max(most_waiting, len(waiting))
    assert promoted > 3
    assert most_waiting > 3  # more than keep_best: waiting trials keep theirs


def test_replay_names_a_drop_that_the_policy_does_not_give(virtual_sweep, tmp_path):
    plan, events = swept(virtual_sweep, tmp_path, SCHEDULERS["stopping"])
    number, drop = next((i, e) for i, e in enumerate(events) if isinstance(e, CheckpointsDropped))
    best = SweepState(events).best(ONE).id
    wrong = [*events[:number], drop.model_copy(update={"trial": best}), *events[number + 1 :]]
    assert [(d.event, d.kind) for d in replay(plan, wrong).differences][:1] == [(number + 1, "checkpoints_dropped")]
    other = [*events[:number], drop.model_copy(update={"keep_best": 1}), *events[number + 1 :]]
    assert [d.recorded[1] for d in replay(plan, other).differences] == [1]
    by_hand = [*events[:number], drop.model_copy(update={"keep_best": 1, "author": "a@b"}), *events[number + 1 :]]
    assert replay(plan, by_hand).differences == ()


def test_an_event_of_format_6_is_read_back_and_others_stay_of_their_format():
    drop = CheckpointsDropped(time=1.0, trial="t000", keep_best=3)
    assert decode(encode(drop)) == drop
    assert b'"v":6' in encode(drop)
    saved = CheckpointSaved(time=1.0, trial="t000", epoch=1, path="tune/t000-1-g1/checkpoint_000000")
    assert b"size_bytes" not in encode(saved)
    assert decode(encode(saved.model_copy(update={"size_bytes": 7}))).size_bytes == 7


def test_a_plan_without_the_setting_is_as_it_was_before_the_setting():
    spec = parse_spec("name: a")
    assert spec.document()["storage"] == {"uri": "results"}
    assert "keep_best" not in spec.canonical()
    assert parse_spec("name: a\nstorage: {keep_best: 3}").document()["storage"]["keep_best"] == 3


def test_time_after_the_end_of_a_sweep_does_not_count_as_time_that_it_ran():
    from orchestrator.state.events import SweepEnded

    begun = [SweepStarted(time=0.0, generation=1, host="a", pid=1), *events_of([("create", 0, 0), ("end", 0, 0)])]
    state = SweepState([*begun, SweepEnded(time=10.0, status="completed")])
    state.apply(CheckpointsDropped(time=500.0, trial="t000", keep_best=1, author="a@b"))
    assert state.elapsed_s(now=600.0) == 10.0
