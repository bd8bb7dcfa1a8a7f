"""A trial's description: strict, complete in its complaints, and the same as a flat point."""

import json
import pickle
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from pydantic import ValidationError

from trainables.config.trial import AdversarialConfig, TrialConfig
from trainables.errors import CheckpointError, ConfigError, DatasetMissing, Diverged, Problem
from trainables.metrics import METRICS, lookup

GROUPS = {
    "data": (
        "name root download cache image_size fraction part crop_padding flip rotation shear zoom "
        "policy policy_ops policy_magnitude erasing"
    ),
    "model": "name width final_norm normalize dropout sync_batch_norm",
    "optimizer": (
        "name lr momentum nesterov weight_decay schedule warmup_epochs milestones decay clip_norm ema_decay sam_rho"
    ),
    "loss": "name label_smoothing",
    "snnl": "weight temperature temperature_mode layers distance on_mixed penalty",
    "mixup": "kind alpha layers per_sample detached",
    "adversarial": (
        "norm epsilon attack steps relative_step clean_fraction trades_beta max_robust_drop "
        "noise_k mart_lambda awp_gamma"
    ),
    "evaluation": "robust_norm robust_epsilon robust_steps robust_images epochs",
}
DOCUMENTED_NAMES = {
    *("batch_size", "classes_per_batch", "epochs", "seed", "device", "precision", "compile"),
    *(f"{group}.{name}" for group, names in GROUPS.items() for name in names.split()),
}

points = st.fixed_dictionaries(
    {},
    optional={
        "optimizer.lr": st.floats(1e-6, 10),
        "optimizer.name": st.sampled_from(["sgd", "adamw"]),
        "snnl.weight": st.floats(-100, 100),
        "snnl.layers": st.sampled_from(["hidden", "conv1+conv3", "all"]),
        "mixup.per_sample": st.booleans(),
        "adversarial.relative_step": st.none() | st.floats(0.01, 10),
        "evaluation.epochs": st.sets(st.integers(1, 99)).map(sorted).map(tuple),
        "seed": st.integers(0, 2**63 - 1),
        "optimizer.milestones": st.sets(st.floats(0.01, 0.99)).map(sorted).map(tuple),
        "optimizer.clip_norm": st.none() | st.floats(0.01, 10),
        "precision": st.sampled_from(["auto", "float32", "bfloat16"]),
        "data.root": st.none() | st.text(min_size=1),
    },
)


def problems_of(point):
    with pytest.raises(ConfigError) as caught:
        TrialConfig.from_point(point)
    return [str(problem) for problem in caught.value.problems]


def test_the_parameter_names_are_the_documented_ones():
    assert set(TrialConfig.parameter_names()) == DOCUMENTED_NAMES


@given(point=points)
def test_a_point_survives_the_way_there_and_back_also_through_json(point):
    config = TrialConfig.from_point(point)
    assert TrialConfig.from_point(config.to_point()) == config
    assert TrialConfig.from_point(json.loads(json.dumps(config.to_point()))) == config
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config
    assert {name: config.to_point()[name] for name, value in point.items() if value is not None} == {
        name: value for name, value in point.items() if value is not None
    }


def test_none_counts_as_absent():
    everything = dict.fromkeys(TrialConfig.parameter_names())
    assert TrialConfig.from_point(everything) == TrialConfig()


def test_every_method_is_off_by_default():
    config = TrialConfig()
    assert (config.snnl.weight, config.mixup.alpha, config.adversarial.epsilon) == (0, 0, 0)


def test_an_int_is_accepted_where_a_float_is_meant():
    assert TrialConfig.from_point({"snnl.weight": -1}).snnl.weight == -1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer.lr", "0.1"),
        ("optimizer.lr", np.float64(0.1)),
        ("optimizer.lr", np.float32(0.1)),
        ("optimizer.lr", True),
        ("optimizer.lr", float("nan")),
        ("optimizer.lr", float("inf")),
        ("optimizer.lr", 0.0),
        ("optimizer.momentum", 1.0),
        ("optimizer.name", "rmsprop"),
        ("epochs", 3.0),
        ("epochs", np.int64(3)),
        ("epochs", True),
        ("epochs", 0),
        ("batch_size", 1),
        ("seed", -1),
        ("seed", 2**63),
        ("device", "gpu"),
        ("model.width", 0.0),
        ("data.name", "cifar1"),
        ("snnl.temperature", 0.0),
        ("snnl.layers", "conv1++conv2"),
        ("snnl.layers", ""),
        ("mixup.alpha", -0.5),
        ("mixup.per_sample", 1),
        ("adversarial.epsilon", 1.5),
        ("adversarial.relative_step", 0.0),
        ("adversarial.clean_fraction", 1.01),
        ("adversarial.norm", "l7"),
        ("evaluation.epochs", [3, 1]),
        ("evaluation.epochs", [1, 1]),
        ("evaluation.epochs", [0]),
        ("evaluation.epochs", 3),
    ],
)
def test_a_wrong_value_is_refused_under_its_own_name(name, value):
    (problem,) = problems_of({name: value})
    assert problem.startswith(name)


def test_every_problem_is_reported_at_once_with_the_nearest_name():
    assert problems_of({"optimizer.lrr": 1.0, "snnl.wieght": 0.1, "epochs": 0, "mixup.alpha": -1.0}) == [
        "optimizer.lrr: unknown parameter; did you mean 'optimizer.lr'?",
        "snnl.wieght: unknown parameter; did you mean 'snnl.weight'?",
        "epochs: must be >= 1, got 0",
        "mixup.alpha: must be >= 0, got -1.0",
    ]


@pytest.mark.parametrize("name", ["optimizer", "optimizer.lr.start", "ravel.trial"])
def test_a_group_or_a_foreign_name_is_no_parameter(name):
    assert "unknown parameter" in problems_of({name: 1})[0]


def test_a_config_cannot_be_changed():
    config = TrialConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 3


@pytest.mark.parametrize(
    ("attack", "steps", "relative_step", "num_steps", "step_size"),
    [
        ("fgsm", 7, None, 1, 0.2),
        ("fgsm_rs", 7, None, 1, 0.25),
        ("fgsm_rs", 7, 1.0, 1, 0.2),
        ("n_fgsm", 7, None, 1, 0.2),
        ("mart", 5, None, 5, 0.1),
        ("trades", 5, None, 5, 0.1),
        ("pgd", 5, None, 5, 0.1),
        ("pgd", 10, 0.25, 10, 0.05),
    ],
)
def test_attack_steps_are_in_units_of_epsilon(attack, steps, relative_step, num_steps, step_size):
    settings = AdversarialConfig(epsilon=0.2, attack=attack, steps=steps, relative_step=relative_step)
    assert settings.num_steps == num_steps
    assert settings.step_size == pytest.approx(step_size)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError([Problem("epochs", "must be >= 1, got 0")]),
        DatasetMissing("mnist", "set data.root"),
        Diverged(3, 7, "ce"),
        CheckpointError("/a/state.pt", "is truncated", "start again"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_every_metric_name_looks_itself_up():
    for metric in METRICS:
        name = re.sub("<.*>", "conv1", metric.name)
        assert lookup(name).name == name
        assert (lookup(name).unit, lookup(name).direction) == (metric.unit, metric.direction)


@pytest.mark.parametrize("name", ["val/acuracy", "entanglement/", "entanglement/<tap>", "accuracy", "temperature"])
def test_an_unknown_metric_is_a_key_error(name):
    with pytest.raises(KeyError, match="unknown metric"):
        lookup(name)


def test_an_unknown_metric_is_met_with_the_nearest_name():
    with pytest.raises(KeyError, match="did you mean 'val/accuracy'"):
        lookup("val/acuracy")


@pytest.mark.parametrize(
    ("point", "problem"),
    [
        (
            {"optimizer.warmup_epochs": 5.0, "epochs": 5},
            "optimizer.warmup_epochs: must be < epochs (5), got 5.0",
        ),
        (
            {"batch_size": 128, "classes_per_batch": 10},
            "classes_per_batch: must divide batch_size (128) into at least 2 images of each, got 10",
        ),
        (
            {"batch_size": 8, "classes_per_batch": 8},
            "classes_per_batch: must divide batch_size (8) into at least 2 images of each, got 8",
        ),
        (
            {"mixup.kind": "cutmix", "mixup.alpha": 1.0, "mixup.layers": "hidden"},
            "mixup.layers: must be 'input' for cutmix, got 'hidden'",
        ),
        (
            {"adversarial.epsilon": 1.5},
            "adversarial.epsilon: must be <= 1 under linf, as pixels are in [0, 1], got 1.5",
        ),
        (
            {"optimizer.nesterov": True, "optimizer.momentum": 0.0},
            "optimizer.nesterov: must be false where optimizer.momentum is 0, got True",
        ),
        (
            {"optimizer.milestones": 0.5},
            "optimizer.milestones: must be a list, got 0.5",
        ),
        (
            {"optimizer.milestones": [0.75, 0.5]},
            "optimizer.milestones: must be strictly increasing, got [0.75, 0.5]",
        ),
    ],
)
def test_a_law_between_parameters_names_the_one_to_change(point, problem):
    assert problems_of(point) == [problem]


def test_an_l2_ball_may_be_larger_than_one_pixel():
    assert TrialConfig.from_point({"adversarial.epsilon": 1.5, "adversarial.norm": "l2"}).adversarial.epsilon == 1.5


@pytest.mark.parametrize(
    "point",
    [
        {"mixup.kind": "cutmix", "mixup.layers": "hidden"},
        {"optimizer.schedule": "one_cycle", "optimizer.warmup_epochs": 99.0},
        {"optimizer.name": "adamw", "optimizer.nesterov": True, "optimizer.momentum": 0.0},
    ],
)
def test_what_is_inactive_breaks_no_law(point):
    assert TrialConfig.from_point(point).to_point().items() >= point.items()
