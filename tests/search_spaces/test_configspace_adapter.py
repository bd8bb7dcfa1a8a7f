"""Spaces in ConfigSpace: the same points, drawn alike, there and back."""

import builtins

import ConfigSpace
import pytest
from configspace_adapter import from_configspace, point_of, to_configspace
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, ks_2samp

from search_spaces import (
    Choice,
    Fixed,
    Float,
    InfeasibleError,
    Int,
    SearchSpace,
    SpaceError,
    SymLog,
    When,
    ZeroOr,
    all_of,
    any_of,
    catalog,
    greater_than,
    less_than,
    not_equal,
    one_of,
)

FREE_SPACE = st.from_type(SearchSpace).map(lambda space: SearchSpace(space.parameters, space.when))
SEEDS = st.integers(0, 2**31)
REGULARIZERS = catalog.snnl() | catalog.mixup() | catalog.adversarial()
MIXED = SearchSpace(
    {
        "a": Float(0.0, 1.0, step=0.1),
        "b": Int(2, 20, step=3),
        "c": SymLog(-1.0, 1e-1, gap=1e-3),
        "d": Choice([16, 32, 64], ordered=True),
        "e": ZeroOr(Int(1, 8, log=True), probability=0.3),
        "f": Float(1e-4, 1.0, log=True),
        "g": Choice([1, True, None]),
        "h": Int(-3, 12),
        "i": ZeroOr(SymLog(-1.0, -1e-3, gap=1e-3)),
        "j": Fixed("x"),
        "k": Float(-2.0, 3.0),
    },
    when={
        "d": any_of(When("a", less_than(0.25)), all_of(When("b", greater_than(7)), When("e", not_equal(0)))),
        "f": When("c", less_than(-0.05)),
        "g": When("d", one_of(32, 64)),
        "h": any_of(When("e", greater_than(2)), When("g", None)),
        "i": all_of(When("e", less_than(3)), When("c", greater_than(-0.5))),
        "j": any_of(When("i", greater_than(-0.1)), When("h", not_equal(4))),
        "k": When("e", not_equal(0)),
    },
    constraints=["k < f"],
)
CATALOG = catalog.optimizer() | REGULARIZERS
SPACES = {"regularizers": REGULARIZERS, "mixed": MIXED}


def points(space, n, seed):
    source = to_configspace(space, seed=seed)
    return [point_of(space, configuration) for configuration in source.sample_configuration(n)]


def sayable(space):
    """Whether ConfigSpace, which keeps 13 decimals, can hold the bounds."""
    try:
        to_configspace(space)
    except SpaceError as error:
        if "too few for" not in str(error):
            raise
        return False
    return len(space.names) > 0


ANY_SPACE = FREE_SPACE.filter(sayable)


@given(ANY_SPACE, SEEDS)
def test_every_configuration_is_a_point_of_the_space_and_legal_in_its_own(space, seed):
    for configuration in to_configspace(space, seed=seed).sample_configuration(5):
        configuration.check_valid_configuration()
        assert space.problems(point_of(space, configuration)) == []


@settings(max_examples=40)
@given(ANY_SPACE, SEEDS)
def test_a_space_comes_back_with_the_same_samples(space, seed):
    assert alike_written(from_configspace(to_configspace(space)), space, seed)


@given(SEEDS)
@settings(max_examples=5)
def test_constraints_come_back_with_the_same_samples(seed):
    for space in SPACES.values():
        assert alike_written(from_configspace(to_configspace(space)), space, seed)


@given(ANY_SPACE, SEEDS)
@settings(max_examples=20)
def test_a_space_survives_the_file_of_configspace(tmp_path_factory, space, seed):
    path = tmp_path_factory.mktemp("space") / "space.json"
    to_configspace(space).to_json(path)
    assert alike_written(from_configspace(ConfigSpace.ConfigurationSpace.from_json(path)), space, seed)


def alike_written(left, right, seed):
    """Whether both draw the same, types included; the order of the names does not count."""
    drawn = ([sorted(map(repr, point.items())) for point in space.sample_many(10, seed)] for space in (left, right))
    return next(drawn) == next(drawn)


def test_catalog_comes_back_with_every_domain_and_the_conditions_it_was_written_with():
    again = from_configspace(to_configspace(CATALOG))
    assert again.parameters == CATALOG.parameters
    assert again.describe("optimizer.momentum") == CATALOG.describe("optimizer.momentum")
    assert again.describe("mixup.layers") == CATALOG.describe("mixup.layers")


@pytest.mark.parametrize(
    ("constraint", "forbidden", "back"),
    [
        ("a < b", ["Forbidden: a >= b"], ["a < b"]),
        ("b >= a", ["Forbidden: b < a"], ["b >= a"]),
        ("a != b", ["Forbidden: a == b"], ["a != b"]),
        ("a == b", ["Forbidden: a < b", "Forbidden: a > b"], ["a >= b", "a <= b"]),
    ],
)
def test_a_relation_of_two_parameters_is_forbidden_otherwise(constraint, forbidden, back):
    space = SearchSpace({"a": Int(1, 6), "b": Choice([2, 4, 9])}, constraints=[constraint])
    source = to_configspace(space)
    assert [str(clause) for clause in source.forbidden_clauses] == forbidden
    assert [each.text for each in from_configspace(source).constraints] == back
    assert {str(point) for point in points(space, 300, seed=0)} == {str(point) for point in space.grid(resolution=6)}


@pytest.mark.parametrize(
    "constraint",
    ["a + b < 1", "a < 0.5", "a < b < c", "a < d", "a < e", "min(a, b) < c", "a < b and b < c", "f < g", "2 * a < b"],
)
def test_a_constraint_that_is_no_plain_relation_is_refused(constraint):
    floats = {name: Float(0.0, 1.0) for name in "abc"}
    others = {"d": ZeroOr(Float(0.1, 1.0)), "e": SymLog(-1.0, 1.0, gap=0.1), "f": Choice(["x", 1]), "g": Choice([2, 3])}
    with pytest.raises(SpaceError, match=r"^constraint .*: ConfigSpace knows only relations of two parameters"):
        to_configspace(SearchSpace({**floats, **others}, constraints=[constraint]))


def test_everything_that_configspace_cannot_say_is_told_at_once():
    space = SearchSpace({"a": Float(1e-18, 1e-15), "b": Float(0.0, 1.0, step=1e-6)}, constraints=["a * b < 1"])
    with pytest.raises(SpaceError) as caught:
        to_configspace(space)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["constraint 'a * b < 1'", "a", "b"]


def test_a_condition_of_too_many_alternatives_is_refused():
    names = [f"p{index}" for index in range(40)]
    either = [
        any_of(*(When(name, each) for name in names[start : start + 4])) for start in range(0, 40, 4) for each in (1,)
    ]
    space = SearchSpace({**dict.fromkeys(names, Choice([0, 1])), "z": Fixed(1)}, when={"z": all_of(*either)})
    with pytest.raises(SpaceError, match="alternatives, at most 4,096 are possible"):
        to_configspace(space)


def test_what_breaks_every_point_is_infeasible_there_too():
    with pytest.raises(InfeasibleError):
        to_configspace(SearchSpace({"a": Float(0.0, 1.0), "b": Float(2.0, 3.0)}, constraints=["a > b"]))


TWO = {"a": Choice([0, 1]), "b": Choice([0, 1])}
DEEP = {**TWO, "c": Choice([0, 1]), "d": Choice([0, 1]), "x": Fixed(1), "y": Fixed(1)}
A, B = When("a", 1), When("b", 1)


@pytest.mark.parametrize(
    "when",
    [
        {"x": A & B, "y": A | B},
        {"y": A & B, "x": A | B},
        {"c": A, "d": When("c", 1), "x": B & When("d", 1)},
        {"c": A, "x": When("c", not_equal(0)), "y": When("c", not_equal(5))},
        {"c": A, "x": When("c", 1) | B, "y": When("x", 1)},
        {"x": When("a", 2), "y": When("x", 1) | B},
    ],
    ids=["and beside or", "or beside and", "a deep parent", "different from what is absent", "reunited", "never"],
)
def test_conditions_hold_where_configspace_is_known_to_err(when):
    space = SearchSpace(DEEP, when=when)
    drawn = {str(sorted(point.items())) for point in points(space, 500, seed=0)}
    assert drawn == {str(sorted(point.items())) for point in space.grid(resolution=2)}


def test_the_seed_decides_the_configurations():
    first, second, other = (points(REGULARIZERS, 5, seed) for seed in (3, 3, 4))
    assert first == second != other


def test_a_configuration_given_by_its_values_is_a_point_too():
    space = SearchSpace({"lr": Float(1e-4, 1.0, log=True), "w": ZeroOr(SymLog(-1.0, 1.0, gap=0.1)), "n": Int(1, 9)})
    source = to_configspace(space)
    given = ConfigSpace.Configuration(source, values={"lr": 0.01, "w.gate": "on", "w": 0.0, "n": 3})
    assert point_of(space, given) == {"lr": pytest.approx(0.01), "w": 0.1, "n": 3}


def test_a_configuration_of_another_space_is_refused():
    other = to_configspace(SearchSpace({"lr": Float(0.0, 1.0), "n": Int(1, 9)})).sample_configuration()
    with pytest.raises(SpaceError, match=r"^n: is in the configuration, but in no such point of the space$"):
        point_of(SearchSpace({"lr": Float(0.0, 1.0)}), other)
    with pytest.raises(SpaceError, match=r"^m: is missing from the configuration$"):
        point_of(SearchSpace({"lr": Float(0.0, 1.0), "m": Int(1, 9)}), other)


def foreign():
    source = ConfigSpace.ConfigurationSpace(
        {
            "classifier": ["svm", "forest"],
            "svm:C": (0.1, 10.0),
            "depth": ConfigSpace.OrdinalHyperparameter("depth", ["low", "middle", "high"]),
            "trees": (10, 100),
            "kind": ConfigSpace.Constant("kind", "x"),
        }
    )
    source.add(ConfigSpace.EqualsCondition(source["svm:C"], source["classifier"], "svm"))
    forest = ConfigSpace.NotEqualsCondition(source["depth"], source["classifier"], "svm")
    source.add(
        ConfigSpace.AndConjunction(forest, ConfigSpace.GreaterThanCondition(source["depth"], source["trees"], 20))
    )
    source.add(ConfigSpace.LessThanCondition(source["kind"], source["depth"], "high"))
    return source


def test_a_space_of_another_author_is_read():
    assert from_configspace(foreign(), rename={"svm:C": "svm.C"}) == SearchSpace(
        {
            "classifier": Choice(["svm", "forest"]),
            "svm.C": Float(0.1, 10.0),
            "depth": Choice(["low", "middle", "high"], ordered=True),
            "trees": Int(10, 100),
            "kind": Fixed("x"),
        },
        when={
            "svm.C": When("classifier", "svm"),
            "depth": When("classifier", "forest") & When("trees", greater_than(20)),
            "kind": When("depth", one_of("low", "middle")),
        },
    )


def test_what_is_forbidden_becomes_constraints():
    source = ConfigSpace.ConfigurationSpace({"a": ["x", "y", "z"], "b": (0.0, 1.0), "c": (1, 9)})
    both = ConfigSpace.ForbiddenAndConjunction(
        ConfigSpace.ForbiddenInClause(source["a"], ["x", "y"]),
        ConfigSpace.ForbiddenGreaterThanClause(source["b"], 0.75),
    )
    source.add(
        [both, ConfigSpace.ForbiddenEqualsClause(source["c"], 6), ConfigSpace.ForbiddenLessThanClause(source["c"], 3)]
    )
    assert {each.text for each in from_configspace(source).constraints} == {
        "not (a in ('x', 'y') and b > 0.75)",
        "not c in (6,)",
        "not c < 3",
    }


def test_a_gate_of_another_author_that_switches_more_than_its_name_says_is_not_taken_for_one():
    source = ConfigSpace.ConfigurationSpace({"x.gate": ["off", "on"], "x": (1.0, 2.0), "y": [0, 1]})
    source.add(ConfigSpace.EqualsCondition(source["x"], source["y"], 1))
    with pytest.raises(SpaceError, match=r"x\.gate: clashes with 'x'"):
        from_configspace(source)


@pytest.mark.parametrize(
    ("stranger", "says"),
    [
        (
            ConfigSpace.NormalFloatHyperparameter("x", 0.0, 1.0, -3.0, 3.0),
            "no domain has the distribution of this NormalFloatHyperparameter",
        ),
        (
            ConfigSpace.UniformIntegerHyperparameter("x", 1, 64, log=True),
            "no domain has the distribution of this log integer",
        ),
        (ConfigSpace.CategoricalHyperparameter("x", [1, 2], weights=[1, 3]), "categorical with unequal weights"),
        (
            ConfigSpace.CategoricalHyperparameter("x", [(1, 2), (3, 4)]),
            "options must be None, a bool, an int, a float or a str",
        ),
        (ConfigSpace.UniformFloatHyperparameter("a-b", 0.0, 1.0), "a parameter name is identifiers joined by dots"),
    ],
)
def test_a_hyperparameter_that_has_no_counterpart_is_refused(stranger, says):
    with pytest.raises(SpaceError) as caught:
        from_configspace(ConfigSpace.ConfigurationSpace(space=[stranger]))
    assert stranger.name in str(caught.value)
    assert says in str(caught.value)


def test_the_caller_says_what_is_meant_where_no_domain_draws_alike():
    source = ConfigSpace.ConfigurationSpace(
        space=[ConfigSpace.UniformIntegerHyperparameter("x", 1, 64, log=True), ConfigSpace.Constant("y", 1)]
    )
    source.add(ConfigSpace.GreaterThanCondition(source["y"], source["x"], 8))
    meant = Int(1, 64, log=True)
    assert from_configspace(source, domains={"x": meant}) == SearchSpace(
        {"x": meant, "y": Fixed(1)}, when={"y": When("x", greater_than(8))}
    )


def test_what_is_meant_may_have_other_values_than_what_stands_there():
    source = ConfigSpace.ConfigurationSpace(
        space=[ConfigSpace.CategoricalHyperparameter("x", [1, 2], weights=[1, 3]), ConfigSpace.Constant("y", 1)]
    )
    source.add(ConfigSpace.EqualsCondition(source["y"], source["x"], 2))
    meant = Choice([1, 2, 3])
    assert from_configspace(source, domains={"x": meant}).when == {"y": When("x", 2)}


def test_a_name_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(SpaceError, match=r"^svm:c: is not a hyperparameter of the source; did you mean 'svm:C'"):
        from_configspace(foreign(), rename={"svm:c": "svm.C"})


def test_a_missing_configspace_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "ConfigSpace":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"^ConfigSpace is not installed: pip install ConfigSpace$"):
        to_configspace(REGULARIZERS)


@pytest.mark.parametrize("name", SPACES)
def test_each_parameter_is_drawn_as_we_draw_it(name):
    space, n = SPACES[name], 5_000
    ours, theirs = space.sample_many(n, seed=0), points(space, n, seed=1)
    for parameter, domain in space.parameters.items():
        assert alike(domain, *([point.get(parameter) for point in side] for side in (ours, theirs))) > 1e-3, parameter


def alike(domain, ours, theirs):
    inner = domain.domain if isinstance(domain, ZeroOr) else domain
    continuous = inner.values() is None

    def kind(value):
        return "number" if continuous and value not in {0, None} else repr(value)

    kinds = sorted({kind(value) for value in ours + theirs})
    counts = [[sum(kind(value) == each for value in side) for each in kinds] for side in (ours, theirs)]
    p = chi2_contingency(counts).pvalue if len(kinds) > 1 else 1.0
    numbers = [[value for value in side if kind(value) == "number"] for side in (ours, theirs)]
    return min(p, ks_2samp(*numbers).pvalue) if continuous else p
