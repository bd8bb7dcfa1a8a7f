"""Studies of each sampler: what it learns from a state, and that its notes are rebuilt."""

import math
from collections import Counter

import optuna
import pytest

from orchestrator.decisions.optuna_study import STATEFUL, SweepStudy
from orchestrator.decisions.propose import propose
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.seeds import trial_id
from orchestrator.state.events import AttemptStarted, EpochReported, TrialCreated, TrialEnded
from orchestrator.state.sweep_state import SweepState

SPEC = """
name: a
trial: {epochs: 9}
space: {use: [mixup], parameters: {optimizer.lr: {float: [1e-3, 1.0], log: true}}}
search: {sampler: SAMPLER, num_trials: 90, seed: 3}
"""
STATES = optuna.trial.TrialState


def spec_of(sampler, more=""):
    return parse_spec(SPEC.replace("SAMPLER", sampler) + more)


def add(state, spec, *, status, epochs):
    """One more trial of the sampler's, with the same value at each of its epochs."""
    origin, point = propose(state, spec)
    name = trial_id(len(state.trials))
    state.apply(TrialCreated(time=0.0, trial=name, origin=origin, point=point, config={**point, "epochs": 9}))
    state.apply(AttemptStarted(time=0.0, trial=name, attempt=1))
    score = 1 - abs(math.log10(point["optimizer.lr"] / 0.03)) / 5
    for epoch in range(1, epochs + 1):
        metrics = {"val/accuracy": score, "val/nll": 1 - score}
        state.apply(EpochReported(time=0.0, trial=name, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics))
    if status is not None:
        state.apply(TrialEnded(time=0.0, trial=name, status=status))
    return name


def swept(spec, *, completed=1, paused=12, running=1):
    state = SweepState()
    for status, epochs, count in (("completed", 9, completed), ("paused", 3, paused), (None, 2, running)):
        for _ in range(count):
            add(state, spec, status=status, epochs=epochs)
    return state


def states(study):
    return [trial.state for trial in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "nsga2", "nsga3", "qmc"])
def test_samplers_that_learn_from_complete_trials_see_all_at_the_level_that_ten_have_reached(sampler):
    spec = spec_of(sampler)
    state = swept(spec)
    sweep = SweepStudy(spec, state)
    study = sweep.study(0)
    assert sweep.level == 3
    assert states(study) == [STATES.COMPLETE] * 13 + [STATES.RUNNING]
    for frozen, trial in zip(study.trials, list(state.trials.values())[:13], strict=False):
        assert frozen.value == trial.epochs[3]["val/accuracy"]


def test_one_that_was_stopped_below_that_level_is_pruned_without_a_value():
    spec = spec_of("gp")
    state = swept(spec, completed=12, paused=3)
    sweep = SweepStudy(spec, state)
    study = sweep.study(0)
    assert sweep.level == 9
    pruned = [trial for trial in study.trials if trial.state == STATES.PRUNED]
    assert len(pruned) == 3
    assert all(trial.value is None and not trial.intermediate_values for trial in pruned)


def test_tpe_learns_from_paused_trials_by_how_far_they_came():
    spec = spec_of("tpe")
    study = SweepStudy(spec, swept(spec)).study(0)
    assert states(study) == [STATES.COMPLETE] + [STATES.PRUNED] * 12 + [STATES.RUNNING]
    assert {max(trial.intermediate_values) for trial in study.trials[1:13]} == {3}


def test_with_several_objectives_a_trial_is_complete_with_all_of_them():
    spec = spec_of("tpe", "objective: [val/accuracy max, val/nll min]\n")
    study = SweepStudy(spec, swept(spec)).study(0)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert len(study.trials[3].values) == 2


@pytest.mark.parametrize("sampler", sorted(STATEFUL))
def test_a_trial_that_is_asked_once_more_keeps_its_params(sampler):
    spec = spec_of(sampler)
    state = swept(spec, paused=20)
    plain = SweepStudy(spec_of("random"), state).study(0)
    asked = SweepStudy(spec, state).study(0)
    assert [trial.params for trial in asked.trials] == [trial.params for trial in plain.trials]


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "qmc", "nsga2", "nsga3"])
def test_every_proposal_is_new_lies_in_the_space_and_is_made_again(sampler):
    spec = spec_of(sampler)
    state = swept(spec, paused=14)
    _, *points = [trial.point for trial in state.trials.values()]
    assert len({str(point) for point in points}) == len(points)
    assert all(spec.space.contains(point) for point in points)
    assert propose(state, spec) == propose(state, spec)


def test_nsga_breeds_a_generation_of_a_fifth_of_the_sweep_when_the_one_before_is_complete():
    spec = spec_of("nsga2")
    state = SweepState()
    for _ in range(60):
        add(state, spec, status="completed", epochs=9)
    generations = Counter(
        trial.system_attrs.get("NSGAIISampler:generation") for trial in SweepStudy(spec, state).study(0).trials
    )
    fifth = spec.search.num_trials // 5
    assert max(generation for generation in generations if generation is not None) == 60 // fifth
    assert all(generations[index] == fifth for index in range(60 // fifth))


def test_cma_es_moves_towards_the_best_rate():
    spec = parse_spec(
        "name: a\ntrial: {epochs: 9}\nspace: {parameters: {optimizer.lr: {float: [1e-3, 1.0], log: true}, "
        "optimizer.momentum: {float: [0.0, 0.9]}}}\nsearch: {sampler: cmaes, num_trials: 90, seed: 1}"
    )
    state = SweepState()
    for _ in range(60):
        add(state, spec, status="completed", epochs=9)
    rates = [abs(math.log10(trial.point["optimizer.lr"] / 0.03)) for trial in state.trials.values()]
    assert sum(rates[-15:]) < 0.5 * sum(rates[1:16])


def test_a_grid_is_walked_in_its_order():
    spec = parse_spec(
        "name: a\ntrial: {epochs: 9}\nspace: {parameters: {optimizer.lr: {choice: [0.1, 0.2, 0.3]}}}\n"
        "search: {sampler: grid, num_trials: 4}"
    )
    state = SweepState()
    for _ in range(4):
        add(state, spec, status="completed", epochs=9)
    assert [trial.point["optimizer.lr"] for trial in state.trials.values()][1:] == [0.1, 0.2, 0.3]
