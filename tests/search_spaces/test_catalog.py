import pytest

from search_spaces import Choice, Fixed, Float, Int, SearchSpace, SymLog, ZeroOr, catalog

METHODS = {"snnl": "snnl.weight", "mixup": "mixup.alpha", "adversarial": "adversarial.epsilon"}


@pytest.mark.parametrize("name", catalog.FRAGMENTS)
def test_fragment_names_its_parameters_after_itself(name):
    assert all(parameter.startswith(f"{name}.") for parameter in catalog.FRAGMENTS[name]().names)


@pytest.mark.parametrize("name", catalog.FRAGMENTS)
def test_every_parameter_of_a_fragment_is_drawn_at_some_time(name):
    space = catalog.FRAGMENTS[name]()
    assert {parameter for point in space.sample_many(100) for parameter in point} == set(space.names)


@pytest.mark.parametrize("name", catalog.FRAGMENTS)
def test_function_of_the_catalog_makes_the_fragment(name):
    assert getattr(catalog, name)() == catalog.FRAGMENTS[name]()


@pytest.mark.parametrize(("name", "strength"), METHODS.items())
def test_method_is_off_at_strength_zero_and_then_has_no_other_parameter(name, strength):
    space = catalog.FRAGMENTS[name]()
    assert space.active({strength: 0.0}) == space.active({strength: 0}) == {strength}
    assert strength not in space.when
    assert space.parameters[strength].probability == 0.5


def test_fragments_do_not_overlap():
    union = SearchSpace({})
    for make in catalog.FRAGMENTS.values():
        union |= make()
    assert len(union.names) == sum(len(make().names) for make in catalog.FRAGMENTS.values())


def test_registry_is_read_only():
    with pytest.raises(TypeError):
        catalog.FRAGMENTS["mine"] = catalog.mixup


def test_domains_are_the_reviewed_ones():
    space = catalog.optimizer() | catalog.snnl() | catalog.mixup() | catalog.adversarial()
    assert dict(space.parameters) == {
        "optimizer.name": Choice(["sgd", "adamw"]),
        "optimizer.lr": Float(1e-4, 1.0, log=True),
        "optimizer.momentum": Float(0.5, 0.99),
        "optimizer.weight_decay": Float(1e-5, 1e-2, log=True),
        "optimizer.schedule": Choice(["cosine", "constant"]),
        "snnl.weight": ZeroOr(SymLog(-1.0, 1.0, gap=1e-3)),
        "snnl.temperature_mode": Choice(["minimised", "relative"]),
        "snnl.temperature": Float(0.05, 20.0, log=True),
        "snnl.layers": Choice(["hidden"]),
        "snnl.distance": Choice(["sqeuclidean", "cosine"]),
        "mixup.alpha": ZeroOr(Float(0.1, 4.0, log=True)),
        "mixup.layers": Choice(["input", "hidden", "input+hidden"]),
        "mixup.per_sample": Choice([False, True]),
        "adversarial.epsilon": ZeroOr(Float(0.01, 0.3, log=True)),
        "adversarial.norm": Fixed("linf"),
        "adversarial.attack": Choice(["fgsm_rs", "pgd"]),
        "adversarial.steps": Int(2, 10),
        "adversarial.relative_step": Float(0.1, 1.5, log=True),
        "adversarial.clean_fraction": Float(0.0, 1.0),
    }


@pytest.mark.parametrize(
    ("values", "present", "absent"),
    [
        ({"snnl.weight": -0.1, "snnl.temperature_mode": "minimised"}, "snnl.distance", "snnl.temperature"),
        ({"snnl.weight": -0.1, "snnl.temperature_mode": "relative"}, "snnl.temperature", "mixup.layers"),
        ({"adversarial.epsilon": 0.1, "adversarial.attack": "fgsm_rs"}, "adversarial.norm", "adversarial.steps"),
        ({"adversarial.epsilon": 0.1, "adversarial.attack": "pgd"}, "adversarial.steps", "snnl.layers"),
        ({"optimizer.name": "adamw"}, "optimizer.lr", "optimizer.momentum"),
        ({"optimizer.name": "sgd"}, "optimizer.momentum", "mixup.per_sample"),
    ],
)
def test_conditional_parameters_exist_only_with_their_parents(values, present, absent):
    space = catalog.optimizer() | catalog.snnl() | catalog.mixup() | catalog.adversarial()
    active = space.active({"snnl.weight": 0, "mixup.alpha": 0, "adversarial.epsilon": 0} | values)
    assert present in active
    assert absent not in active
