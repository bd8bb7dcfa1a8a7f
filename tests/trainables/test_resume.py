"""A trial that is interrupted after any epoch ends in the same bits, whatever methods it combines."""

import math

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, given, settings

from trainables.config.trial import TrialConfig
from trainables.tasks.classifier.run import restore, start

EPOCHS = 3
# Two steps an epoch: what differs after an interruption does so at the first.
SMALL = {
    "data.fraction": 0.2,
    "batch_size": 100,
    "epochs": EPOCHS,
    "evaluation.robust_images": 20,
    "evaluation.robust_steps": 2,
}

MODELS = st.fixed_dictionaries(
    {
        "model.name": st.sampled_from(["mlp", "cnn", "cnn_bn"]),
        "model.width": st.just(0.125),
        "model.dropout": st.sampled_from([0.0, 0.3]),
        "seed": st.integers(0, 99),
    }
)
OPTIMIZERS = st.fixed_dictionaries(
    {
        "optimizer.name": st.sampled_from(["sgd", "adamw"]),
        "optimizer.lr": st.sampled_from([0.002, 0.05]),
        "optimizer.schedule": st.sampled_from(["cosine", "constant", "step", "one_cycle"]),
    },
    optional={
        "optimizer.nesterov": st.booleans(),
        "optimizer.warmup_epochs": st.sampled_from([0.5, 2.0]),
        "optimizer.clip_norm": st.just(1.0),
        "optimizer.ema_decay": st.just(0.8),
        "loss.name": st.sampled_from(["cross_entropy", "binary_cross_entropy"]),
        "loss.label_smoothing": st.just(0.1),
        "classes_per_batch": st.just(5),
        "precision": st.sampled_from(["float32", "bfloat16"]),
    },
)
SNNL = st.fixed_dictionaries(
    {
        "snnl.weight": st.sampled_from([-0.2, 0.2]),
        "snnl.temperature_mode": st.sampled_from(["minimised", "learned", "relative", "absolute"]),
        "snnl.layers": st.sampled_from(["hidden", "all"]),
        "snnl.distance": st.sampled_from(["sqeuclidean", "cosine"]),
        "snnl.on_mixed": st.booleans(),
    }
)
MIXUP = st.one_of(
    st.fixed_dictionaries(
        {
            "mixup.alpha": st.just(1.0),
            "mixup.layers": st.sampled_from(["input", "hidden", "all"]),
            "mixup.per_sample": st.booleans(),
            "mixup.detached": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {"mixup.kind": st.just("cutmix"), "mixup.alpha": st.just(1.0), "mixup.per_sample": st.booleans()}
    ),
)
ADVERSARIAL = st.fixed_dictionaries(
    {
        "adversarial.epsilon": st.just(0.1),
        "adversarial.norm": st.sampled_from(["linf", "l2"]),
        "adversarial.attack": st.sampled_from(["fgsm", "fgsm_rs", "pgd", "trades"]),
        "adversarial.steps": st.just(2),
        "adversarial.clean_fraction": st.sampled_from([0.0, 0.5, 1.0]),
        "adversarial.max_robust_drop": st.just(1.0),
    }
)
AUGMENTATION = st.fixed_dictionaries(
    {},
    optional={
        "data.crop_padding": st.just(1),
        "data.flip": st.just(True),
        "data.rotation": st.just(10.0),
        "data.shear": st.just(0.1),
        "data.zoom": st.just(0.1),
    },
)


def maybe(points):
    return st.just({}) | points


points = st.tuples(MODELS, OPTIMIZERS, maybe(SNNL), maybe(MIXUP), maybe(ADVERSARIAL), maybe(AUGMENTATION)).map(
    lambda parts: {name: value for part in parts for name, value in part.items()}
)


def advance(loop, epochs):
    """Train so many epochs; everything measured but the clock."""
    reports = [loop.run_epoch().metrics for _ in range(epochs)]
    return [
        {name: value for name, value in metrics.items() if not name.startswith(("time/", "cost/"))}
        for metrics in reports
    ]


@given(point=points)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_trial_resumed_after_any_epoch_ends_in_the_same_bits(point, tmp_path):
    config = TrialConfig.from_point({**SMALL, **point})
    whole, measured = start(config), []
    for epoch in range(EPOCHS):
        whole.save(tmp_path / str(epoch))
        measured += advance(whole, 1)
    assert all(math.isfinite(value) for metrics in measured for value in metrics.values())

    for epoch in range(EPOCHS):
        resumed = restore(tmp_path / str(epoch), config=config)
        assert advance(resumed, EPOCHS - epoch) == measured[epoch:]
        weights = resumed.run.evaluated_model.state_dict()
        assert all(torch.equal(weights[name], value) for name, value in whole.run.evaluated_model.state_dict().items())
