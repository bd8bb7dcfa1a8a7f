"""Every adapter draws from the very distribution that `sample` draws from."""

import contextlib
import math

import optuna
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from search_spaces import (
    Choice,
    Float,
    Int,
    SearchSpace,
    SymLog,
    When,
    ZeroOr,
    all_of,
    any_of,
    catalog,
    greater_than,
    less_than,
    not_equal,
)
from search_spaces.adapters.tune import SpaceSearcher

N = 5_000
optuna.logging.set_verbosity(optuna.logging.WARNING)
MIXED = SearchSpace(
    {
        "a": Float(0.0, 1.0, step=0.1),
        "b": Int(2, 20, step=3),
        "c": SymLog(-1.0, -1e-3, gap=1e-3),
        "d": Choice([16, 32, 64], ordered=True),
        "e": ZeroOr(Int(1, 100, log=True), probability=0.3),
        "f": Float(1e-4, 1.0, log=True),
        "g": Choice(["x", "y"]),
    },
    when={
        "d": any_of(When("a", less_than(0.25)), all_of(When("b", greater_than(7)), When("e", not_equal(0)))),
        "f": When("c", less_than(-0.05)),
        "g": When("d", 32),
    },
    constraints=["a * 10 <= b"],
)
SPACES = {"regularizers": catalog.snnl() | catalog.mixup() | catalog.adversarial(), "mixed": MIXED}


def suggested(space):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    found = []
    while len(found) < N:
        with contextlib.suppress(optuna.TrialPruned):
            found.append(space.suggest(study.ask()))
    return found


def searched(space):
    searcher = SpaceSearcher(space, seed=2)
    return [searcher.suggest(f"t{index}") for index in range(N)]


@pytest.fixture(scope="module", params=SPACES)
def space(request):
    return SPACES[request.param]


@pytest.mark.parametrize("draw", [suggested, searched], ids=["optuna", "tune"])
def test_each_parameter_is_drawn_alike(space, draw):
    reference, drawn = space.sample_many(N, seed=0), draw(space)
    for name, domain in space.parameters.items():
        ours = [point.get(name, "absent") for point in reference]
        theirs = [point.get(name, "absent") for point in drawn]
        assert alike(ours, theirs, domain) > 1e-4, name
        assert (ours.count("absent") > 0) == (theirs.count("absent") > 0) == (name in space.when)


def alike(ours, theirs, domain):
    """The p-value of both having one distribution: by kind of value first, then of the numbers of a range."""
    continuous = (domain.domain if isinstance(domain, ZeroOr) else domain).values() is None
    label = (
        (lambda value: "number" if continuous and value not in {0, "absent"} else value)
        if continuous
        else (lambda x: x)
    )
    kinds = sorted({label(value) for value in ours + theirs}, key=repr)
    table = [[sum(label(value) == kind for value in side) for kind in kinds] for side in (ours, theirs)]
    by_kind = chi2_contingency(table).pvalue if len(kinds) > 1 else 1.0
    if not continuous:
        return by_kind
    numbers = [[value for value in side if label(value) == "number"] for side in (ours, theirs)]
    return min(by_kind, ks_2samp(*numbers).pvalue)


def test_the_comparison_can_fail():
    ours = [point["mixup.alpha"] for point in catalog.mixup().sample_many(N, seed=0)]
    assert alike(ours, [min(value * 1.3, 4.0) for value in ours], ZeroOr(Float(0.1, 4.0, log=True))) < 1e-4
    assert math.isclose(alike(ours, ours, ZeroOr(Float(0.1, 4.0, log=True))), 1.0)
