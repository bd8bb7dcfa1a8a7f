"""Proposals are a function of the spec and the state alone."""

import math
import statistics

import optuna
import pytest

from orchestrator.decisions.optuna_study import SweepStudy
from orchestrator.decisions.propose import propose
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.seeds import derive_seed, trial_id
from orchestrator.state.events import AttemptStarted, EpochReported, TrialCreated, TrialEnded
from orchestrator.state.sweep_state import SweepState

SPEC = """
name: a
trial: {epochs: 9}
space: {use: [snnl, mixup, adversarial], parameters: {optimizer.lr: {float: [1e-4, 1.0], log: true}}}
search: {sampler: SAMPLER, num_trials: 60, seed: 3, points: [{mixup.alpha: 1.0}]}
"""


def spec_of(sampler="tpe"):
    return parse_spec(SPEC.replace("SAMPLER", sampler))


def add(state, origin, point, *, status, values):
    """One more trial with these values by epoch and this end (None: still running)."""
    name = trial_id(len(state.trials))
    state.apply(TrialCreated(time=0.0, trial=name, origin=origin, point=point, config={**point, "epochs": 9}))
    state.apply(AttemptStarted(time=0.0, trial=name, attempt=1))
    for epoch, value in values.items():
        state.apply(
            EpochReported(
                time=0.0, trial=name, attempt=1, epoch=epoch, since_restore=epoch, metrics={"val/accuracy": value}
            )
        )
    if status is not None:
        state.apply(TrialEnded(time=0.0, trial=name, status=status))
    return name


def quality(point):
    """Best at lr 0.03 with mixup on."""
    return 1 - abs(math.log10(point["optimizer.lr"] / 0.03)) / 5 - (point["mixup.alpha"] == 0) / 10


def swept(spec, trials, score=quality):
    state = SweepState()
    for _ in range(trials):
        origin, point = propose(state, spec)
        add(state, origin, point, status="completed", values={9: score(point)})
    return state


def test_the_baseline_comes_first_then_the_given_points_then_the_sampler():
    state = swept(spec_of(), 5)
    assert [trial.origin for trial in state.trials.values()] == [
        "baseline",
        "point",
        "search",
        "search",
        "search",
    ]


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random"])
def test_the_same_state_gets_the_same_proposal(sampler):
    state = swept(spec_of(sampler), 14)
    assert propose(state, spec_of(sampler)) == propose(state, spec_of(sampler))


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random"])
def test_every_proposal_lies_in_the_space(sampler):
    spec = spec_of(sampler)
    assert all(spec.space.contains(trial.point) for trial in swept(spec, 25).trials.values())


def test_each_end_of_a_trial_becomes_its_optuna_state_with_the_values_it_reported():
    spec, states = spec_of(), optuna.trial.TrialState
    state = SweepState()
    ends = {
        "completed": states.COMPLETE,
        "stopped": states.PRUNED,
        "diverged": states.FAIL,
        "failed": states.FAIL,
        "interrupted": states.RUNNING,
        None: states.RUNNING,
    }
    for status in ends:
        add(state, "search", propose(state, spec)[1], status=status, values={1: 0.5, 3: 0.7})
    trials = SweepStudy(spec, state).study(0).get_trials()
    assert [trial.state for trial in trials] == list(ends.values())
    assert all(trial.intermediate_values == {1: 0.5, 3: 0.7} for trial in trials)
    assert [trial.value for trial in trials] == [0.7, None, None, None, None, None]


def test_a_full_run_that_never_measured_the_objective_is_a_failure_to_the_sampler():
    spec, state = spec_of(), SweepState()
    add(state, "search", propose(state, spec)[1], status="completed", values={})
    assert SweepStudy(spec, state).study(0).trials[0].state == optuna.trial.TrialState.FAIL


def test_a_baseline_outside_the_space_is_run_and_left_out_of_the_study():
    spec = parse_spec("name: a\nspace: {parameters: {mixup.alpha: {float: [0.5, 1.0]}}}")
    state = SweepState()
    add(state, *propose(state, spec), status="completed", values={9: 0.5})
    add(state, *propose(state, spec), status="completed", values={9: 0.6})
    assert [trial.user_attrs["trial"] for trial in SweepStudy(spec, state).study(0).trials] == ["t001"]


def test_tpe_finds_the_good_region_that_random_search_does_not():
    def late(sampler):
        trials = list(swept(spec_of(sampler), 60).trials.values())[40:]
        return statistics.median(quality(trial.point) for trial in trials)

    assert late("tpe") > late("random") + 0.1


CONSTRAINED = """
name: a
space:
  parameters: {mixup.alpha: {float: [0.0, 1.0]}, optimizer.momentum: {float: [0.0, 0.99]}}
  constraints: [CONSTRAINT]
search: {sampler: SAMPLER, num_trials: 60, seed: 3}
"""


def constrained(constraint, sampler="tpe"):
    return parse_spec(CONSTRAINED.replace("CONSTRAINT", constraint).replace("SAMPLER", sampler))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize(
    "constraint", ["mixup.alpha + optimizer.momentum <= 0.5", "optimizer.momentum < mixup.alpha / 100"]
)
def test_no_proposal_breaks_a_constraint(constraint, sampler):
    spec = constrained(constraint, sampler)
    searched = [trial.point for trial in swept(spec, 20, score=balance).trials.values() if trial.origin == "search"]
    assert [spec.space.problems(point) for point in searched] == [[]] * 19
    assert len({point["mixup.alpha"] for point in searched}) == 19


@pytest.mark.parametrize(
    "constraint", ["mixup.alpha + optimizer.momentum <= 0.5", "optimizer.momentum < mixup.alpha / 100"]
)
def test_the_same_state_gets_the_same_proposal_within_constraints(constraint):
    state = swept(constrained(constraint), 14, score=balance)
    assert propose(state, constrained(constraint)) == propose(state, constrained(constraint))


def test_what_tpe_cannot_find_is_sampled_from_the_space():
    spec = constrained("optimizer.momentum < mixup.alpha / 300")
    state = SweepState()
    add(state, *propose(state, spec), status="completed", values={9: 0.5})
    seed = derive_seed(3, "ask", "t001")
    assert propose(state, spec)[1] == spec.space.sample(seed)


def test_tpe_learns_what_breaks_a_constraint():
    spec = constrained("mixup.alpha + optimizer.momentum <= 0.5")
    state = swept(spec, 30, score=balance)
    study, asks = SweepStudy(spec, state).study(0), []
    for _ in range(40):
        trial = study.ask()
        try:
            spec.space.suggest(trial)
            asks.append("kept")
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            asks.append("broken")
    assert asks[20:].count("kept") > asks[:20].count("kept")


def balance(point):
    """Best where the constraint is broken."""
    return point.get("mixup.alpha", 0.0) + point.get("optimizer.momentum", 0.0)
