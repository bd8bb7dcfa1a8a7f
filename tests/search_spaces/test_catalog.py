import json
import re
from pathlib import Path

import pytest

from search_spaces import Choice, Constraint, Fixed, Float, Int, SearchSpace, SpaceError, SymLog, ZeroOr, catalog
from search_spaces.documents.fragments import FRAGMENTS
from trainables.config.trial import TrialConfig

METHODS = {
    **dict.fromkeys(["snnl", "entangle", "disentangle"], "snnl.weight"),
    **dict.fromkeys(["mixup", "input_mixup", "manifold_mixup"], "mixup.alpha"),
    **dict.fromkeys(["adversarial", "fgsm_rs", "n_fgsm", "pgd", "trades", "mart"], "adversarial.epsilon"),
    "awp": "adversarial.awp_gamma",
    "sam": "optimizer.sam_rho",
}
ALTERNATIVES = [
    ("sgd", "adamw"),
    ("optimizer", "sgd"),
    ("entangle", "disentangle"),
    ("mixup", "manifold_mixup"),
    ("fgsm_rs", "pgd"),
    ("pgd", "trades"),
    ("fgsm_rs", "n_fgsm"),
    ("trades", "mart"),
]
TRIALS = [name for name in catalog.FRAGMENTS if name != "gan"]  # its networks are none that a trial trains
GOLDEN = json.loads((Path(__file__).parent / "assets" / "catalog.json").read_text())


def test_fragments_are_those_of_the_golden_file_in_its_order():
    assert list(catalog.FRAGMENTS) == list(FRAGMENTS) == list(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_every_fragment_equals_its_golden_form(name):
    space = catalog.FRAGMENTS[name]()
    assert repr(space) == GOLDEN[name]["repr"]
    assert space.fingerprint() == GOLDEN[name]["fingerprint"]
    assert json.dumps(space.to_dict()) == json.dumps(GOLDEN[name]["document"])


@pytest.mark.parametrize("name", GOLDEN)
def test_every_fragment_equals_what_use_reads(name):
    space = SearchSpace.from_dict({"use": [name]})
    assert space == catalog.FRAGMENTS[name]() == SearchSpace.from_dict(GOLDEN[name]["document"])
    assert repr(space) == GOLDEN[name]["repr"]


@pytest.mark.parametrize("name", catalog.FRAGMENTS)
def test_every_parameter_lies_in_a_group_that_a_method_has(name):
    groups = {parameter.partition(".")[0] for parameter in catalog.FRAGMENTS[name]().names}
    assert groups <= {"optimizer", "snnl", "mixup", "adversarial", "gan", "model", "data"}
    assert len(groups) == (3 if name == "regularizers" else 1)


@pytest.mark.parametrize("name", catalog.FRAGMENTS)
def test_every_parameter_of_a_fragment_is_drawn_at_some_time(name):
    space = catalog.FRAGMENTS[name]()
    assert {parameter for point in space.sample_many(100) for parameter in point} == set(space.names)


@pytest.mark.parametrize("name", catalog.FRAGMENTS)
def test_function_of_the_catalog_makes_the_fragment(name):
    assert getattr(catalog, name)() == catalog.FRAGMENTS[name]()


@pytest.mark.parametrize("name", [name for name in catalog.FRAGMENTS if name != "regularizers"])
def test_documentation_of_a_fragment_names_its_parameters_and_gives_a_source(name):
    text = catalog.FRAGMENTS[name].__doc__
    assert all(f"`{parameter}`" in text for parameter in catalog.FRAGMENTS[name]().names)
    assert re.search(r"arXiv \d{4}\.\d{5}|et al\.|docs/results\.md", text)


@pytest.mark.parametrize("name", TRIALS)
def test_every_point_of_a_fragment_makes_a_trial(name):
    space = catalog.FRAGMENTS[name]()
    for point in [*space.corners(), *space.sample_many(200)]:
        assert TrialConfig.from_point(point).to_point().items() >= point.items()


@pytest.mark.parametrize(("name", "strength"), METHODS.items())
def test_method_is_off_at_strength_zero_and_then_has_no_other_parameter(name, strength):
    space = catalog.FRAGMENTS[name]()
    assert space.active({strength: 0.0}) == space.active({strength: 0}) == {strength}
    assert strength not in space.when
    assert space.parameters[strength].probability == 0.5


@pytest.mark.parametrize("names", ALTERNATIVES)
def test_alternatives_do_not_merge_and_the_error_names_both_sides(names):
    one, other = (catalog.FRAGMENTS[name]() for name in names)
    with pytest.raises(SpaceError, match=r"is defined differently on both sides of \|: .+; .+"):
        one | other


def test_one_fragment_of_each_kind_merges():
    space = catalog.sgd() | catalog.entangle() | catalog.manifold_mixup() | catalog.pgd() | catalog.gan()
    assert space.constraints == (Constraint("adversarial.relative_step * adversarial.steps >= 1"),)


def test_dropout_and_rand_augment_can_be_off_and_merge_with_all_methods():
    space = catalog.sgd() | catalog.regularizers() | catalog.dropout() | catalog.rand_augment()
    assert space.active({"model.dropout": 0.0, "data.policy": "none"}) >= {"model.dropout", "data.policy"}
    assert not space.active({"data.policy": "none"}) & {"data.policy_ops", "data.policy_magnitude"}
    assert space.parameters["model.dropout"] == ZeroOr(Float(0.05, 0.7))


def test_regularizers_are_the_three_methods():
    assert catalog.regularizers() == catalog.snnl() | catalog.mixup() | catalog.adversarial()
    assert catalog.regularizers().contains({"snnl.weight": 0.0, "mixup.alpha": 0.0, "adversarial.epsilon": 0.0})


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
    ("name", "domains"),
    [
        (
            "sgd",
            {
                "optimizer.name": Fixed("sgd"),
                "optimizer.lr": Float(1e-3, 1.0, log=True),
                "optimizer.momentum": Float(0.8, 0.99),
                "optimizer.nesterov": Choice([False, True]),
                "optimizer.weight_decay": Float(1e-5, 5e-3, log=True),
                "optimizer.schedule": Choice(["cosine", "step", "one_cycle"]),
            },
        ),
        (
            "adamw",
            {
                "optimizer.name": Fixed("adamw"),
                "optimizer.lr": Float(1e-5, 1e-2, log=True),
                "optimizer.weight_decay": Float(1e-4, 0.3, log=True),
                "optimizer.schedule": Choice(["cosine", "one_cycle", "constant"]),
            },
        ),
        ("entangle", {"snnl.weight": ZeroOr(SymLog(-0.3, -1e-3, gap=1e-3))}),
        ("disentangle", {"snnl.weight": ZeroOr(Float(1e-2, 10.0, log=True))}),
        ("input_mixup", {"mixup.alpha": ZeroOr(Float(0.1, 4.0, log=True)), "mixup.kind": Choice(["mixup", "cutmix"])}),
        (
            "manifold_mixup",
            {"mixup.alpha": ZeroOr(Float(0.2, 8.0, log=True)), "mixup.layers": Choice(["input+hidden", "hidden"])},
        ),
        (
            "fgsm_rs",
            {"adversarial.relative_step": Float(0.5, 1.25), "adversarial.clean_fraction": Float(0.0, 0.5)},
        ),
        (
            "pgd",
            {"adversarial.steps": Int(2, 40, log=True), "adversarial.relative_step": Float(0.03, 1.0, log=True)},
        ),
        ("trades", {"adversarial.trades_beta": Float(0.5, 12.0, log=True)}),
        ("n_fgsm", {"adversarial.noise_k": Float(0.5, 4.0, log=True), "adversarial.relative_step": Float(0.5, 1.5)}),
        ("mart", {"adversarial.mart_lambda": Float(0.5, 12.0, log=True)}),
        ("awp", {"adversarial.awp_gamma": ZeroOr(Float(1e-3, 3e-2, log=True))}),
        ("sam", {"optimizer.sam_rho": ZeroOr(Float(0.01, 0.5, log=True))}),
    ],
)
def test_ranges_of_the_alternatives_are_the_reviewed_ones(name, domains):
    assert catalog.FRAGMENTS[name]().parameters.items() >= domains.items()


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
