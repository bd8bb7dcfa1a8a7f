import builtins
import warnings

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import (
    Choice,
    Fixed,
    Float,
    Int,
    MissingExtraError,
    SearchSpace,
    SpaceError,
    SymLog,
    When,
    ZeroOr,
    catalog,
    not_equal,
)
from search_spaces.adapters import optuna as optuna_adapter
from search_spaces.adapters.optuna import distributions, from_optuna, to_optuna
from search_spaces.warm_start import optuna_studies

ANY_SPACE = st.from_type(SearchSpace)
FREE_SPACE = ANY_SPACE.map(lambda space: SearchSpace(space.parameters, space.when))
SEEDS = st.integers(0, 2**31)
CATALOG = catalog.optimizer() | catalog.snnl() | catalog.mixup() | catalog.adversarial()
optuna.logging.set_verbosity(optuna.logging.WARNING)


def study(seed=0, sampler=optuna.samplers.RandomSampler):
    return optuna.create_study(sampler=sampler(seed=seed))


def quiet_qmc(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.QMCSampler(seed=seed, scramble=True)


def same(left, right):
    assert list(left) == list(right)
    for name, value in left.items():
        if type(value) is float and type(right[name]) is float:
            assert right[name] == pytest.approx(value, rel=1e-9)
        else:
            assert (type(right[name]), right[name]) == (type(value), value)


@given(FREE_SPACE, SEEDS)
def test_suggested_point_is_in_the_space_and_plain(space, seed):
    point = space.suggest(study(seed).ask())
    assert space.problems(point) == []


@given(FREE_SPACE, SEEDS)
def test_suggested_point_is_read_back_from_the_params_of_its_trial(space, seed):
    trial = study(seed).ask()
    same(space.suggest(trial), from_optuna(space, trial.params))


@given(ANY_SPACE, SEEDS)
def test_point_survives_optuna(space, seed):
    point = space.sample(seed)
    params, _ = to_optuna(space, point)
    floats_for_ints = {k: float(v) if isinstance(space.parameters[k], Float) else v for k, v in point.items()}
    same(floats_for_ints, from_optuna(space, params))


@given(ANY_SPACE, SEEDS)
def test_study_is_rebuilt_from_points(space, seed):
    rebuilt = study()
    point = space.sample(seed)
    params, asked = to_optuna(space, point)
    rebuilt.add_trial(optuna.trial.create_trial(params=params, distributions=asked, value=1.0))
    same(point, from_optuna(space, rebuilt.trials[0].params))
    assert asked == {name: distributions(space)[name] for name in params}


@given(FREE_SPACE, SEEDS)
def test_distributions_are_those_a_trial_is_asked(space, seed):
    trial = study(seed).ask()
    space.suggest(trial)
    known = distributions(space)
    assert all(known[name] == asked for name, asked in trial.distributions.items())


@pytest.mark.parametrize(
    "sampler", [optuna.samplers.TPESampler, optuna.samplers.RandomSampler, optuna.samplers.NSGAIISampler]
)
def test_studies_rebuilt_from_the_same_points_suggest_the_same(sampler):
    original = study(seed=3, sampler=sampler)
    for _ in range(20):
        trial = original.ask()
        point = CATALOG.suggest(trial)
        original.tell(trial, float(len(point)))
    twins = [study(seed=5, sampler=sampler) for _ in range(2)]
    for old in original.trials:
        params, asked = to_optuna(CATALOG, from_optuna(CATALOG, old.params))
        for twin in twins:
            twin.add_trial(optuna.trial.create_trial(params=params, distributions=asked, value=old.value))
    assert CATALOG.suggest(twins[0].ask()) == CATALOG.suggest(twins[1].ask())


@pytest.mark.parametrize("sampler", [optuna.samplers.TPESampler, quiet_qmc])
def test_samplers_that_model_the_space_stay_within_it(sampler):
    space = SearchSpace(
        {
            "a": Float(1e-4, 1.0, log=True),
            "b": SymLog(-1.0, 0.5, gap=1e-3),
            "c": Int(1, 100, log=True),
            "d": Choice([1, True, None]),
        }
    )
    current = study(seed=1, sampler=sampler)
    for _ in range(30):
        trial = current.ask()
        point = space.suggest(trial)
        assert space.problems(point) == []
        current.tell(trial, abs(point["b"]))


def test_inactive_parameters_are_never_asked():
    trial = optuna.trial.FixedTrial(
        {
            "optimizer.name": "adamw",
            "optimizer.lr": 0.1,
            "optimizer.weight_decay": 1e-4,
            "optimizer.schedule": "cosine",
        }
    )
    assert "optimizer.momentum" not in catalog.optimizer().suggest(trial)


def test_gate_comes_before_its_domain_and_below_its_probability_is_off():
    space = SearchSpace({"x": ZeroOr(Float(0.1, 4.0, log=True), 0.3)})
    trial = study().ask(fixed_distributions=distributions(space))
    assert list(distributions(space)) == ["x.gate", "x"]
    assert space.suggest(optuna.trial.FixedTrial({"x.gate": 0.29})) == {"x": 0.0}
    assert space.suggest(optuna.trial.FixedTrial({"x.gate": 0.3, "x": 2.0})) == {"x": 2.0}
    assert 0.0 <= trial.params["x.gate"] < 1.0


@given(st.floats(1e-300, 1.0, exclude_max=True), st.booleans())
def test_inverted_gate_is_in_the_middle_of_its_half_and_reads_back(probability, on):
    space = SearchSpace({"x": ZeroOr(Float(0.1, 4.0), probability)})
    point = {"x": 1.0 if on else 0.0}
    params, asked = to_optuna(space, point)
    assert params["x.gate"] == ((1 + probability) / 2 if on else probability / 2)
    assert asked["x.gate"]._contains(params["x.gate"])
    assert from_optuna(space, params) == point


def test_gate_frequency_is_the_probability():
    space = SearchSpace({"x": ZeroOr(Fixed(0.5), 0.25)})
    current = study(seed=1)
    off = sum(space.suggest(current.ask())["x"] == 0 for _ in range(400))
    assert off == pytest.approx(100, abs=30)


def test_options_that_python_confuses_are_told_apart():
    space = SearchSpace({"x": Choice([1, True, 1.0, "1"])})
    points = [{"x": option} for option in (1, True, 1.0, "1")]
    read = [from_optuna(space, to_optuna(space, point)[0])["x"] for point in points]
    assert [(type(value), value) for value in read] == [(int, 1), (bool, True), (float, 1.0), (str, "1")]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "x.gate: is missing from the params of the trial"),
        ({"x.gate": 0.9}, "x: is missing from the params of the trial"),
        ({"x.gate": 1.5, "x": 0.1}, "x.gate: must be within FloatDistribution"),
        ({"x.gate": 0.9, "x": 99.0}, "x: must be within FloatDistribution"),
        ({"x.gate": 0.1, "x": 0.1}, "x: is not a param at this point of the space"),
    ],
)
def test_params_that_fit_no_point_are_refused(params, message):
    space = SearchSpace({"x": ZeroOr(SymLog(-1.0, 1.0, gap=0.1))})
    with pytest.raises(SpaceError) as caught:
        from_optuna(space, params)
    assert str(caught.value).startswith(message)


def test_point_outside_the_space_is_not_told_to_optuna():
    space = SearchSpace({"a": Choice([0, 1]), "b": Fixed(1)}, when={"b": When("a", not_equal(0))})
    with pytest.raises(SpaceError, match=r"^b: is inactive"):
        to_optuna(space, {"a": 0, "b": 1})


def test_fixed_parameters_are_never_asked():
    space = SearchSpace({"a": Fixed(1), "b": Fixed("x")})
    assert space.suggest(optuna.trial.FixedTrial({})) == {"a": 1, "b": "x"}
    assert distributions(space) == {}


def test_missing_optuna_names_the_extra(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "optuna":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'ravel-sweeps\[optuna\]'"):
        optuna_adapter.distributions(SearchSpace({"a": Float(0.0, 1.0)}))


@settings(max_examples=20)
@given(SEEDS)
def test_catalog_round_trips_from_suggestion_to_point_and_back(seed):
    trial = study(seed).ask()
    point = CATALOG.suggest(trial)
    params, asked = to_optuna(CATALOG, point)
    same(point, from_optuna(CATALOG, params))
    assert asked == trial.distributions


def ordered():
    return SearchSpace({"a": Int(1, 9), "b": Int(1, 9)}, constraints=["a < b", "a + b != 9"])


def test_answers_that_break_a_constraint_prune_the_trial_and_say_which():
    space = ordered()
    with pytest.raises(optuna.TrialPruned, match="breaks 'a < b' and 'a \\+ b != 9'"):
        space.suggest(optuna.trial.FixedTrial({"a": 6, "b": 3}))
    assert space.suggest(optuna.trial.FixedTrial({"a": 3, "b": 5})) == {"a": 3, "b": 5}


def test_a_trial_asked_again_gives_the_same_answer_within_constraints():
    space = SearchSpace({"a": Int(1, 2), "b": Int(3, 9)}, constraints=["a < b"])
    trial = study(seed=1).ask()
    assert space.suggest(trial) == space.suggest(trial)


def test_a_study_goes_on_past_what_breaks_a_constraint_and_learns_from_it():
    space = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}, constraints=["a + b <= 0.5"])
    current = study(seed=4, sampler=optuna.samplers.TPESampler)
    current.optimize(lambda trial: sum(space.suggest(trial).values()), n_trials=120)
    states = [trial.state.name for trial in current.trials]
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert states[:30].count("PRUNED") > 1.5 * states[90:].count("PRUNED")
    assert all(trial.constraints == {"a + b <= 0.5": float(trial.state.name == "PRUNED")} for trial in current.trials)


def test_an_ordered_choice_is_the_place_of_its_option():
    space = SearchSpace({"size": Choice([16, 32, 64], ordered=True)})
    assert distributions(space)["size"] == optuna.distributions.IntDistribution(0, 2)
    assert space.suggest(optuna.trial.FixedTrial({"size": 1})) == {"size": 32}
    assert to_optuna(space, {"size": 64})[0] == {"size": 2}


def test_steps_are_asked_as_steps_and_answered_as_a_person_writes_them():
    space = SearchSpace({"a": Float(0.1, 0.7, step=0.2), "b": Int(2, 10, step=4)})
    assert [distribution.step for distribution in distributions(space).values()] == [0.2, 4]
    assert space.suggest(optuna.trial.FixedTrial({"a": 0.1 + 0.2, "b": 6})) == {"a": 0.3, "b": 6}


def test_the_points_of_a_study_come_back_with_their_scores():
    current = study(seed=1)
    current.optimize(lambda trial: float(len(CATALOG.suggest(trial))), n_trials=20)
    scored = optuna_studies.points_of(current, CATALOG)
    assert all(CATALOG.problems(each.point) == [] and each.value == len(each.point) for each in scored)
    assert len(scored) == 20


def test_the_space_of_a_study_is_the_one_it_searched():
    space = SearchSpace(
        {
            "a": Choice(["x", "y"]),
            "b": Float(1e-4, 1.0, log=True),
            "c": Int(1, 9),
            "d": Float(0.0, 1.0, step=0.1),
            "e": Int(0, 8, step=2),
            "f": Int(1, 100, log=True),
        },
        when={"c": When("a", "x")},
    )
    current = study(seed=2)
    current.optimize(lambda trial: float(len(space.suggest(trial))), n_trials=20)
    assert optuna_studies.space_of(current, when=space.when) == space


@pytest.mark.parametrize(
    ("asks", "says"),
    [
        ([], "study: has no finished trial with a parameter"),
        (
            [{"a": (0, 1)}, {"a": (0, 1), "b": (0, 1)}],
            "b: is in 1 of 2 trials only: give its condition, when={'b': ...}",
        ),
        ([{"a": (0, 1)}, {"a": (0, 2)}], "a: was asked as FloatDistribution(high=1.0"),
        ([{"a b": (0, 1)}], "'a b': a parameter name is identifiers joined by dots"),
    ],
)
def test_a_study_that_tells_no_space_is_refused_with_the_reason(asks, says):
    current = study()
    for ranges in asks:
        trial = current.ask()
        for name, (low, high) in ranges.items():
            trial.suggest_float(name, low, high)
        current.tell(trial, 1.0)
    with pytest.raises(SpaceError) as caught:
        optuna_studies.space_of(current)
    assert says in str(caught.value)


def test_a_trial_that_failed_halfway_makes_no_parameter_conditional():
    current = study()
    whole, broken = current.ask(), current.ask()
    for trial, names in ((whole, "ab"), (broken, "a")):
        for name in names:
            trial.suggest_float(name, 0, 1)
    current.tell(whole, 1.0)
    current.tell(broken, state=optuna.trial.TrialState.FAIL)
    assert optuna_studies.space_of(current).names == ("a", "b")
