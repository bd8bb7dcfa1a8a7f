import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Experiment
from ray.tune.search import BasicVariantGenerator, SearchGenerator
from ray.tune.search.variant_generator import generate_variants

from search_spaces import Choice, Fixed, Float, Int, SearchSpace, SpaceError, SymLog, When, ZeroOr, catalog, not_equal
from search_spaces.adapters.tune import Dependent, SpaceSearcher

ANY_SPACE = st.from_type(SearchSpace)
SEEDS = st.integers(0, 2**31)
CATALOG = catalog.optimizer() | catalog.snnl() | catalog.mixup() | catalog.adversarial()


def configs(param_space, n, seed):
    """Draw as random search does: one random state for the whole sweep."""
    state = np.random.default_rng(seed)
    return [
        spec["config"]
        for _ in range(n)
        for _, spec in generate_variants({"config": param_space, "run": "x"}, random_state=state)
    ]


def idle(config):
    raise AssertionError(config)  # trials are made here, never run


def point_of(space, config):
    return {name: config[name] for name in space.active(config)}


@settings(max_examples=30)
@given(ANY_SPACE.map(lambda space: SearchSpace(space.parameters, space.when)), SEEDS)
def test_every_config_is_a_point_of_the_space_with_none_for_the_inactive(space, seed):
    for config in configs(space.to_tune(), 3, seed):
        assert set(config) == set(space.names)
        point = point_of(space, config)
        assert space.problems(point) == []
        assert all(config[name] is None for name in config if name not in point)


def test_catalog_configs_are_points_of_the_catalog():
    drawn = configs(CATALOG.to_tune(), 100, seed=0)
    assert all(CATALOG.problems(point_of(CATALOG, config)) == [] for config in drawn)
    assert {frozenset(point_of(CATALOG, c)) for c in drawn} > {frozenset(point_of(CATALOG, drawn[0]))}


def test_values_are_plain_python_scalars():
    types = {type(value) for config in configs(CATALOG.to_tune(), 30, seed=1) for value in config.values()}
    assert types == {type(None), bool, int, float, str}


@given(SEEDS)
@settings(max_examples=20)
def test_seeded_search_repeats_itself(seed):
    assert configs(CATALOG.to_tune(), 3, seed) == configs(CATALOG.to_tune(), 3, seed)


def test_parents_are_awaited_whatever_the_order_of_the_keys():
    backwards = dict(reversed(CATALOG.to_tune().items()))
    for config in configs(backwards, 30, seed=2):
        assert CATALOG.problems(point_of(CATALOG, config)) == []


def test_basic_variant_generator_makes_trials_with_flat_dotted_names():
    search = BasicVariantGenerator(random_state=3)
    search.add_configurations([Experiment("x", idle, config=CATALOG.to_tune(), num_samples=5)])
    made = [search.next_trial() for _ in range(5)]
    assert not ray.is_initialized()
    assert all(set(trial.config) == set(CATALOG.names) for trial in made)
    assert all(CATALOG.problems(point_of(CATALOG, trial.config)) == [] for trial in made)


def test_preset_point_is_taken_as_it_is():
    preset = dict.fromkeys(catalog.mixup().names) | {"mixup.alpha": 0.0}
    search = BasicVariantGenerator(points_to_evaluate=[preset])
    search.add_configurations([Experiment("x", idle, config=catalog.mixup().to_tune(), num_samples=1)])
    assert search.next_trial().config == preset


def test_none_as_a_value_of_a_parent_is_not_an_inactive_parent():
    space = SearchSpace(
        {"a": Choice([0, 1]), "b": Choice([None, 2]), "c": Fixed("x")},
        when={"b": When("a", 1), "c": When("b", None)},
    )
    for config in configs(space.to_tune(), 50, seed=4):
        assert config["c"] == ("x" if config["a"] == 1 and config["b"] is None else None)


def test_zero_or_is_off_with_its_probability():
    drawn = configs(SearchSpace({"x": ZeroOr(SymLog(-1.0, 1.0, gap=0.1), 0.25)}).to_tune(), 400, seed=5)
    assert sum(config["x"] == 0 for config in drawn) == pytest.approx(100, abs=30)


def test_bounds_of_ints_are_both_drawn():
    space = SearchSpace({"a": Int(1, 3), "b": Int(1, 3, log=True)})
    drawn = configs(space.to_tune(), 60, seed=6)
    assert {config["a"] for config in drawn} == {config["b"] for config in drawn} == {1, 2, 3}


def test_unconditional_ranges_and_choices_are_domains_of_tune_itself():
    tuned = SearchSpace({"a": Float(0.1, 1.0, log=True), "b": Int(1, 3), "c": Choice([1]), "d": Fixed(2)}).to_tune()
    assert not any(isinstance(domain, Dependent) for domain in tuned.values())
    assert tuned["d"] == 2


def test_param_space_can_be_copied_and_pickled():
    tuned = CATALOG.to_tune()
    for again in (copy.deepcopy(tuned), pickle.loads(pickle.dumps(tuned))):  # noqa: S301 - our own bytes
        assert configs(again, 2, seed=7) == configs(tuned, 2, seed=7)


def test_names_of_dict_methods_can_be_parents():
    space = SearchSpace({"items": Choice([0, 1]), "config": Fixed(1)}, when={"config": When("items", not_equal(0))})
    for config in configs(space.to_tune(), 20, seed=8):
        assert config["config"] == (1 if config["items"] else None)


def test_missing_ray_names_the_extra():
    code = "import sys; sys.modules['ray'] = None; from search_spaces import catalog; catalog.mixup().to_tune()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError: ray is not installed: pip install 'ravel-sweeps[tune]'" in ran.stderr


def constrained():
    children = {"a": Int(1, 9), "b": Int(1, 9), "name": Choice(["x", "y"])}
    return CATALOG | SearchSpace(children, when={"b": When("name", "x")}, constraints=["a < b"])


def test_a_constrained_space_is_refused_with_the_searcher_that_takes_it():
    with pytest.raises(SpaceError, match=r"constraint 'a < b': Tune draws each parameter alone.*SpaceSearcher"):
        constrained().to_tune()


def test_a_searcher_proposes_the_samples_of_the_space_with_the_inactive_ones_absent():
    space = constrained()
    searcher = SpaceSearcher(space, seed=3)
    assert [searcher.suggest(f"t{index}") for index in range(20)] == space.sample_many(20, seed=3)


def test_a_copied_or_restored_searcher_goes_on_with_the_next_point(tmp_path):
    space = constrained()
    first = SpaceSearcher(space, seed=3)
    for index in range(5):
        first.suggest(f"t{index}")
    first.save(str(tmp_path / "state"))
    restored = SpaceSearcher(space, seed=3)
    restored.restore(str(tmp_path / "state"))
    copied = pickle.loads(pickle.dumps(first))  # noqa: S301 - our own bytes
    assert restored.suggest("t5") == copied.suggest("t5") == space.sample_many(6, seed=3)[5]


def test_a_searcher_is_not_restored_from_another_space(tmp_path):
    SpaceSearcher(constrained(), seed=3).save(str(tmp_path / "state"))
    for other in (SpaceSearcher(CATALOG, seed=3), SpaceSearcher(constrained(), seed=4)):
        with pytest.raises(SpaceError, match="is of another space or seed"):
            other.restore(str(tmp_path / "state"))


def test_tune_asks_the_searcher_for_each_trial():
    generator = SearchGenerator(SpaceSearcher(constrained(), seed=3))
    generator.add_configurations([Experiment("x", idle, num_samples=3)])
    made = [generator.next_trial().config for _ in range(3)]
    assert made == constrained().sample_many(3, seed=3)
