"""Models that hide their gradients are caught, each by the flag that is meant for it, and honest ones are not."""

import pytest
import torch
from torch import nn

from trainables.config.trial import DataConfig, TrialConfig
from trainables.data import Split, load_splits
from trainables.evaluation.core.prediction import balanced_subset
from trainables.evaluation.robustness.gradient_masking import masking
from trainables.tasks.classifier.training import train


def trained(name, *, epochs):
    return train(TrialConfig.from_point({"epochs": epochs, "model.name": name})).model


@pytest.fixture(scope="module")
def honest():
    torch.set_num_threads(1)
    return trained("mlp", epochs=4)


@pytest.fixture(scope="module")
def few():
    return balanced_subset(load_splits(DataConfig()).val, size=60)


class Wrapped(nn.Module):
    """A model inside a layer that hides it."""

    def __init__(self, model, *, before=None, after=None):
        super().__init__()
        self.model, self.before, self.after = model, before or nn.Identity(), after or nn.Identity()

    def forward(self, x):
        return self.after(self.model(self.before(x)))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def raised(model, split, **arguments):
    result = masking(model, split, epsilon=0.1, **arguments)
    return {check.name for check in result.checks if check.failed}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_honest_model_raises_no_flag(honest, few, norm):
    result = masking(honest, few, epsilon=0.1 if norm == "linf" else 0.8, norm=norm)
    assert result.refusals == ()
    assert result.metrics() == {"robust/red_flags": 0.0}
    assert result.fooled["clean"] < result.fooled["fgsm"] <= result.fooled["pgd-20"] < 60


def test_an_honest_model_with_batch_normalisation_raises_no_flag(few):
    assert raised(trained("cnn_bn", epochs=2), few) == set()


def test_logits_that_are_scaled_up_flatten_the_cross_entropy(honest, few):
    names = raised(Wrapped(honest, after=Apply(lambda z: 1e4 * z)), few)
    # The attacks do not depend on the scale, so the other flags see the honest model.
    assert names == {"zero gradients"}


def test_quantised_input_has_no_gradient_and_falls_to_noise_and_to_square(honest, few):
    names = raised(Wrapped(honest, before=Apply(lambda x: torch.round(4 * x) / 4)), few)
    assert {"zero gradients", "black box", "pgd-100, radius of grey", "pgd-200, unbounded"} <= names


def test_a_model_that_draws_its_answer_is_caught(honest, few):
    stream = torch.Generator().manual_seed(0)
    noisy = Wrapped(honest, before=Apply(lambda x: x + 0.1 * torch.randn(x.shape, generator=stream)))
    assert "randomness" in raised(noisy, few)


def test_a_bias_of_all_logits_does_not_excuse_a_model_that_draws_its_answer(honest, few):
    stream = torch.Generator().manual_seed(0)

    def biased(logits):
        return logits + 0.1 * torch.randn(logits.shape, generator=stream) + 1e4

    assert "randomness" in raised(Wrapped(honest, after=Apply(biased)), few)


def test_probabilities_are_no_logits(honest, few):
    assert "logits" in raised(Wrapped(honest, after=nn.Softmax(1)), few)


def test_gradients_that_point_the_wrong_way_make_noise_hurt_more_than_fgsm(honest, few):
    class Turned(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x.clone()

        @staticmethod
        def backward(_, gradient):
            return -gradient

    result = masking(Wrapped(honest, before=Apply(Turned.apply)), few, epsilon=0.4)
    names = {check.name for check in result.checks if check.failed}
    assert {"noise and fgsm", "black box", "pgd-200, unbounded"} <= names


def test_a_flag_refuses_by_name_with_what_was_found_and_the_figure_says_so(honest, few):
    result = masking(Wrapped(honest, after=nn.Softmax(1)), few, epsilon=0.1)
    (line,) = [line for line in result.refusals if line.startswith("logits")]
    assert line.startswith("logits: outputs must be logits, not probabilities; got: outputs from ")
    assert "raised" in result.figure().layout.title.text
    assert ("logits", "RAISED") in {(row[0], row[3]) for row in result.table().rows}
    assert result.metrics()["robust/red_flags"] == len(result.refusals)


def test_the_same_seed_gives_the_same_findings(honest, few):
    assert masking(honest, few, epsilon=0.1, seed=3) == masking(honest, few, epsilon=0.1, seed=3)


def test_a_model_keeps_its_flags(honest, few):
    honest.train()
    try:
        masking(honest, few, epsilon=0.1)
        assert honest.training
    finally:
        honest.eval()


def test_a_radius_that_no_image_withstands_leaves_none_for_the_black_box(honest, few):
    result = masking(honest, few, epsilon=0.9)
    assert result.fooled["pgd-50"] == result.fooled["square, after these"] == 60
    assert result.refusals == ()


def test_a_radius_of_zero_is_refused(honest, few):
    with pytest.raises(ValueError, match="epsilon: must be finite and > 0, got 0"):
        masking(honest, few, epsilon=0)


def test_images_of_one_class_leave_no_chance_to_beat(honest):
    val = load_splits(DataConfig()).val
    ones = val.take((val.labels_N == 1).nonzero()[:10, 0])
    assert "pgd-100, radius of grey" not in raised(honest, Split(ones.images_NCHW, ones.labels_N))
