"""The controls of the soft nearest neighbour loss: what they are, which way they push, and how a trial chooses them."""

import pytest
import torch
from torch.nn import functional

from trainables.config.trial import ModelConfig, TrialConfig
from trainables.errors import ConfigError
from trainables.mixup import Mix, mixed_targets
from trainables.models import build
from trainables.regularizers.resolved_methods import Draws, Methods
from trainables.snnl import chance_level, minimise_temperature, soft_label_loss, soft_nearest_neighbor_loss
from trainables.snnl.controls import activation_l2, class_mean, soft_class_mean
from trainables.snnl.distances import differentiable_distances
from trainables.snnl.training import training_term
from trainables.tasks.classifier.objective import step_loss
from trainables.tasks.classifier.training import train

DISTANCES = ["sqeuclidean", "cosine"]
CONTROLS = ["class_mean", "activation_l2"]


def batch(*, size=24, dimensions=5, classes=3, seed=0):
    stream = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % classes
    centres = torch.randn(classes, dimensions, generator=stream, dtype=torch.float64)
    return centres[labels] + torch.randn(size, dimensions, generator=stream, dtype=torch.float64), labels


def off_diagonal(distances):
    return distances[~torch.eye(len(distances), dtype=torch.bool)]


def brute_force(features, labels):
    """The definition, an anchor at a time; of an even number of distances the lower of the two in the middle."""
    distances = torch.cdist(features, features).square()
    gaps = []
    for i in range(len(labels)):
        others = [k for k in range(len(labels)) if k != i]
        company = [k for k in others if labels[k] == labels[i]]
        if company:
            gaps.append(distances[i, company].mean() - distances[i, others].mean())
    return torch.stack(gaps).mean() / off_diagonal(distances).median()


@pytest.mark.parametrize("labels", [[0, 1, 2] * 4, [0] * 7 + [1] * 4 + [2]], ids=["balanced", "one alone"])
def test_class_mean_is_the_mean_gap_between_company_and_all_others_in_medians(labels):
    features, labels = batch(size=12)[0], torch.tensor(labels)
    torch.testing.assert_close(class_mean(features, labels), brute_force(features, labels))


@pytest.mark.parametrize("distance", DISTANCES)
def test_class_mean_is_the_loss_to_first_order_in_the_inverse_temperature(distance):
    features, labels = batch()
    median = off_diagonal(differentiable_distances(features, distance)).median()
    temperature = 1e5
    loss = soft_nearest_neighbor_loss(features, labels, temperature * float(median), distance)
    first_order = (loss - chance_level(labels)) * temperature
    torch.testing.assert_close(class_mean(features, labels, distance=distance), first_order, rtol=1e-4, atol=0)


def test_the_gradient_of_class_mean_is_that_of_the_loss_at_a_high_relative_temperature():
    features, labels = batch()
    leaves = [features.clone().requires_grad_() for _ in range(2)]
    class_mean(leaves[0], labels).backward()
    (1e5 * training_term(leaves[1], labels, mode="relative", temperature=1e5).loss).backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-3, atol=1e-6)


def test_class_mean_of_balanced_classes_is_a_function_of_their_means_and_their_spread():
    features, labels = batch(size=24, classes=3)
    size, per_class = 24, 8
    own = features.reshape(per_class, 3, -1)
    means, spread = own.mean(0), own.var(0, unbiased=False).sum(1).mean() * per_class / (per_class - 1)
    pairs = torch.pdist(means).square().mean()
    share = (per_class - 1) / (size - 1)
    expected = -(1 - share) * (pairs - 2 * spread / per_class)
    found = class_mean(features, labels) * off_diagonal(torch.cdist(features, features).square()).median()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("distance", DISTANCES)
def test_soft_class_mean_of_one_hot_targets_is_the_hard_one(distance):
    features, labels = batch()
    hard = class_mean(features, labels, distance=distance)
    torch.testing.assert_close(soft_class_mean(features, functional.one_hot(labels), distance=distance), hard)


def test_soft_class_mean_is_the_soft_label_loss_to_first_order():
    features, _ = batch()
    targets = torch.rand(24, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)
    median = float(off_diagonal(torch.cdist(features, features).square()).median())
    loss, chance = (soft_label_loss(features, targets, median * scale) for scale in (1e5, 1e12))
    torch.testing.assert_close(soft_class_mean(features, targets), (loss - chance) * 1e5, rtol=1e-3, atol=1e-6)


def test_activation_l2_is_the_mean_squared_length_of_all_features_of_an_image():
    features = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(activation_l2(features), features.square().sum() / 4)


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_are_right_where_the_median_is_held(distance, monkeypatch):
    monkeypatch.setattr("trainables.snnl.sample.Sample.median", lambda _: torch.tensor(2.0, dtype=torch.float64))
    features, labels = batch(size=9)
    features.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: class_mean(x, labels, distance=distance), features)
    assert torch.autograd.gradcheck(activation_l2, features)


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        pytest.param(torch.ones(6, 3), torch.tensor([0, 0, 1, 1, 2, 2]), id="all duplicates"),
        pytest.param(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6), id="all alone"),
        pytest.param(torch.eye(6, 3), torch.zeros(6, dtype=torch.int64), id="one class, dead rows"),
        pytest.param(torch.eye(6, 3).bfloat16(), torch.tensor([0, 1, 0, 1, 0, 1]), id="half precision"),
    ],
)
@pytest.mark.parametrize("distance", DISTANCES)
def test_degenerate_batches_have_finite_loss_and_gradient(features, labels, distance):
    features = features.clone().requires_grad_()
    loss = class_mean(features, labels, distance=distance)
    (gradient,) = torch.autograd.grad(loss, features)
    assert loss.isfinite()
    assert loss.dtype == torch.float32
    assert gradient.isfinite().all()


def test_a_single_point_and_one_hot_labels_are_refused():
    with pytest.raises(ValueError, match="at least 2 points"):
        class_mean(torch.zeros(1, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match="one class index per point"):
        class_mean(torch.zeros(3, 2), torch.eye(3))


def test_a_large_batch_is_measured_on_all_its_pairs():
    features, labels = batch(size=1500)
    distances = torch.cdist(features, features).square()
    same = (labels[:, None] == labels).double().fill_diagonal_(0)
    gap = ((same * distances).sum(1) / same.sum(1) - distances.sum(1) / 1499).mean()
    expected = float(gap / off_diagonal(distances).median())
    assert float(class_mean(features, labels)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("weight", "direction"), [(1.0, -1), (-1.0, 1)])
def test_a_few_steps_move_class_means_and_the_loss_the_way_the_sign_says(weight, direction):
    features, labels = batch(size=60, seed=3)
    moved = features.clone().requires_grad_()
    optimizer = torch.optim.SGD([moved], lr=2.0)
    for _ in range(20):
        optimizer.zero_grad()
        (weight * class_mean(moved, labels)).backward()
        optimizer.step()
    moved = moved.detach()
    assert direction * (class_mean(moved, labels) - class_mean(features, labels)) > 0.05
    before, after = (minimise_temperature(points, labels).value for points in (features, moved))
    assert direction * (after - before) > 0.05


def methods_for(model, **point):
    return Methods.resolve(TrialConfig.from_point(point), model)


@pytest.fixture
def digits_batch():
    model = build(ModelConfig(name="mlp", width=0.2), image_shape=(1, 8, 8), num_classes=10).double()
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return model, x, torch.arange(40) % 10


@pytest.mark.parametrize("weight", [-0.5, 0.5])
@pytest.mark.parametrize(
    ("penalty", "of"), [("class_mean", class_mean), ("activation_l2", lambda features, _: activation_l2(features))]
)
def test_a_control_is_added_with_its_signed_weight_and_summed_over_layers(digits_batch, weight, penalty, of):
    model, x, y = digits_batch
    point = {"snnl.weight": weight, "snnl.penalty": penalty, "snnl.layers": "fc1+penultimate"}
    loss = step_loss(model, x, y, num_classes=10, methods=methods_for(model, **point), draws=Draws())
    taps = model.features(x, taps=("fc1", "penultimate")).taps
    expected = sum(of(features, y) for features in taps.values())
    assert set(loss.terms) == {"ce", "control"}
    torch.testing.assert_close(loss.terms["control"], expected)
    torch.testing.assert_close(loss.total, loss.terms["ce"] + weight * expected)


@pytest.mark.parametrize("penalty", CONTROLS)
@pytest.mark.parametrize("mode", ["minimised", "learned", "relative", "absolute"])
def test_a_control_has_no_temperature(digits_batch, penalty, mode):
    model, x, y = digits_batch
    totals = []
    for temperature in (0.1, 50.0):
        point = {"snnl.weight": 1.0, "snnl.penalty": penalty, "snnl.temperature": temperature}
        methods = methods_for(model, **point, **{"snnl.temperature_mode": mode})
        loss = step_loss(model, x, y, num_classes=10, methods=methods, draws=Draws())
        assert not loss.memory
        totals.append(loss.total)
    assert torch.equal(*totals)


def test_on_mixed_activations_company_is_as_the_mixed_targets_of_each_tap_agree(digits_batch):
    model, x, y = digits_batch
    mix = Mix("fc1", 0.3, torch.arange(40).flip(0))
    point = {"snnl.weight": 1.0, "snnl.penalty": "class_mean", "snnl.layers": "fc1+fc2", "snnl.on_mixed": True}
    methods = methods_for(model, **point, **{"mixup.alpha": 1.0, "mixup.layers": "all"})
    loss = step_loss(model, x, y, num_classes=10, methods=methods, draws=Draws(clean_mix=mix))
    taps, one_hot = model.features(x, mix=mix, taps=("fc1", "fc2")).taps, functional.one_hot(y, 10).double()
    expected = class_mean(taps["fc1"], y) + soft_class_mean(taps["fc2"], mixed_targets(one_hot, mix))
    torch.testing.assert_close(loss.terms["control"], expected)


def test_an_unknown_penalty_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"snnl.penalty: must be one of 'soft_nearest_neighbor', 'class_mean'"):
        TrialConfig.from_point({"snnl.penalty": "norm"})


def trained(penalty, weight):
    point = {"model.name": "mlp", "epochs": 2, "snnl.penalty": penalty, "snnl.weight": weight}
    return train(TrialConfig.from_point({**point, "device": "cpu", "evaluation.robust_epsilon": 0.0})).metrics


@pytest.mark.parametrize(
    ("penalty", "low", "high"), [("class_mean", -0.3, 0.3), ("activation_l2", 1e-6, 0.01)], ids=CONTROLS
)
def test_training_with_more_weight_on_a_control_lowers_what_it_penalises(penalty, low, high):
    before, after = (trained(penalty, weight)["train/control"] for weight in (low, high))
    assert after < before - 0.1 * abs(before)
