"""FGSM, FGSM-RS and PGD against their vectors, in both norms; and what restarts promise."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional

from trainables.attacks import fgsm, fgsm_rs, pgd, projected_ascent, random_start_noise, uniform_noise
from trainables.attacks.balls import L2Ball, LinfBall, surface_noise

EXACT = {"rtol": 1e-9, "atol": 1e-11}
EPSILON = 0.1


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def linear(weight, bias):
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight.data, layer.bias.data = tensor(weight), tensor(bias)
    return layer


@pytest.fixture
def softmax_case(mixup_vectors):
    vector = mixup_vectors["attacks_linear_softmax"]
    case = vector["in"]
    model = linear(case["W"], case["b"])
    return model, tensor(case["x"]), torch.tensor(case["y"]), case, vector["expected"]


@pytest.fixture
def tanh_case(mixup_vectors):
    vector = mixup_vectors["attacks_tanh_mlp"]
    case = vector["in"]
    model = nn.Sequential(linear(case["W1"], case["b1"]), nn.Tanh(), linear(case["W2"], case["b2"]))
    return model, tensor(case["x"]), torch.tensor(case["y"]), case, vector["expected"]


def test_fgsm_equals_vector(softmax_case):
    model, x, y, _, expected = softmax_case
    adversarial = fgsm(model, x, y, epsilon=EPSILON)
    torch.testing.assert_close(adversarial, tensor(expected["fgsm_eps0.1"]["adv"]), **EXACT)
    loss = functional.cross_entropy(model(adversarial), y).item()
    assert loss == pytest.approx(expected["fgsm_eps0.1"]["ce_mean"], rel=1e-9)


def test_targeted_fgsm_equals_vector(softmax_case):
    model, x, _, case, expected = softmax_case
    targets = torch.tensor(case["target_labels"])
    adversarial = fgsm(model, x, targets, epsilon=EPSILON, targeted=True)
    key = next(key for key in expected if key.startswith("fgsm_targeted"))
    torch.testing.assert_close(adversarial, tensor(expected[key]["adv"]), **EXACT)


def test_every_iterate_of_pgd_equals_vector(softmax_case):
    model, x, y, _, expected = softmax_case
    trajectory = expected["pgd_linf_eps0.1_alpha0.03_steps5_nostart"]["trajectory"]
    for steps in range(1, 6):
        iterate = pgd(model, x, y, epsilon=EPSILON, steps=steps, step_size=0.03, random_start=False)
        torch.testing.assert_close(iterate, tensor(trajectory[steps]), **EXACT)


def test_pgd_from_a_given_start_equals_vector(softmax_case):
    model, x, y, case, expected = softmax_case
    start = x + tensor(case["linf_init_delta"])
    adversarial = pgd(model, x, y, epsilon=EPSILON, steps=5, step_size=0.03, random_start=False, start=start)
    vector = expected["pgd_linf_eps0.1_alpha0.03_steps5_given_init"]
    torch.testing.assert_close(adversarial, tensor(vector["adv"]), **EXACT)


def test_targeted_pgd_equals_vector(softmax_case):
    model, x, _, case, expected = softmax_case
    targets = torch.tensor(case["target_labels"])
    adversarial = pgd(model, x, targets, epsilon=EPSILON, steps=5, step_size=0.03, random_start=False, targeted=True)
    vector = expected["pgd_linf_targeted_eps0.1_alpha0.03_steps5"]
    torch.testing.assert_close(adversarial, tensor(vector["adv"]), **EXACT)


def test_one_large_step_from_a_random_start_is_fgsm_rs(softmax_case):
    model, x, y, case, expected = softmax_case
    start = x + tensor(case["linf_init_delta"])
    adversarial = pgd(model, x, y, epsilon=EPSILON, steps=1, step_size=0.125, random_start=False, start=start)
    key = next(key for key in expected if key.startswith("fgsm_rs"))
    torch.testing.assert_close(adversarial, tensor(expected[key]["adv"]), **EXACT)


def test_fgsm_on_a_curved_model_equals_vector(tanh_case):
    model, x, y, _, expected = tanh_case
    adversarial = fgsm(model, x, y, epsilon=0.3)
    torch.testing.assert_close(adversarial, tensor(expected["fgsm_eps0.3"]["adv"]), **EXACT)


@pytest.mark.parametrize("given_start", [False, True])
def test_pgd_on_a_curved_model_equals_vector_and_returns_its_last_iterate(tanh_case, given_start):
    model, x, y, case, expected = tanh_case
    start = x + tensor(case["linf_init_delta"]) if given_start else None
    adversarial = pgd(model, x, y, epsilon=0.3, steps=6, step_size=0.1, random_start=False, start=start)
    vector = expected["pgd_linf_eps0.3_alpha0.1_steps6" + ("_given_init" if given_start else "")]
    torch.testing.assert_close(adversarial, tensor(vector["adv"]), **EXACT)
    losses = functional.cross_entropy(model(adversarial), y, reduction="none")
    torch.testing.assert_close(losses, tensor(vector["ce"]), **EXACT)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_network():
    """Four classes that all occur: the first layer is centred on the box."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 4, bias=False)).double()
    model[1].weight.data.mul_(5)
    model[1].bias.data = -model[1].weight.data.sum(1) / 2
    return model


def images(size=6):
    return torch.rand(size, 3, 2, 2, generator=stream(1), dtype=torch.float64), torch.arange(size) % 4


def test_every_iterate_of_l2_pgd_equals_vector(softmax_case):
    model, x, y, _, expected = softmax_case
    vector = expected["pgd_l2_eps0.3_alpha0.1_steps5_nostart"]
    for steps in range(1, 6):
        iterate = pgd(model, x, y, epsilon=0.3, steps=steps, step_size=0.1, random_start=False, norm="l2")
        torch.testing.assert_close(iterate, tensor(vector["trajectory"][steps]), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close((iterate - x).norm(dim=1), tensor(vector["l2_norms"]), rtol=1e-6, atol=0)
    assert functional.cross_entropy(model(iterate), y).item() == pytest.approx(vector["ce_mean"], rel=1e-6)


def test_l2_pgd_from_a_given_start_equals_vector(softmax_case):
    model, x, y, case, expected = softmax_case
    start = x + tensor(case["l2_init_delta"])
    adversarial = pgd(model, x, y, epsilon=0.3, steps=5, step_size=0.1, random_start=False, norm="l2", start=start)
    torch.testing.assert_close(adversarial, tensor(expected["pgd_l2_given_init"]["adv"]), rtol=1e-6, atol=1e-8)


def test_l2_pgd_on_a_curved_model_equals_vector(tanh_case):
    model, x, y, _, expected = tanh_case
    adversarial = pgd(model, x, y, epsilon=0.5, steps=6, step_size=0.15, random_start=False, norm="l2")
    vector = expected["pgd_l2_eps0.5_alpha0.15_steps6"]
    torch.testing.assert_close(adversarial, tensor(vector["adv"]), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(4, 12), (4, 3, 4), (4, 3, 2, 2), (4, 3, 2, 2, 1)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_does_not_depend_on_the_rank_of_its_images(shape, norm):
    x, y = images(size=4)
    settings = {"epsilon": 0.3, "steps": 4, "step_size": 0.1, "random_start": False, "norm": norm}
    flat = pgd(smooth_network(), x.flatten(1), y, **settings)
    assert torch.equal(pgd(smooth_network(), x.reshape(shape), y, **settings).flatten(1), flat)


def test_l2_steps_have_their_length_also_where_gradients_square_to_zero():
    gradient = torch.tensor([[3e-30, 4e-30], [0.0, 0.0]])
    step = L2Ball.around(torch.zeros(2, 2), epsilon=1.0).direction(gradient)
    torch.testing.assert_close(step, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("ball", [LinfBall, L2Ball])
def test_a_gradient_that_is_no_number_is_not_taken_for_zero(ball):
    gradient = torch.tensor([[math.nan, 1.0]])
    assert ball.around(torch.zeros(1, 2), epsilon=1.0).direction(gradient).isnan().any()


@pytest.mark.parametrize("ball", [LinfBall, L2Ball])
@given(seed=st.integers(0, 2**31), epsilon=st.floats(0, 2))
@settings(max_examples=20)
def test_projecting_twice_is_projecting_once(ball, seed, epsilon):
    x, far = torch.rand(2, 5, 6, generator=stream(seed), dtype=torch.float64)
    there = ball.around(x, epsilon=epsilon)
    once = there.project(x + 4 * (far - 0.5))
    torch.testing.assert_close(there.project(once), once, rtol=0, atol=1e-12)


def test_linf_start_is_uniform_noise():
    x = torch.zeros(3, 4)
    assert torch.equal(
        random_start_noise(x, epsilon=0.2, norm="linf", generator=stream()),
        uniform_noise(x, epsilon=0.2, generator=stream()),
    )


def test_l2_starts_fill_the_volume_of_the_ball():
    noise = random_start_noise(torch.zeros(20_000, 1, 3), epsilon=2.0, norm="l2", generator=stream()).flatten(1)
    share = (noise.norm(dim=1) / 2) ** 3  # of the volume within that radius: uniform if the noise is
    for quantile in (0.1, 0.5, 0.9):
        assert float(share.quantile(quantile)) == pytest.approx(quantile, abs=0.015)
    assert noise.mean(0).abs().max() < 0.03
    assert noise.norm(dim=1).max() <= 2.0 + 1e-6


@pytest.mark.parametrize(("norm", "order"), [("linf", math.inf), ("l2", 2)])
def test_surface_noise_has_exactly_the_radius(norm, order):
    noise = surface_noise(torch.zeros(50, 2, 3), epsilon=0.3, norm=norm, generator=stream()).flatten(1)
    torch.testing.assert_close(torch.linalg.vector_norm(noise, order, dim=1), torch.full((50,), 0.3))


def test_fgsm_rs_is_one_step_of_pgd_from_a_random_start():
    model, (x, y) = smooth_network(), images()
    one_step = {"epsilon": EPSILON, "steps": 1, "step_size": 1.25 * EPSILON, "random_start": True}
    assert torch.equal(
        fgsm_rs(model, x, y, epsilon=EPSILON, generator=stream(5)),
        pgd(model, x, y, **one_step, generator=stream(5)),
    )


def test_projected_ascent_is_pgd_without_checks():
    model, (x, y) = smooth_network(), images()
    settings = {"epsilon": 0.3, "steps": 3, "step_size": 0.1, "norm": "l2"}
    start = x + random_start_noise(x, epsilon=0.3, norm="l2", generator=stream(2))
    assert torch.equal(
        projected_ascent(model, x, y, **settings, start=start),
        pgd(model, x, y, **settings, random_start=True, generator=stream(2)),
    )


@given(seed=st.integers(0, 2**31), norm=st.sampled_from(["linf", "l2"]))
@settings(max_examples=15)
def test_restarts_keep_every_success_and_among_equals_the_higher_loss(seed, norm):
    model, (x, y) = smooth_network(), images(size=16)
    run = {"epsilon": 0.4, "steps": 1, "step_size": 0.1, "random_start": True, "norm": norm}
    noise = stream(seed)
    attempts = [pgd(model, x, y, **run, generator=noise) for _ in range(3)]
    best = pgd(model, x, y, **run, restarts=3, generator=stream(seed))

    scores = torch.stack([ranking(model, attempt, y) for attempt in (*attempts, best)])
    assert torch.equal(scores[-1], scores[:-1].amax(0))
    assert all(any(torch.equal(image, attempt[i]) for attempt in attempts) for i, image in enumerate(best))


def ranking(model, images, y):
    """The loss, with a bonus above all losses for a misclassified image."""
    logits = model(images)
    return functional.cross_entropy(logits, y, reduction="none") + 1000.0 * (logits.argmax(1) != y)


def test_a_success_is_kept_against_a_failure_of_higher_loss():
    # Three classes: at 0.2 class 1 just wins, at 0.8 classes 1 and 2 almost tie with the right one.
    table = torch.tensor([[0.0, 0.1, -9.0], [1.00, 0.99, 0.99]], dtype=torch.float64)

    class Steps(nn.Module):
        def forward(self, x):
            return table[(x[:, 0] > 0.5).long()] + 0 * x

    x, y = torch.full((64, 3), 0.5, dtype=torch.float64), torch.zeros(64, dtype=torch.int64)
    losses = functional.cross_entropy(table, torch.zeros(2, dtype=torch.int64), reduction="none")
    assert losses[1] > losses[0]
    run = {"epsilon": 0.3, "steps": 1, "step_size": 0.01, "random_start": True}
    once, often = (pgd(Steps(), x, y, **run, restarts=number, generator=stream()) for number in (1, 12))
    assert 0.3 < (Steps()(once).argmax(1) != y).double().mean() < 0.7
    assert (Steps()(often).argmax(1) != y).double().mean() > 0.98


def test_targeted_restarts_keep_what_reaches_the_target():
    model, (x, _) = smooth_network(), images(size=16)
    targets = model(x).sort(dim=1).indices[:, -2]
    run = {"epsilon": 0.6, "steps": 1, "step_size": 0.5, "random_start": True, "targeted": True}
    hits = [
        (model(pgd(model, x, targets, **run, restarts=number, generator=stream())).argmax(1) == targets)
        for number in (1, 8)
    ]
    assert (hits[1] >= hits[0]).all()
    assert hits[1].sum() > hits[0].sum()


def test_targeted_restarts_that_miss_keep_the_lower_loss():
    model, (x, _) = smooth_network(), images(size=16)
    targets = model(x).argmin(1)
    run = {"epsilon": 0.05, "steps": 1, "step_size": 0.01, "random_start": True, "targeted": True}
    once, often = (
        functional.cross_entropy(
            model(pgd(model, x, targets, **run, restarts=number, generator=stream())), targets, reduction="none"
        )
        for number in (1, 8)
    )
    assert (often <= once).all()
    assert (often < once).sum() > 8


def test_without_a_random_start_the_first_attempt_is_the_plain_one():
    model, (x, y) = smooth_network(), images()
    run = {"epsilon": 0.3, "steps": 3, "step_size": 0.1, "random_start": False}
    plain, restarted = (pgd(model, x, y, **run, restarts=number, generator=stream()) for number in (1, 4))
    assert (ranking(model, restarted, y) >= ranking(model, plain, y)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_attack_on_an_image_does_not_depend_on_its_batch(norm):
    model, (x, y) = smooth_network(), images()
    run = {"epsilon": 0.3, "steps": 4, "step_size": 0.1, "random_start": False, "norm": norm}
    whole = pgd(model, x, y, **run)
    halves = [pgd(model, x[part], y[part], **run) for part in (slice(3), slice(3, 6))]
    torch.testing.assert_close(whole, torch.cat(halves), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps: must be >= 1, got 0"),
        ({"restarts": 0}, "restarts: must be >= 1, got 0"),
        ({"step_size": 0.0}, "step_size: must be finite and > 0, got 0.0"),
        ({"norm": "l1"}, "norm: must be one of 'linf', 'l2', got 'l1'"),
        ({"random_start": True, "start": torch.zeros(6, 3, 2, 2)}, "random_start: must be False when"),
    ],
)
def test_wrong_arguments_of_pgd_are_refused(arguments, message):
    good = {"epsilon": EPSILON, "steps": 2, "step_size": 0.05, "random_start": False}
    with pytest.raises(ValueError, match=message):
        pgd(smooth_network(), *images(), **(good | arguments))


def test_a_relative_step_that_is_no_step_is_refused():
    with pytest.raises(ValueError, match=r"relative_step: must be finite and > 0, got 0\.0"):
        fgsm_rs(smooth_network(), *images(), epsilon=EPSILON, relative_step=0.0)


def test_a_batch_without_its_axis_is_refused():
    with pytest.raises(ValueError, match=r"x: must be a batch \(B, ...\) of at least two axes, got shape \(4,\)"):
        fgsm(smooth_network(), torch.rand(4), torch.zeros(4, dtype=torch.int64), epsilon=EPSILON)
