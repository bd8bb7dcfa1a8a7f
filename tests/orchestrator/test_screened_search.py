"""Screened search, which `sampler: auto` chooses: points of the space, from the log alone, none twice, led by order."""

import json
import math
import random
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.analysis.replay import replay
from orchestrator.decisions.propose import Proposer, propose
from orchestrator.decisions.screened_search import sampler as screened
from orchestrator.decisions.screened_search.gaussian_process import GaussianProcess, normal_scores
from orchestrator.decisions.screened_search.neighbours import neighbour
from orchestrator.decisions.screened_search.rows import Rows
from orchestrator.decisions.screened_search.trial_order import TrialOrder, reordered
from orchestrator.planning.changes.extension import _notes
from orchestrator.planning.choices import FEWEST_RANKED, num_random, sampler_choice
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.points import first_points
from orchestrator.planning.seeds import trial_id
from orchestrator.spec.model import Search
from orchestrator.state.events import (
    AttemptStarted,
    EpochReported,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
    decode,
    encode,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState
from search_spaces import Choice, Float, Int, SearchSpace, SymLog, When, ZeroOr, catalog, not_equal
from search_spaces.errors import MissingExtraError

SPEC = """
name: a
trial: {epochs: 9}
space:
  parameters:
    mixup.alpha: {zero_or: {float: [0.1, 1.0]}, probability: 0.5}
    optimizer.lr: {float: [0.001, 1.0], log: true}
    optimizer.momentum: {choice: [0.0, 0.5, 0.9], ordered: true}
    optimizer.name: {choice: [sgd, adamw]}
  constraints: [CONSTRAINTS]
search: {num_trials: TRIALS, seed: SEED}
"""
SEVERAL = "objective: [val/accuracy max, val/nll min]\n"
MIXED = SearchSpace(
    {
        "a": Float(0.0, 1.0),
        "b": Int(1, 9),
        "c": ZeroOr(Float(0.1, 4.0, log=True), probability=0.3),
        "d": Choice(["x", "y", "z"]),
        "e": SymLog(-1.0, 1.0, gap=0.01),
        "f": Choice([16, 32, 64], ordered=True),
    },
    when={"d": When("c", not_equal(0)), "e": When("d", "y")},
)


def spec_of(num_trials=40, *, constraint="", seed=0, more=""):
    text = SPEC.replace("TRIALS", str(num_trials)).replace("CONSTRAINTS", constraint).replace("SEED", str(seed))
    return parse_spec(text + more)


def add(state, origin, point, *, values, status="paused"):
    """Add a trial that reported these values by epoch, a number or one for each objective."""
    name = trial_id(len(state.trials))
    state.apply(TrialCreated(time=0.0, trial=name, origin=origin, point=point, config={**point, "epochs": 9}))
    state.apply(AttemptStarted(time=0.0, trial=name, attempt=1))
    report(state, name, values)
    if status is not None:
        state.apply(TrialEnded(time=0.0, trial=name, status=status, rung=max(values, default=None)))
    return name


def report(state, name, values):
    for epoch, value in values.items():
        measured = value if isinstance(value, dict) else {"val/accuracy": value}
        event = EpochReported(time=0.0, trial=name, attempt=1, epoch=epoch, since_restore=1, metrics=measured)
        state.apply(event)


def quality(point):
    """A bump around lr 0.03 and strong mixup."""
    return math.exp(-((math.log10(point["optimizer.lr"]) + 1.5) ** 2)) * (0.5 + 0.5 * point["mixup.alpha"])


def swept(spec, count, *, value=quality, status=lambda _: "paused"):
    state = SweepState()
    proposer = Proposer(spec, state)
    for _ in range(count):
        origin, point = proposer.propose()
        end = status(point)
        add(state, origin, point, values={} if end == "failed" else {3: value(point)}, status=end)
    return state


def late(state, start):
    return [trial.point for trial in list(state.trials.values())[start:]]


def test_auto_is_the_default_sampler():
    assert Search().sampler == "auto"
    assert spec_of().search.sampler == "auto"


def test_screened_points_are_better_than_random_ones():
    better = [
        statistics.fmean(map(quality, late(swept(spec_of(60, seed=seed), 60), 30)))
        - statistics.fmean(map(quality, spec_of().space.sample_many(400, seed)))
        for seed in range(2)
    ]
    assert min(better) > 0.05


def attacked(*, more=""):
    """A space in which a fifth of the points is attacked, and costs eleven times as much as the others."""
    epsilon = "adversarial.epsilon: {zero_or: {float: [0.05, 0.2]}, probability: 0.8}"
    space = f"space: {{parameters: {{{epsilon}, optimizer.lr: {{float: [0.001, 1.0], log: true}}}}}}"
    trial = "trial: {epochs: 9, adversarial.attack: pgd, adversarial.steps: 10}"
    return parse_spec(f"name: a\n{trial}\n{space}\nsearch: {{num_trials: 40}}\n{more}")


def mean_cost(spec):
    state = swept(spec, 40, value=lambda point: point.get("adversarial.epsilon", 0.0))
    return statistics.fmean(11 if trial.point.get("adversarial.epsilon") else 1 for trial in state.trials.values())


def test_where_the_costliest_points_are_the_best_a_sweep_costs_little_more_than_random_search():
    random_points = attacked().space.sample_many(2000, seed=1)
    of_random = statistics.fmean(11 if point["adversarial.epsilon"] else 1 for point in random_points)
    assert mean_cost(attacked()) < 1.45 * of_random


def test_a_budget_of_epochs_does_not_ask_what_a_point_costs():
    assert mean_cost(attacked(more="scheduler: {resource: epochs}\n")) > 1.3 * mean_cost(attacked())


def test_the_first_half_of_a_sweep_is_sampled_at_random_whatever_was_measured():
    one, other = swept(spec_of(40), 20), swept(spec_of(40), 20, value=lambda point: -quality(point))
    assert [trial.point for trial in one.trials.values()] == [trial.point for trial in other.trials.values()]
    assert propose(swept(spec_of(40), 40), spec_of(60)) != propose(
        swept(spec_of(40), 40, value=lambda point: -quality(point)), spec_of(60)
    )


@pytest.mark.parametrize(
    "constraint", ["", "optimizer.lr < 0.2 or optimizer.momentum < 0.5", "mixup.alpha < optimizer.lr"]
)
def test_every_point_lies_in_the_space_and_none_comes_twice(constraint):
    spec = spec_of(60, constraint=constraint)
    points = [trial.point for trial in swept(spec, 60).trials.values()]
    assert all(spec.space.contains(point) for point in points[1:])
    assert len({repr(sorted(point.items())) for point in points}) == 60


def test_a_finite_space_is_searched_to_its_last_point_before_one_comes_again():
    text = "name: a\nspace: {parameters: {batch_size: {choice: [16, 32, 64]}, epochs: {int: [1, 8]}}}\n"
    spec = parse_spec(text + "search: {num_trials: 30}")
    state = SweepState()
    proposer = Proposer(spec, state)
    for index in range(30):
        add(state, *proposer.propose(), values={1: 1 / (1 + index)})
    points = [(trial.point["batch_size"], trial.point["epochs"]) for trial in state.trials.values()]
    assert len(set(points[:20])) == 20
    assert len(set(points)) == 24


def test_a_space_without_a_parameter_has_its_one_point():
    spec = parse_spec("name: a\nspace: {parameters: {}}\nsearch: {num_trials: 14}")
    state = SweepState()
    for index in range(14):
        add(state, *propose(state, spec), values={1: float(index)})
    assert propose(state, spec) == ("search", {})


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_the_neighbourhood_of_lost_trials_is_avoided(status):
    def end(point):
        return status if point["optimizer.lr"] > 0.1 else "paused"

    shares = [
        statistics.fmean(
            point["optimizer.lr"] > 0.1 for point in late(swept(spec_of(60, seed=seed), 60, status=end), 30)
        )
        for seed in range(2)
    ]
    assert max(shares) < 0.2  # a third of the space


def test_where_every_trial_is_lost_points_are_random():
    state = swept(spec_of(40), 30, status=lambda _: "failed")
    origin, point = propose(state, spec_of(40))
    assert (origin, spec_of().space.contains(point)) == ("search", True)


@pytest.mark.parametrize("several", [False, True])
def test_a_proposer_that_is_kept_proposes_what_one_made_from_zero_does_as_trials_go_on(several):
    spec, state, rng = spec_of(50, more=SEVERAL if several else ""), SweepState(), random.Random(0)
    kept = Proposer(spec, state)
    for index in range(50):
        assert kept.propose() == propose(state, spec), index
        values = {1: {"val/accuracy": rng.random(), "val/nll": rng.random()}}
        add(state, *kept.propose(), values=values, status=rng.choice(["paused", "paused", "diverged", None]))
        for trial in rng.sample(state.with_status("paused"), min(1, len(state.with_status("paused")))):
            state.apply(TrialPromoted(time=0.0, trial=trial.id, rung=trial.epoch))
            state.apply(AttemptStarted(time=0.0, trial=trial.id, attempt=2))
            report(state, trial.id, {trial.epoch + 1: {"val/accuracy": rng.random(), "val/nll": rng.random()}})
            state.apply(TrialEnded(time=0.0, trial=trial.id, status="paused", rung=trial.epoch))


def test_a_trial_that_runs_and_one_that_was_interrupted_are_the_same_to_the_sampler():
    spec, state = spec_of(40), swept(spec_of(40), 30)
    add(state, "search", spec.space.sample(7), values={3: 0.9}, status=None)
    before = propose(state, spec)
    state.apply(TrialEnded(time=0.0, trial="t030", status="interrupted"))
    assert propose(state, spec) == before


def test_with_several_objectives_the_front_leads():
    def value(point):
        return {"val/accuracy": quality(point), "val/nll": 1 - quality(point)}

    state = swept(spec_of(60, more=SEVERAL), 60, value=value)
    assert statistics.fmean(map(quality, late(state, 30))) > 0.05 + statistics.fmean(
        map(quality, spec_of().space.sample_many(400, 1))
    )


def test_a_given_point_outside_the_space_is_learnt_from_and_never_proposed():
    spec = parse_spec("name: a\nspace: {parameters: {mixup.alpha: {float: [0.5, 1.0]}}}\nsearch: {num_trials: 40}")
    state = SweepState()
    for _ in range(40):
        origin, point = propose(state, spec)
        assert origin == "baseline" or spec.space.contains(point)
        add(state, origin, point, values={1: -point["mixup.alpha"]})


# -- the order


def test_values_of_different_epochs_are_never_compared():
    state, spec = SweepState(), spec_of()
    add(state, "search", {}, values={1: 0.6, 3: 0.1})
    add(state, "search", {}, values={1: 0.5})
    add(state, "search", {}, values={1: 0.4})
    assert TrialOrder(spec, state).ranked() == ["t000", "t001", "t002"]


def test_trials_that_went_further_are_reordered_among_their_places():
    values = {"a": {1: (0.9,), 3: (0.7,)}, "b": {1: (0.8,)}, "c": {1: (0.6,), 3: (0.8,)}, "d": {1: (0.5,)}}
    assert reordered(values, 1) == ["c", "b", "a", "d"]


def test_a_trial_that_runs_is_ordered_once_it_measured_as_much_as_one_that_waits():
    state, spec = SweepState(), spec_of()
    add(state, "search", {}, values={1: 0.5, 3: 0.5})
    running = add(state, "search", {}, values={1: 0.9}, status=None)
    order = TrialOrder(spec, state)
    assert order.ranked() == ["t000"]
    report(state, running, {3: 0.6})
    assert order.ranked() == ["t001", "t000"]


def test_lost_trials_come_last_and_a_value_that_is_missing_counts_as_not_measured():
    state, spec = SweepState(), spec_of()
    add(state, "search", {}, values={1: 0.9}, status="diverged")
    add(state, "search", {}, values={}, status="failed")
    add(state, "search", {}, values={1: 0.2, 3: None})
    add(state, "search", {}, values={1: 0.3})
    assert TrialOrder(spec, state).ranked() == ["t003", "t002", "t000", "t001"]


def test_lower_is_better_where_the_objective_says_so():
    state, spec = SweepState(), spec_of(more="objective: val/nll min\n")
    for value in (0.5, 0.2, 0.9):
        add(state, "search", {}, values={1: {"val/nll": value}})
    assert TrialOrder(spec, state).ranked() == ["t001", "t000", "t002"]


# -- the model


def fitted(rows):
    """A model of rows that are ranked, best first."""
    return GaussianProcess(np.array(rows), normal_scores(len(rows)))


def test_the_model_prefers_the_side_of_the_better_trials():
    values, noise = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9), (0.3, 0.9, 0.1, 0.5, 0.2, 0.8)
    rows, at = [list(pair) for pair in zip(values, noise, strict=True)], np.array([[0.9, 0.5], [0.1, 0.5]])
    assert fitted(rows).predicted(at)[0].argmax() == 1
    assert fitted(rows[::-1]).predicted(at)[0].argmax() == 0


def test_a_column_that_explains_nothing_hardly_counts():
    rng = random.Random(0)
    model = fitted([[place / 60, rng.random(), 1.0] for place in range(60)])
    near, far, low, high = model.predicted(
        np.array([[0.5, 0.1, 1.0], [0.5, 0.9, 1.0], [0.1, 0.5, 1.0], [0.9, 0.5, 1.0]])
    )[0]
    assert abs(near - far) < 0.2 * abs(low - high)


def test_far_from_all_trials_the_model_predicts_a_middling_score_and_knows_that_it_does_not_know():
    means, deviations = fitted([[place / 20] for place in range(20)]).predicted(np.array([[0.5], [30.0]]))
    assert abs(means[1]) < 0.01
    assert deviations[1] > 2 * deviations[0]


def test_functions_that_are_drawn_from_the_model_have_its_means_and_deviations():
    model, at = fitted([[place / 20] for place in range(20)]), np.array([[0.1], [0.6], [1.5]])
    rng = np.random.default_rng(0)
    drawn, (means, deviations) = np.stack([model.sample(at, rng) for _ in range(4000)]), model.predicted(at)
    assert np.allclose(drawn.mean(axis=0), means, atol=0.06)
    assert np.allclose(drawn.std(axis=0), deviations, rtol=0.08)


def test_equal_rows_and_a_constant_column_are_no_trouble():
    model = fitted([[0.5, 1.0]] * 12)
    assert np.isfinite(model.sample(np.array([[0.5, 1.0], [0.5, 1.0], [0.1, 0.0]]), np.random.default_rng(0))).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_neighbour_is_a_point_of_the_space_that_differs(seed):
    rng = random.Random(seed)
    for point in MIXED.sample_many(60, seed):
        near = neighbour(MIXED, point, rng)
        assert MIXED.problems(near) == []
    assert sum(neighbour(MIXED, point, rng) != point for point in MIXED.sample_many(60, seed)) > 40


def test_a_neighbour_keeps_most_values():
    rng, kept = random.Random(0), []
    space = catalog.regularizers()
    for point in space.sample_many(100, 0):
        near = neighbour(space, point, rng)
        kept.append(statistics.fmean(near.get(name) == value for name, value in point.items()))
    assert 0.5 < statistics.fmean(kept) < 0.95


def test_rows_of_all_points_of_a_space_have_the_same_columns():
    rows = Rows(MIXED)
    widths = {len(rows.of(point)) for point in (*MIXED.sample_many(50, 0), {}, {"a": 7.0, "d": "none"})}
    assert widths == {9}
    assert all(0 <= value <= 1 for point in MIXED.sample_many(50, 0) for value in rows.of(point))


def test_in_a_large_sweep_the_model_has_the_better_half_and_some_of_the_rest():
    names = [trial_id(index) for index in range(1000)]
    part = screened._part(names)
    assert len(part) == screened.MOST_MODELLED == len(set(part))
    half = screened.MOST_MODELLED // 2
    assert part[:half] == names[:half]
    assert part == sorted(part)
    assert part[-1] > "t990"


# -- what it says


@pytest.mark.parametrize(("num_trials", "first"), [(1, 10), (19, 10), (40, 20), (64, 32), (1000, 64)])
def test_half_of_a_sweep_is_random_but_at_least_ten_trials_and_at_most_sixty_four(num_trials, first):
    assert num_random(spec_of(num_trials)) == max(first, FEWEST_RANKED)


def test_the_choice_is_said_for_auto_alone():
    assert sampler_choice(spec_of(64)).startswith("auto: 32 trials at random, then 4 of 5 points screened")
    assert sampler_choice(spec_of(10)) == "auto: all points at random, as 10 trials are too few to learn from"
    assert sampler_choice(parse_spec("name: a\nsearch: {sampler: tpe}")) is None


def test_auto_needs_no_optuna():
    code = (
        "import sys\nfrom orchestrator.decisions.propose import propose\n"
        "from orchestrator.planning.loading import parse_spec\n"
        "from orchestrator.state.sweep_state import SweepState\nfrom orchestrator.state.events import TrialCreated\n"
        "spec = parse_spec('name: a\\nsearch: {num_trials: 9}')\n"
        "state = SweepState([TrialCreated(time=0, trial='t000', origin='baseline', point={}, config={})])\n"
        "assert propose(state, spec)[0] == 'search'\nprint({'optuna', 'ray', 'torch', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_first_points_come_before_random_ones():
    spec = parse_spec("name: a\nsearch: {num_trials: 20, points: [{optimizer.lr: 0.1}]}")
    state = SweepState()
    for expected in first_points(spec):
        assert propose(state, spec) == expected
        add(state, *expected, values={1: 0.5})
    assert propose(state, spec)[0] == "search"


def test_a_plan_says_what_auto_chose_and_one_with_another_sampler_is_what_it_was(tmp_path):
    folder, fixed = SweepFolder(tmp_path / "a"), {"slots": 2, "now": 0.0, "working_directory": tmp_path}
    plan = make_plan(spec_of(64), folder, **fixed)
    assert plan.sampler_choice == sampler_choice(spec_of(64))
    assert SweepPlan.model_validate_json(plan.model_dump_json()) == plan
    other = make_plan(parse_spec("name: a\nsearch: {sampler: tpe}"), folder, **fixed)
    assert "sampler_choice" not in other.model_dump(mode="json")


@pytest.mark.parametrize("version", ["plan_v1", "plan_v2", "plan_v3"])
def test_a_plan_of_an_earlier_version_keeps_the_sampler_that_was_the_default(version):
    document = json.loads((Path(__file__).parent / "assets" / version / "plan.json").read_text())
    document.pop("checksum", None)
    plan = SweepPlan.model_validate_json(json.dumps(document))
    assert (plan.spec.search.sampler, plan.sampler_choice) == ("tpe", None)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_sweep_of_many_trials_replays_bit_for_bit_from_its_log(virtual_sweep, seeds):
    text = SPEC.replace("TRIALS", f"30, seeds: {seeds}").replace("CONSTRAINTS", "").replace("SEED", "3")
    sweep = virtual_sweep(text, workers=3)
    found = replay(sweep.plan, [decode(encode(event)) for event in sweep.events])
    assert found.differences == ()
    assert found.counts["trial_created"] == len(sweep.state.trials) >= 30


def test_an_extended_sweep_says_that_its_random_part_grows():
    plan = make_plan(spec_of(40), SweepFolder(Path("a")), slots=2, now=0.0, working_directory=Path.cwd())
    more = plan.successor(spec_of(60), {})
    assert _notes(plan, more, {"search.num_trials": 60})[-1].startswith("search.sampler: auto: 30 trials at random")
    few = make_plan(spec_of(12), SweepFolder(Path("a")), slots=2, now=0.0, working_directory=Path.cwd())
    notes = _notes(few, few.successor(spec_of(16), {}), {"search.num_trials": 16})
    assert not any("search.sampler" in note for note in notes)


def test_numpy_that_is_missing_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "orchestrator.decisions.screened_search.gaussian_process", None)
    monkeypatch.delattr("orchestrator.decisions.screened_search.gaussian_process", raising=False)
    search = screened.ScreenedSearch(spec_of(40), swept(spec_of(40), 20))
    with pytest.raises(MissingExtraError, match="numpy"):
        search.ask(1)  # a seed under which the point is screened
