"""APGD, its losses against their vectors, Square and AA-lite, where the right answer is known in closed form."""

import inspect
import math
from functools import partial
from itertools import pairwise
from types import MappingProxyType

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.attacks import aa_lite, apgd, auto_pgd, autoattack, boundary, dlr, dlr_targeted, pgd, square
from trainables.attacks.auto_pgd import checkpoints
from trainables.attacks.balls import surface_noise
from trainables.attacks.margins import attack_cross_entropy

EXACT = {"rtol": 1e-9, "atol": 1e-11}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_network(classes=5):
    """Balanced classes on images around mid-grey, so that the box stays out of it."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).double()
    model[1].weight.data.mul_(30)
    model[1].bias.data = -model[1].weight.data.sum(1) / 2
    x = 0.4 + 0.2 * torch.rand(200, 1, 4, 4, generator=stream(), dtype=torch.float64)
    return model, x, model(x).argmax(1)


def vulnerable(model, x, y, *, epsilon, dual_order):
    """Has some class j with z_j - z_y + epsilon ||w_j - w_y||_dual > 0: exact for a linear model off the box."""
    weight = model[1].weight.detach()
    logits = model(x).detach()
    reach = torch.linalg.vector_norm(weight[None] - weight[y][:, None], dual_order, dim=2)
    gain = logits - logits.gather(1, y[:, None]) + epsilon * reach
    return (gain.scatter(1, y[:, None], -math.inf) > 0).any(1)


def fooled(model, adversarial, y):
    return model(adversarial).argmax(1) != y


@pytest.fixture
def dlr_vector(mixup_vectors):
    vector = mixup_vectors["dlr"]
    case = vector["in"]
    logits = torch.tensor(case["logits"], dtype=torch.float64)
    return logits, torch.tensor(case["y"]), torch.tensor(case["y_target"]), vector["expected"]


def test_dlr_equals_vector(dlr_vector):
    logits, y, target, expected = dlr_vector
    torch.testing.assert_close(dlr(logits, y), torch.tensor(expected["dlr"], dtype=torch.float64), **EXACT)
    torch.testing.assert_close(
        dlr_targeted(logits, y, target), torch.tensor(expected["dlr_targeted"], dtype=torch.float64), **EXACT
    )


@pytest.mark.parametrize(("scale", "shift"), [(100.0, 0.0), (0.01, 5.0)])
def test_dlr_ignores_scale_and_shift_of_the_logits(dlr_vector, scale, shift):
    logits, y, target, _ = dlr_vector
    other = logits * scale + shift
    torch.testing.assert_close(dlr(other, y), dlr(logits, y))
    torch.testing.assert_close(dlr_targeted(other, y, target), dlr_targeted(logits, y, target))


def test_dlr_needs_three_and_its_targeted_form_four_classes():
    y = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="dlr: needs at least 3 classes, got 2"):
        dlr(torch.zeros(1, 2), y)
    with pytest.raises(ValueError, match="dlr_targeted: needs at least 4 classes, got 3"):
        dlr_targeted(torch.zeros(1, 3), y, y + 1)


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50, 100, 1000])
def test_checkpoints_cover_the_steps_and_come_ever_closer(steps):
    lengths = list(checkpoints(steps))
    assert sum(lengths) == steps
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == max(int(0.22 * steps), 1)


@pytest.mark.parametrize(("norm", "dual_order", "epsilon"), [("linf", 1, 0.01), ("l2", 2, 0.03)])
def test_targeted_apgd_fools_exactly_the_images_that_can_be_fooled(norm, dual_order, epsilon):
    model, x, y = linear_network()
    expected = vulnerable(model, x, y, epsilon=epsilon, dual_order=dual_order)
    assert 0.2 < expected.double().mean() < 0.8
    adversarial = apgd(model, x, y, epsilon=epsilon, norm=norm, loss="dlr_targeted", steps=50, generator=stream())
    assert torch.equal(fooled(model, adversarial, y), expected)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize(("norm", "dual_order", "epsilon"), [("linf", 1, 0.01), ("l2", 2, 0.03)])
def test_untargeted_apgd_fools_nearly_all_images_that_can_be_fooled_and_no_other(norm, dual_order, epsilon, loss):
    model, x, y = linear_network()
    expected = vulnerable(model, x, y, epsilon=epsilon, dual_order=dual_order)
    found = fooled(model, apgd(model, x, y, epsilon=epsilon, norm=norm, loss=loss, steps=50, generator=stream()), y)
    assert not (found & ~expected).any()
    assert found.sum() >= 0.9 * expected.sum()


def curved_network():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
    with torch.no_grad():
        for index in (1, 3, 5):
            model[index].weight.mul_(3)
        model[1].bias.copy_(-model[1].weight.sum(1) / 2)
    x = torch.rand(150, 1, 4, 4, generator=stream())
    return model, x, model(x).argmax(1)


def reference(model, x, y, *, start, epsilon, norm, steps):
    """One image's APGD-CE in plain loops: the point to return, and whether it is misclassified."""

    def project(z):
        delta = z - x
        if norm == "linf":
            return (x + delta.clamp(-epsilon, epsilon)).clamp(0, 1)
        return (x + delta * min(1.0, epsilon / max(delta.norm().item(), 1e-300))).clamp(0, 1)

    def evaluate(z):
        z = z.clone().requires_grad_()
        logits = model(z[None])
        value = functional.cross_entropy(logits, y[None])
        return value.item(), torch.autograd.grad(value, z)[0], logits.argmax().item() != y.item()

    point = previous = project(x + start)
    loss, gradient, wrong = evaluate(point)
    if wrong:
        return point, True
    best, best_loss, best_gradient = point, loss, gradient
    eta, window, since, rises = 2 * epsilon, max(int(0.22 * steps), 1), 0, 0
    loss_at_check, halved = best_loss, True
    for step in range(steps):
        direction = gradient.sign() if norm == "linf" else gradient / gradient.norm()
        ahead = project(point + eta * direction)
        share = 1.0 if step == 0 else 0.75
        point, previous = project(point + share * (ahead - point) + (1 - share) * (point - previous)), point
        last, (loss, gradient, wrong) = loss, evaluate(point)
        if wrong:
            return point, True
        rises += loss > last
        if loss > best_loss:
            best, best_loss, best_gradient = point, loss, gradient
        since += 1
        if since == window:
            stalled = not halved and best_loss <= loss_at_check
            halved = rises <= 0.75 * window or stalled
            if halved:
                eta, point, gradient = eta / 2, best, best_gradient
            loss_at_check, since, rises = best_loss, 0, 0
            window = max(window - max(int(0.03 * steps), 1), int(0.06 * steps), 1)
    return best, False


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.02), ("l2", 0.06)])
@pytest.mark.parametrize("steps", [20, 60])
def test_apgd_is_the_published_algorithm_image_by_image(norm, epsilon, steps):
    model, x, y = curved_network()
    model, x, y = model.double(), x[:40].double(), y[:40]
    found = apgd(model, x, y, epsilon=epsilon, norm=norm, steps=steps, generator=stream(4))
    starts = surface_noise(x, epsilon=epsilon, norm=norm, generator=stream(4))
    expected = [
        reference(model, x[i], y[i], start=starts[i], epsilon=epsilon, norm=norm, steps=steps) for i in range(len(x))
    ]
    assert 3 < sum(wrong for _, wrong in expected) < 37
    same = (found - torch.stack([image for image, _ in expected])).flatten(1).abs().amax(1) < 1e-8
    assert same.sum() >= 39  # two losses that differ by a rounding error of the batched product may change places
    assert fooled(model, found, y).tolist() == [wrong for _, wrong in expected]


def test_a_misclassified_iterate_of_lower_loss_is_kept():
    class Bend(nn.Module):
        """Climbing to one half leads to class 1, where the loss of class 0 is lower than on the way."""

        def forward(self, x):
            x = x.flatten(1)
            slope = torch.cat([0 * x, 0.01 * x - 0.05, 0 * x - 0.05], 1)
            return torch.where(x > 0.5, torch.tensor([0.0, 0.2, -9.0], dtype=x.dtype) + 0 * slope, slope)

    x, y = torch.full((32, 1), 0.5, dtype=torch.float64), torch.zeros(32, dtype=torch.int64)
    starts = x + surface_noise(x, epsilon=0.1, generator=stream())
    assert not fooled(Bend(), starts, y).all()
    assert fooled(Bend(), apgd(Bend(), x, y, epsilon=0.1, steps=1, generator=stream()), y).all()


@pytest.mark.parametrize(("attack", "argument"), [(partial(apgd, steps=20), "restarts"), (square, "queries")])
def test_what_is_fooled_is_left_alone(attack, argument):
    model, x, y = curved_network()
    counts = []
    for budget in (100, 200):
        seen = []
        hook = model.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(len(inputs[0])))
        found = attack(model, x, y, **({"epsilon": 0.5} | {argument: budget}), generator=stream())
        hook.remove()
        counts.append(sum(seen))
        assert fooled(model, found, y).all()
    assert counts[0] == counts[1]


def test_square_lowers_the_margin_of_what_still_holds():
    model, x, y = linear_network()
    found = square(model, x, y, epsilon=0.01, queries=100, generator=stream())
    held = ~fooled(model, found, y)
    assert held.sum() > 20
    assert (margin(model, found, y) < margin(model, x, y))[held].all()


def test_apgd_needs_no_step_size_to_beat_pgd_with_an_unlucky_one():
    model, x, y = curved_network()
    ours = fooled(model, apgd(model, x, y, epsilon=0.05, steps=20, generator=stream()), y).double().mean()
    run = {"epsilon": 0.05, "steps": 20, "random_start": True}
    theirs = [
        fooled(model, pgd(model, x, y, **run, step_size=step, generator=stream()), y).double().mean()
        for step in (0.0005, 0.1)
    ]
    assert ours > max(theirs)
    assert 0.05 < ours < 0.95


def test_restarts_of_apgd_fool_more_and_never_fewer():
    model, x, y = curved_network()
    once, often = (
        fooled(model, apgd(model, x, y, epsilon=0.03, steps=5, restarts=number, generator=stream()), y)
        for number in (1, 6)
    )
    assert (often >= once).all()
    assert often.sum() > once.sum()


def test_apgd_returns_no_image_of_larger_margin():
    model, x, y = curved_network()
    adversarial = apgd(model, x, y, epsilon=0.01, loss="dlr_targeted", steps=5, generator=stream())
    held = ~fooled(model, adversarial, y)
    before, after = (margin(model, z, y) for z in (x, adversarial))
    assert held.any()
    assert (after[held] <= before[held]).all()


def margin(model, x, y):
    logits = model(x)
    return logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -math.inf).amax(1)


@pytest.mark.parametrize("attack", [apgd, partial(square, queries=100)], ids=["apgd", "square"])
def test_an_image_that_is_misclassified_as_it_is_comes_back_as_it_is(attack):
    model, x, y = curved_network()
    y = torch.where(torch.arange(len(y)) < 30, (y + 1) % 5, y)
    adversarial = attack(model, x, y, epsilon=0.05, generator=stream())
    assert torch.equal(adversarial[:30], x[:30])
    assert not torch.equal(adversarial[30:], x[30:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps: must be >= 1, got 0"),
        ({"restarts": 0}, "restarts: must be >= 1, got 0"),
        ({"norm": "l1"}, "norm: must be one of 'linf', 'l2', got 'l1'"),
        ({"norm": "l1", "epsilon": 0.0}, "norm: must be one of 'linf', 'l2', got 'l1'"),
        ({"loss": "cw"}, "loss: must be one of 'ce', 'dlr', 'dlr_targeted', got 'cw'"),
    ],
)
def test_wrong_arguments_of_apgd_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        apgd(*linear_network(), **({"epsilon": 0.1} | arguments))


def test_more_queries_of_square_fool_a_superset():
    model, x, y = curved_network()
    sets = [
        fooled(model, square(model, x, y, epsilon=0.05, queries=queries, generator=stream()), y)
        for queries in (1, 20, 75, 300)
    ]
    assert all((larger >= smaller).all() for smaller, larger in pairwise(sets))
    assert sets[-1].sum() > sets[0].sum() + 10


def test_square_gets_through_a_model_without_gradients():
    class Steps(nn.Module):
        """Class 0 while most pixels are above one half."""

        def forward(self, x):
            above = (x > 0.5).double().sum((1, 2, 3))
            return torch.stack([above, torch.full_like(above, 12.0)], 1)

    x, y = torch.full((8, 1, 5, 5), 0.55), torch.zeros(8, dtype=torch.int64)
    assert not fooled(Steps(), x, y).any()
    assert fooled(Steps(), square(Steps(), x, y, epsilon=0.1, queries=200, generator=stream()), y).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l1"}, "norm: must be one of 'linf', 'l2', got 'l1'"),
        ({"queries": 0}, "queries: must be >= 1, got 0"),
    ],
)
def test_wrong_arguments_of_square_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        square(*linear_network(), epsilon=0.1, **arguments)


def test_square_needs_images_in_a_plane():
    model, x, y = linear_network()
    with pytest.raises(ValueError, match=r"x: must be images \(B, C, H, W\), got shape \(200, 16\)"):
        square(model, x.flatten(1), y, epsilon=0.1)


@pytest.mark.parametrize(("norm", "dual_order", "epsilon"), [("linf", 1, 0.01), ("l2", 2, 0.03)])
def test_aa_lite_finds_the_exact_robust_accuracy_of_a_linear_model(norm, dual_order, epsilon):
    model, x, y = linear_network()
    y = torch.where(torch.arange(len(y)) < 20, (y + 1) % 5, y)
    found = aa_lite(model, x, y, epsilon=epsilon, norm=norm, steps=50, queries=20, seed=0, batch_size=64)
    expected = ~vulnerable(model, x, y, epsilon=epsilon, dual_order=dual_order) & ~fooled(model, x, y)
    assert torch.equal(found.robust_B, expected)
    assert torch.equal(fooled(model, found.x_adv, y), ~expected)
    assert found.accuracy["clean"] == pytest.approx(0.9)
    assert list(found.accuracy.values())[-1] == pytest.approx(expected.double().mean().item())
    delta = (found.x_adv - x).flatten(1)
    assert torch.linalg.vector_norm(delta, math.inf if norm == "linf" else 2, dim=1).max() <= epsilon + 1e-12


def test_aa_lite_reports_accuracy_after_each_attack_in_its_order():
    model, x, y = curved_network()
    found = aa_lite(model, x, y, epsilon=0.02, steps=5, queries=20, seed=0)
    assert list(found.accuracy) == ["clean", "apgd-ce", "apgd-t", "square"]
    values = list(found.accuracy.values())
    assert values == sorted(values, reverse=True)
    assert values[0] == 1.0
    assert isinstance(found.accuracy, MappingProxyType)
    assert found.zero_gradient == 0
    assert found.square_alone == values[2] - values[3]
    assert "square" not in aa_lite(model, x, y, epsilon=0.02, norm="l2", steps=2, seed=0).accuracy


@pytest.mark.parametrize(("norm", "dual_order", "epsilon"), [("linf", 1, 0.01), ("l2", 2, 0.03)])
def test_autoattack_finds_the_exact_robust_accuracy_of_a_linear_model(norm, dual_order, epsilon):
    model, x, y = linear_network()
    found = autoattack(model, x, y, epsilon=epsilon, norm=norm, steps=50, queries=5, seed=0, batch_size=64)
    assert torch.equal(found.robust_B, ~vulnerable(model, x, y, epsilon=epsilon, dual_order=dual_order))
    delta = (found.x_adv - x).flatten(1)
    assert torch.linalg.vector_norm(delta, math.inf if norm == "linf" else 2, dim=1).max() <= epsilon + 1e-12


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.01), ("l2", 0.03)])
def test_autoattack_runs_its_four_attacks_in_order_with_the_published_budgets(norm, epsilon, monkeypatch):
    calls = []

    def record(name):
        def attack(_model, x, _y, /, **named):
            calls.append((name, {key: value for key, value in named.items() if key != "generator"}))
            return x

        return attack

    for name in ("apgd", "fab", "square"):
        monkeypatch.setattr(f"trainables.attacks.ensemble.{name}", record(name))
    model, x, y = linear_network()
    found = autoattack(model, x, y, epsilon=epsilon, norm=norm, seed=0)
    shared = {"norm": norm, "epsilon": epsilon}
    assert calls == [
        ("apgd", {**shared, "steps": 100, "loss": "ce"}),
        ("apgd", {**shared, "steps": 100, "loss": "dlr_targeted"}),
        ("fab", {**shared, "steps": 100, "targeted": True}),
        ("square", {**shared, "queries": 5000}),
    ]
    assert list(found.accuracy) == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]
    assert (auto_pgd.NUM_TARGETS, boundary.NUM_TARGETS) == (9, 9)
    assert [inspect.signature(attack).parameters["restarts"].default for attack in (apgd, boundary.fab)] == [1, 1]


def test_autoattack_is_never_weaker_than_its_first_attacks_and_depends_on_its_seed_alone():
    model, x, y = curved_network()
    torch.manual_seed(1)
    found = autoattack(model, x, y, epsilon=0.02, steps=5, queries=20, seed=0)
    values = list(found.accuracy.values())
    assert values == sorted(values, reverse=True)
    assert found.square_alone == values[-2] - values[-1]
    torch.manual_seed(2)
    assert torch.equal(autoattack(model, x, y, epsilon=0.02, steps=5, queries=20, seed=0).x_adv, found.x_adv)


def test_aa_lite_sees_masked_gradients():
    class Rounding(nn.Module):
        """The derivative of rounding is zero: no gradient attack gets anywhere."""

        def __init__(self):
            super().__init__()
            self.inner, _, _ = curved_network()

        def forward(self, x):
            return self.inner((x * 50).round() / 50)

    model, (_, x, _) = Rounding(), curved_network()
    y = model(x).argmax(1)
    found = aa_lite(model, x, y, epsilon=0.05, steps=5, queries=100, seed=0)
    assert found.zero_gradient == 1.0
    assert found.square_alone > 0.1


def test_a_pixel_that_a_model_ignores_is_no_masked_gradient():
    model, x, y = linear_network()
    model[1].weight.data[:, 3] = 0
    assert aa_lite(model, x, y, epsilon=0.01, steps=1, queries=1, seed=0).zero_gradient == 0


def test_aa_lite_depends_on_its_seed_alone():
    model, x, y = curved_network()
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        results.append(aa_lite(model, x, y, epsilon=0.02, steps=3, queries=5, seed=5).x_adv)
    assert torch.equal(*results)
    other = aa_lite(model, x, y, epsilon=0.02, steps=3, queries=5, seed=6).x_adv
    assert not torch.equal(results[0], other)


def test_aa_lite_gives_flags_back_and_leaves_gradients_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 5))
    model[2].eval()
    x = torch.rand(10, 1, 4, 4, generator=stream())
    aa_lite(model, x, torch.arange(10) % 5, epsilon=0.1, steps=3, queries=5, seed=0)
    assert [module.training for module in model] == [True, True, False]
    assert model[2].weight.grad is None


@pytest.mark.parametrize("arguments", [{"queries": 0}, {"batch_size": 0}, {"steps": 0}])
def test_wrong_counts_of_aa_lite_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name}: must be >= 1, got 0"):
        aa_lite(*linear_network(), epsilon=0.1, seed=0, **arguments)


def test_aa_lite_needs_four_classes_whatever_falls_before_they_matter():
    model, x, y = linear_network(classes=3)
    with pytest.raises(ValueError, match="aa_lite: needs at least 4 classes, got 3"):
        aa_lite(model, x, (y + 1) % 3, epsilon=0.1, seed=0)


def test_aa_lite_of_no_images_is_refused():
    model, x, y = linear_network()
    with pytest.raises(ValueError, match="images: must be >= 1, got 0"):
        aa_lite(model, x[:0], y[:0], epsilon=0.1, seed=0)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_confident_logits_do_not_hide_from_any_loss(loss):
    model, x, y = linear_network()

    class Confident(nn.Module):
        def forward(self, x):
            return 1e6 * model(x)

    expected = vulnerable(model, x, y, epsilon=0.01, dual_order=1)
    by_loss = fooled(model, apgd(Confident(), x, y, epsilon=0.01, steps=50, loss=loss, generator=stream()), y)
    assert by_loss.sum() >= 0.9 * expected.sum()


def logits_and_labels(scale, *, rows=400, classes=5):
    logits = scale * torch.randn(rows, classes, generator=stream())
    return logits, torch.randint(classes, (rows,), generator=stream(1))


def test_the_attacks_cross_entropy_is_torchs_bit_for_bit_where_float_resolves_it():
    logits, y = logits_and_labels(3.0)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss_B, expected_B = attack_cross_entropy(ours, y), functional.cross_entropy(theirs, y, reduction="none")
    loss_B.sum().backward()
    functional.cross_entropy(theirs, y, reduction="sum").backward()
    assert torch.equal(loss_B, expected_B)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("bias", [0.0, 1e4])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0, 1e3, 1e6])
def test_the_gradient_of_the_attacks_cross_entropy_points_where_exact_arithmetic_does(scale, bias):
    logits, y = logits_and_labels(scale)
    logits = (logits + bias).requires_grad_()
    attack_cross_entropy(logits, y).sum().backward()
    # p_k / (1 - p_y) for k != y and -1 for y, in float64 from the same logits
    rest = logits.detach().double().scatter(1, y[:, None], -math.inf)
    exact = rest.softmax(1).scatter(1, y[:, None], -1.0)
    ours = logits.grad.double() / logits.grad.double().abs().amax(1, keepdim=True)
    torch.testing.assert_close(ours, exact, rtol=0.3, atol=1e-6)  # 0.3: the rounding just above the resolution


def test_the_attacks_cross_entropy_rises_with_the_odds_across_its_two_forms():
    odds = torch.linspace(-40, 10, 2001)
    logits = torch.stack([torch.zeros_like(odds), odds, torch.full_like(odds, -200)], 1)
    loss_B = attack_cross_entropy(logits, torch.zeros(len(odds), dtype=torch.int64))
    assert bool((loss_B.diff() >= 0).all())


def test_the_attacks_cross_entropy_of_one_class_or_an_infinite_logit_has_no_nan():
    for logits in (torch.zeros(2, 1), torch.tensor([[0.0, -math.inf], [3.0, -math.inf]])):
        leaf = logits.clone().requires_grad_()
        attack_cross_entropy(leaf, torch.zeros(2, dtype=torch.int64)).sum().backward()
        assert not bool(leaf.grad.isnan().any())
