"""Models that hide their gradients are caught, each by the flag that is meant for it, and honest ones are not."""

import math

import pytest
import torch
from torch import nn

from trainables.attacks import fgsm, pgd
from trainables.config import DataConfig, TrialConfig
from trainables.data import Split, load_splits
from trainables.evaluation.masking import (
    ascent,
    binomial_tail,
    masking,
    one_way,
    rarely,
    start_noise,
    unattacked,
    wilson,
    withstands,
)
from trainables.evaluation.prediction import as_pixels, balanced_subset
from trainables.loop import train


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
    """A model behind something that hides it."""

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
    found = masking(model, split, epsilon=0.1, **arguments)
    return {check.name for check in found.checks if check.failed}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_honest_model_raises_no_flag(honest, few, norm):
    found = masking(honest, few, epsilon=0.1 if norm == "linf" else 0.8, norm=norm)
    assert found.refusals == ()
    assert found.metrics() == {"robust/red_flags": 0.0}
    assert found.fooled["clean"] < found.fooled["fgsm"] <= found.fooled["pgd-20"] < 60


def test_an_honest_model_with_batch_normalisation_raises_no_flag(few):
    assert raised(trained("cnn_bn", epochs=2), few) == set()


def test_logits_that_are_scaled_up_flatten_the_cross_entropy(honest, few):
    names = raised(Wrapped(honest, after=Apply(lambda z: 1e4 * z)), few)
    assert {"zero gradients", "cross-entropy and margin", "pgd-200, unbounded"} <= names
    assert not {"randomness", "logits"} & names


def test_quantised_input_has_no_gradient_and_falls_to_noise_and_to_square(honest, few):
    names = raised(Wrapped(honest, before=Apply(lambda x: torch.round(4 * x) / 4)), few)
    assert {"zero gradients", "black box", "pgd-100, radius of grey", "pgd-200, unbounded"} <= names


def test_a_model_that_draws_its_answer_is_caught(honest, few):
    stream = torch.Generator().manual_seed(0)
    noisy = Wrapped(honest, before=Apply(lambda x: x + 0.1 * torch.randn(x.shape, generator=stream)))
    assert "randomness" in raised(noisy, few)


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

    found = masking(Wrapped(honest, before=Apply(Turned.apply)), few, epsilon=0.4)
    names = {check.name for check in found.checks if check.failed}
    assert {"noise and fgsm", "black box", "pgd-200, unbounded"} <= names


def test_a_flag_refuses_by_name_with_what_was_found_and_the_figure_says_so(honest, few):
    found = masking(Wrapped(honest, after=nn.Softmax(1)), few, epsilon=0.1)
    (line,) = [line for line in found.refusals if line.startswith("logits")]
    assert line.startswith("logits: outputs must be logits, not probabilities; found: outputs from ")
    assert "raised" in found.figure().layout.title.text
    assert ("logits", "RAISED") in {(row[0], row[3]) for row in found.table().rows}
    assert found.metrics()["robust/red_flags"] == len(found.refusals)


def test_the_same_seed_gives_the_same_findings(honest, few):
    assert masking(honest, few, epsilon=0.1, seed=3) == masking(honest, few, epsilon=0.1, seed=3)


def test_a_model_keeps_its_flags(honest, few):
    honest.train()
    try:
        masking(honest, few, epsilon=0.1)
        assert honest.training
    finally:
        honest.eval()


def test_one_step_of_the_radius_is_fgsm(honest, few):
    x, y = as_pixels(few.images_NCHW), few.labels_N
    expected = honest(fgsm(honest, x, y, epsilon=0.1)).argmax(1) == y
    found = withstands(few, ascent(honest, epsilon=0.1, norm="linf", steps=1, step_size=0.1))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_ascent_finds_all_that_pgd_finds_from_the_same_noise(honest, few, norm):
    x, y = as_pixels(few.images_NCHW), few.labels_N
    epsilon = 0.1 if norm == "linf" else 0.8
    noise = start_noise(few, norm=norm, seed=0, purpose="a test")
    settings = {"epsilon": epsilon, "norm": norm, "steps": 13, "step_size": epsilon / 4}
    attacked = pgd(honest, x, y, start=x + epsilon * noise, random_start=False, **settings)
    by_pgd = honest(attacked).argmax(1) != y
    found = ~withstands(few, ascent(honest, noise_NCHW=noise, **settings))
    assert by_pgd.any()
    assert (found & by_pgd).sum() == by_pgd.sum()


def test_images_outside_the_candidates_count_as_broken_and_keep_their_noise(honest, few):
    among = torch.arange(60) % 3 == 0
    noise = start_noise(few, norm="linf", seed=0, purpose="a test")
    attack = ascent(honest, epsilon=0.1, norm="linf", steps=5, step_size=0.025, noise_NCHW=noise)
    assert torch.equal(withstands(few, attack, among_N=among), withstands(few, attack) & among)


def test_no_image_and_no_attack_are_fine(honest, few):
    none = torch.zeros(60, dtype=torch.bool)
    assert not withstands(few, unattacked(honest), among_N=none).any()


def test_a_radius_that_no_image_withstands_leaves_none_for_the_black_box(honest, few):
    found = masking(honest, few, epsilon=0.9)
    assert found.fooled["pgd-50"] == found.fooled["square, after these"] == 60
    assert found.refusals == ()


def test_a_radius_of_zero_is_refused(honest, few):
    with pytest.raises(ValueError, match="epsilon: must be finite and > 0, got 0"):
        masking(honest, few, epsilon=0)


@pytest.mark.parametrize(
    ("weaker", "stronger", "failed"), [(1, 0, False), (6, 0, False), (7, 0, True), (20, 12, False)]
)
def test_the_weaker_attack_must_win_beyond_chance(weaker, stronger, failed):
    holds_weaker, holds_stronger = torch.ones(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)
    holds_weaker[:weaker] = False
    holds_stronger[weaker : weaker + stronger] = False
    assert one_way(holds_weaker, holds_stronger) == ((weaker, stronger), failed)


def test_one_odd_image_refuses_nothing_and_many_do():
    assert rarely(1, 60, rate=0.002)
    assert rarely(1, 1000, rate=0.002)
    assert not rarely(3, 100, rate=0.002)
    assert not rarely(20, 1000, rate=0.002)


@pytest.mark.parametrize(
    ("hits", "trials", "rate"), [(0, 5, 0.3), (2, 5, 0.3), (5, 5, 0.3), (7, 12, 0.5), (3, 40, 0.01)]
)
def test_the_binomial_tail_is_the_sum_of_its_terms(hits, trials, rate):
    terms = (math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(hits, trials + 1))
    assert binomial_tail(hits, trials, rate=rate) == pytest.approx(sum(terms), rel=1e-12)


@pytest.mark.parametrize("hits", [0, 1, 37, 99, 100])
def test_wilson_ends_where_the_score_test_does(hits):
    z, trials = 1.959963984540054, 100
    low, high = wilson(hits, trials)
    assert 0 <= low <= hits / trials <= high <= 1
    for end in {low, high} - {0.0, 1.0}:
        assert abs(hits / trials - end) / math.sqrt(end * (1 - end) / trials) == pytest.approx(z)


def test_images_of_one_class_leave_no_chance_to_beat(honest):
    val = load_splits(DataConfig()).val
    ones = val.take((val.labels_N == 1).nonzero()[:10, 0])
    assert "pgd-100, radius of grey" not in raised(honest, Split(ones.images_NCHW, ones.labels_N))
