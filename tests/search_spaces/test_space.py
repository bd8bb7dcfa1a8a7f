import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import (
    Choice,
    Fixed,
    Float,
    Int,
    SearchSpace,
    SpaceError,
    SymLog,
    When,
    ZeroOr,
    catalog,
    equals,
    greater_than,
    not_equal,
    one_of,
)

ANY_SPACE = st.from_type(SearchSpace)
SEEDS = st.integers(0, 2**32)


def full():
    return catalog.optimizer() | catalog.snnl() | catalog.mixup() | catalog.adversarial()


@given(ANY_SPACE, SEEDS)
def test_space_contains_what_it_samples(space, seed):
    assert space.problems(space.sample(seed)) == []


@given(ANY_SPACE, SEEDS)
def test_a_point_names_exactly_the_active_parameters(space, seed):
    point = space.sample(seed)
    assert space.active(point) == set(point)


@given(ANY_SPACE, SEEDS)
def test_any_change_of_names_leaves_the_space(space, seed):
    point = space.sample(seed)
    assert not space.contains({**point, "stranger": 1})
    assert all(not space.contains({k: v for k, v in point.items() if k != name}) for name in point)


def completed_name_by_name(space, values, defaults):
    """Fill the first missing active parameter until none is missing."""
    point = dict(values)
    while missing := [name for name in space.names if name in space.active(point) and name not in point]:
        domain, default = space.parameters[missing[0]], defaults.get(missing[0])
        point[missing[0]] = default if domain.contains(default) else domain.from_unit(0.5)
    active = space.active(point)
    return {name: point[name] for name in space.names if name in active}


@given(ANY_SPACE, SEEDS, st.data())
def test_completion_in_one_pass_equals_completion_name_by_name(space, seed, data):
    values = {name: domain.from_unit(0.25) for name, domain in space.parameters.items()} | space.sample(seed)
    given_names = data.draw(st.sets(st.sampled_from([*space.names, "stranger"])))
    values = {name: values.get(name, 1) for name in sorted(given_names)}
    defaults = data.draw(st.dictionaries(st.sampled_from(space.names), st.none() | st.just("x"))) | {
        name: space.parameters[name].from_unit(0.75) for name in data.draw(st.sets(st.sampled_from(space.names)))
    }
    point = space.complete(values, defaults)
    assert list(point.items()) == list(completed_name_by_name(space, values, defaults).items())
    assert set(point) == space.active(point)


@given(ANY_SPACE)
def test_parents_come_before_children(space):
    for child, condition in space.when.items():
        assert all(space.names.index(leaf.parent) < space.names.index(child) for leaf in condition.leaves())


@given(ANY_SPACE)
def test_order_of_definition_does_not_matter_for_equality(space):
    turned = SearchSpace(
        dict(reversed(space.parameters.items())), dict(reversed(space.when.items())), reversed(space.constraints)
    )
    assert turned == space
    assert hash(turned) == hash(space)
    assert turned.fingerprint() == space.fingerprint()
    assert turned.sample(3) == space.sample(3)


@given(ANY_SPACE)
def test_copies_and_pickles_are_equal(space):
    assert copy.deepcopy(space) == pickle.loads(pickle.dumps(space)) == space  # noqa: S301 - our own bytes


@given(ANY_SPACE)
def test_union_with_itself_changes_nothing(space):
    assert space | space == space


@given(ANY_SPACE, SEEDS)
def test_fixing_at_a_point_holds_it(space, seed):
    point = space.sample(seed)
    fixed = space.fix(point)
    assert fixed.sample(seed + 1) == point


@given(ANY_SPACE)
def test_space_is_immutable(space):
    with pytest.raises(AttributeError, match="immutable"):
        space.parameters = {}
    with pytest.raises(AttributeError, match="immutable"):
        del space.when
    with pytest.raises(TypeError):
        space.parameters["x"] = Fixed(1)


def test_child_of_an_inactive_parent_is_inactive():
    space = SearchSpace(
        {"a": Choice([0, 1]), "b": Choice([0, 1]), "c": Fixed("x")},
        when={"b": When("a", 1), "c": When("b", not_equal(1))},
    )
    assert space.active({"a": 0, "b": 0}) == {"a"}
    assert space.active({"a": 1, "b": 0}) == {"a", "b", "c"}


def test_all_conditions_of_a_parameter_must_hold():
    space = SearchSpace(
        {"a": Int(0, 9), "b": Choice(["x", "y"]), "c": Fixed(1)},
        when={"c": [When("a", greater_than(3)), When("a", not_equal(7)), When("b", one_of("x", "z"))]},
    )
    assert "c" in space.active({"a": 4, "b": "x"})
    for values in ({"a": 3, "b": "x"}, {"a": 7, "b": "x"}, {"a": 4, "b": "y"}):
        assert "c" not in space.active(values)


def test_bool_and_number_are_different_to_a_condition():
    assert not equals(1).holds(True)
    assert not not_equal(False).holds(False)
    assert not_equal(False).holds(0)
    assert one_of(0).holds(0.0)
    assert not greater_than(0).holds(True)
    assert equals(1) != equals(True)
    assert len({not_equal(1), not_equal(True), one_of(1), one_of(True)}) == 4


@pytest.mark.parametrize(
    ("build", "messages"),
    [
        (
            lambda: SearchSpace({"a": 0.1}),
            ["a: must be a domain such as Float(0.0, 1.0), got 0.1; use Fixed(0.1)"],
        ),
        (lambda: SearchSpace({"a..b": Fixed(1)}), ["'a..b': a parameter name is identifiers joined by dots"]),
        (
            lambda: SearchSpace({"a": Fixed(1), "a.b": Fixed(1)}),
            ["a.b: clashes with 'a', which holds a value"],
        ),
        (
            lambda: SearchSpace({"lr": Fixed(1)}, {"lrr": When("lr", 1), "lr": When("lrs", 1)}),
            [
                "lrr: has a condition but is not a parameter; did you mean 'lr'?",
                "lr: depends on 'lrs', which is not a parameter; did you mean 'lr'?",
            ],
        ),
        (
            lambda: SearchSpace({"a": Fixed(1), "b": Fixed(1)}, {"a": When("b", 1), "b": When("a", 1)}),
            ["a: depends on itself: a -> b -> a", "b: depends on itself: a -> b -> a"],
        ),
        (lambda: SearchSpace({"a": Fixed(1)}, {"a": When("a", 1)}), ["a: depends on itself: a -> a"]),
        (
            lambda: SearchSpace({"a": Fixed(1)}, {"a": ["b"]}),
            ["a: a condition must be a When(parent, predicate)"],
        ),
        (lambda: SearchSpace({"a": Fixed(1)}, {"a": 3}), ["a: a condition must be a When(parent, predicate), got 3"]),
        (
            lambda: SearchSpace({"a": Int(1, 2)}, constraints="a > 1"),
            ["constraints: must be a list, got 'a > 1'; write ['a > 1']"],
        ),
        (lambda: full().sample(seed="1"), ["sample.seed: must be an int, got '1'"]),
        (
            lambda: When("a", ["x", "y"]),
            ["When.predicate: must be one value or a predicate; write one_of('x', 'y')"],
        ),
        (lambda: When("a b", 1), ["'a b': a parameter name is identifiers joined by dots"]),
        (one_of, ["one_of: must name at least one value, got none"]),
        (lambda: greater_than("x"), ["greater_than: must be a finite number, got 'x'"]),
        (
            lambda: full().fix({"optimizer.lrr": 1}),
            ["optimizer.lrr: unknown parameter; did you mean 'optimizer.lr'?"],
        ),
        (
            lambda: full().fix({"optimizer.lr": 3.0, "optimizer.name": "adam"}),
            [
                "optimizer.lr: must be a float in [0.0001, 1], log, got 3.0",
                "optimizer.name: must be one of 'sgd', 'adamw', got 'adam'",
            ],
        ),
        (
            lambda: full().narrow({"optimizer.lr": (1e-5, 0.1)}),
            ["optimizer.lr: must be within a float in [0.0001, 1], log, got (1e-05, 0.1)"],
        ),
        (
            lambda: full().drop("mixup.alpha", "mixup.layer"),
            [
                "mixup.layer: unknown parameter; did you mean 'mixup.layers'?",
                "mixup.alpha: cannot be dropped: 'mixup.layers' depends on it",
                "mixup.alpha: cannot be dropped: 'mixup.per_sample' depends on it",
            ],
        ),
        (
            lambda: catalog.mixup() | SearchSpace({"mixup.alpha": Float(0.1, 1.0)}),
            [
                (
                    "mixup.alpha: is defined differently on both sides of |: "
                    "0 (probability 0.5) or a float in [0.1, 4], log; a float in [0.1, 1]"
                )
            ],
        ),
        (lambda: full().grid(0), ["grid.resolution: must be an int >= 1, got 0"]),
    ],
)
def test_every_problem_is_named_with_its_place(build, messages):
    with pytest.raises(SpaceError) as caught:
        build()
    lines = str(caught.value).splitlines()
    assert len(lines) == len(messages)
    assert all(line.startswith(message) for line, message in zip(lines, messages, strict=True))


def test_gate_of_a_zero_or_cannot_clash_with_a_parameter():
    with pytest.raises(SpaceError, match=r"a\.gate"):
        SearchSpace({"a": ZeroOr(Int(1, 2)), "a.gate": Float(0.0, 1.0)})


def test_problems_say_what_is_wrong_with_each_parameter():
    assert catalog.adversarial().problems(
        {
            "adversarial.epsilon": 0.1,
            "adversarial.attack": "fgsm_rs",
            "adversarial.norm": "linf",
            "adversarial.steps": 3,
            "adversarial.clean_fraction": 1.5,
            "adversarial.step": 2,
        }
    ) == [
        "adversarial.step: unknown parameter; did you mean 'adversarial.steps'?",
        (
            "adversarial.steps: is inactive, it exists only when adversarial.epsilon != 0 and "
            "adversarial.attack = 'pgd'; leave it out"
        ),
        "adversarial.relative_step: is missing; it must be a float in [0.1, 1.5], log",
        "adversarial.clean_fraction: must be a float in [0, 1], got 1.5",
    ]


@pytest.mark.parametrize(
    ("domain", "to", "expected"),
    [
        (Float(1e-4, 1.0, log=True), (1e-3, 1), Float(1e-3, 1.0, log=True)),
        (Int(1, 9), (2, 3), Int(2, 3)),
        (Float(0.0, 1.0), [0.1, 0.5], Choice([0.1, 0.5])),
        (Choice(["a", "b", "c"]), ["a", "c"], Choice(["a", "c"])),
        (Choice(["a", "b"]), Fixed("b"), Fixed("b")),
        (ZeroOr(Float(0.1, 4.0), 0.3), (0.2, 1.0), ZeroOr(Float(0.2, 1.0), 0.3)),
        (ZeroOr(SymLog(-1.0, 1.0, gap=1e-3), 0.3), (-0.3, 0.5), ZeroOr(SymLog(-0.3, 0.5, gap=1e-3), 0.3)),
        (ZeroOr(SymLog(-1.0, 1.0, gap=1e-3)), (0.01, 0.1), ZeroOr(SymLog(0.01, 0.1, gap=1e-3))),
        (SymLog(-1.0, 1.0, gap=1e-3), (-1.0, -0.01), SymLog(-1.0, -0.01, gap=1e-3)),
        (SymLog(-1.0, 1.0, gap=1e-3), Float(0.01, 0.1, log=True), Float(0.01, 0.1, log=True)),
        (Float(0.0, 1.0, step=0.1), (0.3, 0.7), Float(0.3, 0.7, step=0.1)),
        (Float(0.0, 1.0, step=0.1), Float(0.2, 0.8, step=0.2), Float(0.2, 0.8, step=0.2)),
        (Int(0, 20, step=2), (4, 10), Int(4, 10, step=2)),
        (Int(0, 20, step=2), [4, 8], Choice([4, 8])),
        (Choice([16, 32, 64, 128], ordered=True), (32, 64), Choice([32, 64], ordered=True)),
        (Choice([16, 32, 64, 128], ordered=True), [16, 64], Choice([16, 64], ordered=True)),
        (ZeroOr(Float(0.1, 4.0)), Choice([0, 0.1, 1.0]), Choice([0, 0.1, 1.0])),
        (ZeroOr(Float(0.1, 4.0)), Float(0.1, 1.0), Float(0.1, 1.0)),
        (Float(0.0, 9.0), Int(1, 9), Int(1, 9)),
        (Choice([1, 2]), Int(1, 2), Int(1, 2)),
        (Float(-1.0, 9.0), ZeroOr(Int(1, 9)), ZeroOr(Int(1, 9))),
    ],
)
def test_narrowing_gives_the_smaller_domain(domain, to, expected):
    assert SearchSpace({"x": domain}).narrow({"x": to}).parameters["x"] == expected


@pytest.mark.parametrize(
    ("domain", "to"),
    [
        (Float(0.0, 1.0), (0.0, 2.0)),
        (Float(0.0, 1.0), (0.5, 0.1)),
        (Float(0.0, 1.0), (0.1, 0.2, 0.3)),
        (Int(1, 9), (1.5, 3)),
        (Int(1, 9), Float(1.0, 9.0)),
        (Choice(["a", "b"]), ("a", "b")),
        (Choice(["a", "b"]), ["a", "d"]),
        (Choice(["a", "b"]), "a"),
        (Choice([1, 3]), Int(1, 3)),
        (SymLog(-1.0, 1.0, gap=0.1), Float(-1.0, 1.0)),
        (SymLog(-1.0, 1.0, gap=0.1), (-1.0, 0.05)),
        (Choice([1, 2, 3], ordered=True), (3, 1)),
        (Choice([1, 2, 3], ordered=True), (1, 4)),
        (Choice([1, 2, 3], ordered=True), [3, 1]),
        (Int(0, 8, step=2), (1, 5)),
        (Int(0, 8, step=4), Int(0, 8, step=2)),
        (Float(0.0, 1.0, step=0.1), (0.0, 0.5001)),
        (Float(0.0, 1.0, step=0.1), Float(0.0, 0.5)),
        (ZeroOr(Float(0.1, 4.0)), [0, 0.1]),
        (ZeroOr(Float(0.1, 4.0)), (0.0, 1.0)),
        (Float(0.1, 4.0), ZeroOr(Float(0.1, 4.0))),
    ],
)
def test_narrowing_refuses_what_is_not_within(domain, to):
    with pytest.raises(SpaceError, match=r"^x: "):
        SearchSpace({"x": domain}).narrow({"x": to})


def test_dropping_a_parent_with_its_children_leaves_the_rest():
    rest = full().drop(*catalog.snnl().names)
    assert rest == catalog.optimizer() | catalog.mixup() | catalog.adversarial()


def test_repr_has_one_line_per_parameter():
    assert repr(catalog.optimizer()).splitlines()[3] == (
        "  optimizer.momentum: a float in [0.5, 0.99] when optimizer.name = 'sgd'"
    )
