"""The fold of the event log, and the ends that a killed driver did not log."""

from orchestrator.spec.objective import Objective
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    RungDecided,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_state import SweepState, missing_ends

OBJECTIVE = Objective()


def created(trial, epochs=9):
    return TrialCreated(time=0.0, trial=trial, origin="search", point={}, config={"epochs": epochs})


def started(trial, attempt=1):
    return AttemptStarted(time=0.0, trial=trial, attempt=attempt)


def reported(trial, epoch, accuracy):
    return EpochReported(
        time=0.0, trial=trial, attempt=1, epoch=epoch, since_restore=epoch, metrics={"val/accuracy": accuracy}
    )


def saved(trial, epoch):
    return CheckpointSaved(time=0.0, trial=trial, epoch=epoch, path=f"tune/{trial}-1/{epoch}")


def test_a_trial_goes_from_waiting_to_running_to_its_end():
    state = SweepState([created("a")])
    statuses = [state.trials["a"].status]
    for event in (started("a"), TrialEnded(time=1.0, trial="a", status="completed")):
        state.apply(event)
        statuses.append(state.trials["a"].status)
    assert statuses == ["waiting", "running", "completed"]


def test_of_an_epoch_reported_twice_the_first_counts():
    state = SweepState([created("a"), started("a"), reported("a", 1, 0.5), reported("a", 1, 0.9)])
    assert state.trials["a"].values("val/accuracy") == {1: 0.5}
    assert state.epochs_run == 1


def test_a_resumed_trial_is_running():
    state = SweepState(
        [created("a"), started("a"), TrialEnded(time=1.0, trial="a", status="interrupted"), started("a", 2)]
    )
    assert state.trials["a"].status == "running"


def test_a_trial_whose_attempt_failed_waits_for_the_next():
    failed = AttemptFailed(time=1.0, trial="a", attempt=1, cause="infrastructure", reason="its worker died")
    state = SweepState([created("a"), started("a"), failed])
    assert state.trials["a"].status == "waiting"
    state.apply(started("a", 2))
    assert state.trials["a"].status == "running"


def test_the_score_is_the_last_finite_value_never_the_best():
    state = SweepState([created("a"), reported("a", 1, 0.9), reported("a", 2, 0.7), reported("a", 3, None)])
    assert state.trials["a"].score(OBJECTIVE) == 0.7


def test_the_best_trial_ran_its_full_budget_while_there_is_one():
    state = SweepState([created("a", 1), created("b", 9), reported("a", 1, 0.5), reported("b", 1, 0.9)])
    assert state.best(OBJECTIVE).id == "b"
    state.apply(TrialEnded(time=1.0, trial="a", status="completed"))
    assert state.best(OBJECTIVE).id == "a"


def test_ranking_follows_the_direction():
    state = SweepState([created("a"), created("b"), reported("a", 1, 0.5), reported("b", 1, 0.9)])
    assert [trial.id for trial in state.ranked(OBJECTIVE)] == ["b", "a"]
    for trial, loss in (("a", 0.1), ("b", 0.2)):
        state.trials[trial].epochs[1]["val/nll"] = loss
    assert [trial.id for trial in state.ranked(Objective(metric="val/nll", mode="min"))] == ["a", "b"]


def driver(time, generation=1):
    return SweepStarted(time=time, generation=generation, host="h", pid=1)


def test_a_resume_of_a_completed_sweep_adds_only_the_time_that_it_ran():
    state = SweepState([driver(1.0), SweepEnded(time=31.0, status="completed")])
    state.apply(driver(200_000.0, 2))
    state.apply(SweepEnded(time=200_000.5, status="completed"))
    assert state.elapsed_s(now=300_000.0) == 30.5
    assert state.age_s(now=300_000.0) == 299_999.0


def test_the_time_between_a_kill_and_a_resume_is_not_elapsed_but_counts_for_the_age():
    state = SweepState([driver(0.0), created("a").model_copy(update={"time": 10.0}), driver(100.0, 2)])
    assert (state.elapsed_s(now=105.0), state.age_s(now=105.0)) == (15.0, 105.0)


def test_a_clock_that_is_set_back_loses_one_interval_and_subtracts_nothing():
    times = [0.0, 10.0, 20.0, -3600.0, -3590.0]
    state = SweepState([driver(times[0])])
    seen = [0.0]
    for index, time in enumerate(times[1:]):
        state.apply(created(f"t{index}").model_copy(update={"time": time}))
        seen.append(state.elapsed_s(now=time))
    assert seen == [0.0, 10.0, 20.0, 20.0, 30.0]
    assert state.age_s(now=-4000.0) == 30.0


def test_no_time_has_passed_before_the_first_driver_starts():
    assert (SweepState().elapsed_s(now=9.0), SweepState().age_s(now=9.0)) == (0.0, 0.0)


def test_the_missing_ends_are_those_that_a_killed_driver_had_decided():
    rejected = RungDecided(time=0.0, trial="a", rung=3, value=0.1, cutoff=0.5, competitors=4, kept=False)
    state = SweepState(
        [
            created("a"), started("a"), reported("a", 3, 0.1), rejected,
            created("b", 2), started("b"), reported("b", 2, 0.8), saved("b", 2),
            created("c"), started("c"), reported("c", 2, 0.8),
            created("d"),
        ]
    )  # fmt: skip
    ends = missing_ends(state, pauses=False, now=5.0)
    assert [(end.trial, end.status, end.rung) for end in ends] == [
        ("a", "stopped", 3),
        ("b", "completed", None),
    ]


def test_a_full_budget_without_its_last_checkpoint_is_no_end():
    state = SweepState([created("b", 2), started("b"), saved("b", 1), reported("b", 2, 0.8)])
    assert missing_ends(state, pauses=False, now=5.0) == []
    assert [trial.id for trial in state.with_status("running")] == ["b"]


def test_no_end_is_missing_twice():
    state = SweepState([created("b", 1), started("b"), reported("b", 1, 0.8), saved("b", 1)])
    for end in missing_ends(state, pauses=False, now=1.0):
        state.apply(end)
    assert missing_ends(state, pauses=False, now=2.0) == []
