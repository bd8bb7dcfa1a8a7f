"""A network pair's description: the names of the catalog, strict, and the same as a flat point."""

import json
import subprocess
import sys

import numpy as np
import pytest

from search_spaces.catalog import gan
from trainables.errors import ConfigError
from trainables.tasks.gan import GanConfig

GROUPS = {
    "data": (
        "name root download cache image_size fraction part crop_padding flip rotation shear zoom "
        "policy policy_ops policy_magnitude erasing"
    ),
    "gan": (
        "generator_lr discriminator_lr beta_1 latent_dim generator_width discriminator_width generator_snnl "
        "discriminator_snnl snnl_features snnl_distance snnl_penalty classifier"
    ),
    "evaluation": "images distance mode_images mode_share feature_space",
}
DOCUMENTED_NAMES = {
    *("batch_size", "epochs", "seed", "device"),
    *(f"{group}.{name}" for group, names in GROUPS.items() for name in names.split()),
}


def problems_of(point):
    with pytest.raises(ConfigError) as caught:
        GanConfig.from_point(point)
    return [str(problem) for problem in caught.value.problems]


def test_the_parameter_names_are_the_documented_ones():
    assert set(GanConfig.parameter_names()) == DOCUMENTED_NAMES


def test_every_point_of_the_catalogs_space_is_a_trial_and_comes_back():
    for point in gan().sample_many(100):
        config = GanConfig.from_point(point)
        assert {name: config.to_point()[name] for name in point} == point
        assert GanConfig.from_point(json.loads(json.dumps(config.to_point()))) == config
        assert GanConfig.model_validate_json(config.model_dump_json()) == config


def test_none_counts_as_absent_and_the_loss_is_off_by_default():
    config = GanConfig.from_point(dict.fromkeys(GanConfig.parameter_names()))
    assert config == GanConfig()
    assert (config.gan.generator_snnl, config.gan.discriminator_snnl) == (0, 0)


def test_settings_that_came_later_are_absent_where_they_are_not_set():
    saved = json.loads(GanConfig().model_dump_json())
    assert "snnl_penalty" not in saved["gan"]
    assert "feature_space" not in saved["evaluation"]
    config = GanConfig.from_point({"gan.snnl_penalty": "class_mean", "evaluation.feature_space": "classifier"})
    assert GanConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gan.snnl_penalty", "class_means"),
        ("evaluation.feature_space", "discriminator"),
        ("gan.generator_lr", 0.0),
        ("gan.discriminator_lr", "0.1"),
        ("gan.generator_lr", np.float64(0.1)),
        ("gan.beta_1", 1.0),
        ("gan.latent_dim", 0),
        ("gan.generator_snnl", -0.1),
        ("gan.discriminator_snnl", float("nan")),
        ("gan.snnl_features", "logits"),
        ("gan.snnl_distance", "euclidean"),
        ("gan.generator_width", 0.0),
        ("batch_size", 1),
        ("epochs", 0),
        ("device", "gpu"),
        ("evaluation.images", 31),
        ("evaluation.mode_share", 0.0),
    ],
)
def test_a_wrong_value_is_refused_under_its_own_name(name, value):
    (problem,) = problems_of({name: value})
    assert problem.startswith(name)


def test_every_problem_is_reported_at_once_with_the_nearest_name():
    assert problems_of({"gan.generator_ir": 1.0, "epochs": 0}) == [
        "gan.generator_ir: unknown parameter; did you mean 'gan.generator_lr'?",
        "epochs: must be >= 1, got 0",
    ]


def test_a_classifiers_parameter_is_none_of_these():
    (problem,) = problems_of({"optimizer.nesterov": True})
    assert problem.startswith("optimizer.nesterov: unknown parameter; ")


def test_the_description_loads_no_heavy_library():
    program = (
        "import sys; from trainables.tasks.gan import GanConfig; GanConfig(); "
        "print({'torch', 'numpy', 'ray', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_an_unknown_export_says_what_there_is():
    import trainables.tasks.gan

    with pytest.raises(AttributeError, match="it exports GanConfig, GanResult"):
        _ = trainables.tasks.gan.Trainer
