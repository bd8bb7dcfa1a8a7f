"""A proposer that is kept proposes what one made from zero does, after every event; and both, what 0.1 proposed."""

import contextlib
import itertools
import random
import subprocess
import sys
from itertools import islice

import optuna
import pytest
from scipy.stats import qmc

from orchestrator.decisions import sequences
from orchestrator.decisions.optuna_study import DIRECTIONS, ENOUGH, STATEFUL, SweepStudy, _asked, _sampler
from orchestrator.decisions.propose import Proposer, propose
from orchestrator.decisions.screened_search.sampler import ScreenedSearch
from orchestrator.decisions.sequences import GridPoints, SobolPoints
from orchestrator.planning import points
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.points import first_points
from orchestrator.planning.seeds import derive_seed, trial_id
from orchestrator.spec import baseline
from orchestrator.spec.own_code import SAMPLERS
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    EpochReported,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
)
from orchestrator.state.sweep_state import SweepState
from search_spaces import Choice, Float, Int, SearchSpace, When, ZeroOr, catalog, not_equal
from search_spaces.adapters.optuna import suggest, to_optuna

CONSTRAINT = "optimizer.lr < 0.2 or optimizer.momentum < 0.5"
SPEC = """
name: a
trial: {epochs: 9}
space:
  use: [mixup]
  parameters:
    optimizer.lr: {float: [1e-3, 1.0], log: true}
    optimizer.momentum: {choice: [0.0, 0.5, 0.9]}
    batch_size: {int: [16, 64]}
  constraints: [CONSTRAINTS]
search: {sampler: SAMPLER, num_trials: 40, seed: 3, points: [{mixup.alpha: 1.0}]}
"""
SEVERAL = "objective: [val/accuracy max, val/nll min]\n"


def spec_of(sampler, *, constraint="", more=""):
    return parse_spec(SPEC.replace("SAMPLER", sampler).replace("CONSTRAINTS", constraint) + more)


# What follows is how proposals were made before anything was kept, word for word.


def reference(state, spec):
    """Compute the next point from the whole state."""
    index = len(state.trials)
    first = first_points(spec)
    if index < len(first):
        return first[index]
    if spec.search.sampler == "grid":
        grid = list(islice(spec.space.grid(spec.search.resolution), spec.search.num_trials))
        return "search", grid[index - len(first)]
    if spec.search.sampler == "auto":
        return "search", ScreenedSearch(spec, state).ask(derive_seed(spec.search.seed, "ask", trial_id(index)))
    if spec.search.sampler == "qmc":
        return "search", reference_sobol(spec.space, index - len(first), seed=spec.search.seed)
    seed = derive_seed(spec.search.seed, "ask", trial_id(index))
    return "search", _asked(reference_study(state, spec, seed=seed), spec.space) or spec.space.sample(seed)


def reference_sobol(space, index, *, seed):
    sequence, found = qmc.Sobol(len(space.names), scramble=True, rng=seed), -1
    for _ in range((index + 1) * 100):
        point = {}
        for name, unit in zip(space.names, sequence.random(1)[0], strict=True):
            if name in space.active(point):
                point[name] = space.parameters[name].from_unit(float(unit))
        found += all(law.holds(point) for law in space.constraints)
        if found == index:
            return point
    return space.sample(seed)


def reference_study(state, spec, *, seed):
    study = optuna.create_study(
        sampler=_sampler(spec, seed), directions=[DIRECTIONS[mode] for mode in spec.objective.modes]
    )
    level = None if learns_from_pruned(spec) else reference_level(state, spec)
    trials = [
        reference_trial(trial, point, spec, level)
        for trial, point in ((trial, searched(trial, spec)) for trial in state.trials.values())
        if spec.space.contains(point)
    ]
    if spec.search.sampler not in STATEFUL:
        study.add_trials(trials)
        return study
    for recorded in trials:
        study.enqueue_trial(recorded.params)
        trial = study.ask()
        _ = trial.relative_params
        with contextlib.suppress(optuna.TrialPruned):
            suggest(trial, spec.space)
        if recorded.state != optuna.trial.TrialState.RUNNING:
            study.tell(trial, recorded.values, state=recorded.state)
    return study


def reference_level(state, spec):
    counts = {}
    for trial in state.trials.values():
        for epoch, metrics in trial.epochs.items():
            if all(metrics.get(metric) is not None for metric in spec.objective.metrics):
                counts[epoch] = counts.get(epoch, 0) + 1
    return max((epoch for epoch, count in counts.items() if count >= ENOUGH), default=min(counts, default=None))


def learns_from_pruned(spec):
    return spec.search.sampler in {"tpe", "random"} and not spec.objective.others


def searched(trial, spec):
    return {name: value for name, value in trial.point.items() if name in spec.space.parameters}


def reference_trial(trial, point, spec, level):
    states, params_and_distributions = optuna.trial.TrialState, to_optuna(spec.space, point)
    ended = {
        "completed": states.COMPLETE,
        "stopped": states.PRUNED,
        "paused": states.PRUNED,
        "diverged": states.FAIL,
        "failed": states.FAIL,
    }
    state = ended.get(trial.status, states.RUNNING)
    values = reference_scores(trial, spec, level)
    if values is not None and (state == states.COMPLETE or (level is not None and state != states.FAIL)):
        state = states.COMPLETE
    elif state == states.COMPLETE:
        state = states.FAIL if level is None else states.PRUNED
    return optuna.trial.create_trial(
        state=state,
        values=values if state == states.COMPLETE else None,
        params=params_and_distributions[0],
        distributions=params_and_distributions[1],
        intermediate_values=trial.values(spec.objective.metric) if learns_from_pruned(spec) else None,
        user_attrs={"trial": trial.id},
    )


def reference_scores(trial, spec, level):
    metrics = spec.objective.metrics
    found = [trial.last(metric) if level is None else trial.values(metric).get(level) for metric in metrics]
    scores = [score for score in found if score is not None]
    return scores if len(scores) == len(metrics) else None


def history(spec, *, events, seed):
    """Yield events in any order a sweep may have: trials start, report, break off, pause, run on, end."""
    rng, state, points = random.Random(seed), SweepState(), spec.space.sample_many(events, seed=seed)
    for _ in range(events):
        event = next_event(rng, state, points)
        state.apply(event)
        yield event


def next_event(rng, state, points):
    trials = state.with_status("waiting", "running", "paused", "interrupted")
    if not trials or rng.random() < 0.2:
        index = len(state.trials)
        origin = ("baseline", "point")[index] if index < 2 else "search"  # as the spec has one given point
        point = points[index] if index else {**points[0], "snnl.weight": 0.0}
        return TrialCreated(time=0.0, trial=trial_id(index), origin=origin, point=point, config={**point, "epochs": 9})
    trial = rng.choice(trials)
    name, attempt = trial.id, trial.attempts
    if trial.status == "paused":
        return TrialPromoted(time=0.0, trial=name, rung=trial.epoch)
    if trial.status != "running":
        return AttemptStarted(time=0.0, trial=name, attempt=attempt + 1)
    if rng.random() < 0.1:
        return AttemptFailed(time=0.0, trial=name, attempt=attempt, cause="infrastructure", reason="lost")
    if trial.epoch == 9 or (trial.epoch and rng.random() < 0.3):
        status = rng.choice(["paused"] * 4 + ["stopped", "diverged", "failed", "interrupted"])
        return TrialEnded(time=0.0, trial=name, status="completed" if trial.epoch == 9 else status)
    epoch, score = trial.epoch + rng.randint(1, min(3, 9 - trial.epoch)), rng.random()
    metrics = {"val/accuracy": score if rng.random() < 0.9 else None, "val/nll": rng.random()}
    return EpochReported(time=0.0, trial=name, attempt=attempt, epoch=epoch, since_restore=1, metrics=metrics)


def as_stored(study):
    """Everything that a sampler can read of a study's trials."""
    return [
        (
            trial.number,
            trial.state,
            trial.values,
            trial.params,
            trial.distributions,
            trial.intermediate_values,
            trial.user_attrs,
            trial.system_attrs,
        )
        for trial in study.get_trials(deepcopy=False)
    ]


@pytest.mark.filterwarnings("ignore:Constraints have been set, but CmaEsSampler will not use them")
@pytest.mark.parametrize("constraint", ["", CONSTRAINT], ids=["free", "constrained"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_kept_proposer_proposes_after_every_event_what_one_made_from_zero_does(sampler, constraint):
    spec, state = spec_of(sampler, constraint=constraint), SweepState()
    kept = Proposer(spec, state)
    for number, event in enumerate(history(spec, events=80 if sampler in STATEFUL | {"gp"} else 160, seed=5)):
        state.apply(event)
        assert kept.propose() == reference(state, spec), number
    assert propose(state, spec) == kept.propose()


@pytest.mark.parametrize("sampler", ["auto", "tpe", "gp", "nsga2"])
def test_with_several_objectives_a_kept_proposer_proposes_what_one_made_from_zero_does(sampler):
    spec, state = spec_of(sampler, more=SEVERAL), SweepState()
    kept = Proposer(spec, state)
    for number, event in enumerate(history(spec, events=150, seed=6)):
        state.apply(event)
        if number == 149 or (number % 7 == 0 and sampler != "gp"):  # which takes a second for each
            assert kept.propose() == reference(state, spec), number


@pytest.mark.parametrize(
    ("sampler", "more"),
    [("tpe", ""), ("tpe", SEVERAL), ("gp", ""), ("gp", SEVERAL), ("cmaes", ""), ("nsga3", "")],
    ids=["tpe", "tpe-several", "gp", "gp-several", "cmaes", "nsga3"],
)
def test_a_kept_study_holds_after_every_event_what_one_built_from_zero_does(sampler, more):
    spec, state = spec_of(sampler, more=more), SweepState()
    kept = SweepStudy(spec, state)
    for number, event in enumerate(history(spec, events=60 if sampler in STATEFUL else 250, seed=7)):
        state.apply(event)
        expected = as_stored(reference_study(state, spec, seed=number))
        assert as_stored(kept.study(number)) == expected, number
        kept._storage.create_new_trial(0)  # as an ask does
    assert as_stored(SweepStudy(spec, state).study(number)) == expected


def test_a_study_rebuilds_the_trials_that_changed_and_no_other(monkeypatch):
    spec, state = spec_of("tpe"), SweepState(history(spec_of("tpe"), events=300, seed=8))
    kept, rebuilt = SweepStudy(spec, state), []
    kept.study(0)
    put = kept._storage.put
    monkeypatch.setattr(kept._storage, "put", lambda number, trial: (rebuilt.append(trial), put(number, trial)))
    kept.study(1)
    assert rebuilt == []
    running = state.with_status("running")[0]
    report = {"time": 0.0, "attempt": running.attempts, "since_restore": 1, "metrics": {"val/accuracy": 0.5}}
    state.apply(EpochReported(trial=running.id, epoch=running.epoch + 1, **report))
    kept.study(2)
    assert [trial.user_attrs["trial"] for trial in rebuilt] == [running.id]


BOX = SearchSpace(
    {"a": Float(0.0, 1.0), "b": Int(1, 9), "c": ZeroOr(Float(0.1, 4.0, log=True)), "d": Choice(["x", "y"])},
    when={"d": When("c", not_equal(0))},
)
HALF = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}, constraints=["a < b"])
RARE = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}, constraints=["a < b / 60"])


@pytest.mark.parametrize("space", [BOX, HALF, RARE], ids=["free", "half", "rare"])
@pytest.mark.parametrize("indices", [range(24), [0, 3, 4, 17, 2, 2, 18], [40], [9, 0, 1]], ids=str)
def test_a_sobol_point_is_that_of_the_sequence_from_its_start_whatever_was_asked_before(space, indices):
    kept = SobolPoints(space, seed=5)
    assert [kept.point(index) for index in indices] == [reference_sobol(space, index, seed=5) for index in indices]


def test_a_sobol_point_that_is_not_found_is_sampled_and_the_next_may_be_found(monkeypatch):
    monkeypatch.setattr(sequences, "MOST_TRIED", 1)
    kept = SobolPoints(HALF, seed=5)
    points = [kept.point(index) for index in range(12)]
    assert HALF.sample(5) in points
    assert [SobolPoints(HALF, seed=5).point(index) for index in range(12)] == points


@pytest.mark.parametrize("indices", [range(19), [3, 4, 9, 2, 2, 18]], ids=str)
def test_a_grid_point_is_that_of_the_grid_from_its_start_whatever_was_asked_before(indices):
    kept, grid = GridPoints(catalog.mixup(), 3), list(catalog.mixup().grid(3))
    assert [kept.point(index) for index in indices] == [grid[index] for index in indices]
    with pytest.raises(IndexError, match="the grid has no point 19"):
        kept.point(19)


@pytest.mark.parametrize("sampler", ["grid", "qmc"])
def test_a_grid_and_a_sequence_need_no_optuna(sampler):
    code = (
        "import sys\nfrom orchestrator.decisions.propose import propose\n"
        "from orchestrator.planning.loading import parse_spec\n"
        "from orchestrator.state.sweep_state import SweepState\nfrom orchestrator.state.events import TrialCreated\n"
        f"spec = parse_spec('name: a\\nsearch: {{sampler: {sampler}, num_trials: 9}}')\n"
        "state = SweepState([TrialCreated(time=0, trial='t000', origin='baseline', point={}, config={})])\n"
        "assert propose(state, spec)[0] == 'search'\nprint({'optuna', 'ray', 'torch', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_first_points_are_completed_once(monkeypatch):
    spec, state, completed = spec_of("tpe"), SweepState(), []
    complete = baseline.complete
    for module in (baseline, points):
        monkeypatch.setattr(module, "complete", lambda *given, **more: completed.append(1) or complete(*given, **more))
    kept = Proposer(spec, state)
    for event in history(spec, events=20, seed=9):
        kept.propose()
        state.apply(event)
    assert len(completed) == 2


def test_a_point_belongs_to_the_caller():
    spec, state = spec_of("grid"), SweepState(itertools.islice(history(spec_of("grid"), events=9, seed=1), 1))
    kept = Proposer(spec, state)
    kept.propose()[1].clear()
    assert kept.propose()[1]
