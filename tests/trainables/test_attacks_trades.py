"""TRADES against its vectors, and where its gradients go; the detector of catastrophic overfitting."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.attacks import (
    kl_divergence,
    overfitted,
    pgd_accuracy,
    projected_ascent,
    random_start_noise,
    trades_ascent,
    trades_loss,
    trades_noise,
)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def softmax_case(mixup_vectors):
    vector = mixup_vectors["attacks_linear_softmax"]
    case = vector["in"]
    model = nn.Linear(4, 3)
    model.weight.data, model.bias.data = tensor(case["W"]), tensor(case["b"])
    return model, tensor(case["x"]), torch.tensor(case["y"]), case, vector["expected"]


def frozen_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    model[1].eval()
    return model


@pytest.mark.parametrize("scale", [3.0, 20.0, 100.0, 1e4])
def test_trades_ascent_climbs_the_exact_divergence_at_any_scale_of_the_logits(scale):
    torch.manual_seed(0)
    model, x = nn.Linear(6, 4), torch.rand(64, 6)
    noise = trades_noise(x, generator=stream())
    with torch.no_grad():
        model.weight.mul_(scale)
        model.bias.mul_(scale)
        logits_BK, started_BK = (model(images).double() for images in (x, (x + noise).clamp(0, 1)))
    attacked = trades_ascent(model, x, epsilon=0.05, steps=1, step_size=0.05, noise=noise)
    # (q - p) W in float64, each row divided by its largest term, which may be smaller than any float32
    log_p, log_q = logits_BK.log_softmax(1), started_BK.log_softmax(1)
    top = log_p.argmax(1, keepdim=True)
    largest = torch.maximum(log_p, log_q).scatter(1, top, -math.inf).amax(1, keepdim=True)
    slope = (log_q - largest).exp() - (log_p - largest).exp()
    slope = slope.scatter(1, top, 0)
    slope = slope.scatter(1, top, -slope.sum(1, keepdim=True))
    sign = (slope @ model.weight.detach().double()).sign()
    inside = ((x - 0.5).abs() < 0.44).all(1)
    assert (((attacked - x).sign() == sign)[inside]).double().mean() > 0.98


def test_trades_ascent_and_loss_equal_vectors(softmax_case):
    model, x, y, case, expected = softmax_case
    noise = tensor(case["trades_noise(=0.001*randn)"])
    adversarial = trades_ascent(model, x, epsilon=0.1, steps=3, step_size=0.03, noise=noise)
    vector = tensor(expected["trades_inner_eps0.1_step0.03_n3"]["x_adv"])
    torch.testing.assert_close(adversarial, vector, rtol=1e-9, atol=1e-11)

    losses = expected["trades_loss_beta6"]
    divergence = kl_divergence(model(x), model(adversarial)).item()
    assert divergence == pytest.approx(losses["kl_batchmean(KL(p_nat||p_adv))"], rel=1e-9)
    for beta, value in ((0.0, losses["natural_ce"]), (6.0, losses["total"])):
        assert trades_loss(model(x), model(adversarial), y, beta=beta).item() == pytest.approx(value, rel=1e-9)


def test_both_arguments_of_the_divergence_carry_gradient():
    clean, adversarial = (torch.randn(2, 5, 3, generator=stream(), dtype=torch.float64)).requires_grad_().unbind()
    y = torch.tensor([0, 1, 2, 0, 1])
    p, q = clean.softmax(1), adversarial.softmax(1)
    expected = functional.cross_entropy(clean, y) + 6 * (p * (p.log() - q.log())).sum(1).mean()
    wanted = torch.autograd.grad(expected, (clean, adversarial), retain_graph=True)
    got = torch.autograd.grad(trades_loss(clean, adversarial, y, beta=6.0), (clean, adversarial))
    torch.testing.assert_close(got, wanted)
    assert all(gradient.abs().max() > 0.1 for gradient in got)


@pytest.mark.parametrize(("norm", "order"), [("linf", math.inf), ("l2", 2)])
def test_trades_ascent_raises_the_divergence_inside_the_ball_and_the_box(norm, order):
    model, x = frozen_network().eval(), torch.rand(32, 6, generator=stream(), dtype=torch.float64)
    settings = {"epsilon": 0.2, "steps": 5, "step_size": 0.08, "norm": norm}
    noise = trades_noise(x, generator=stream(1))
    adversarial = trades_ascent(model, x, noise=noise, **settings)
    assert torch.linalg.vector_norm(adversarial - x, order, dim=1).max() <= 0.2 + 1e-12
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    y = torch.zeros(32, dtype=torch.int64)
    divergence = [
        trades_loss(model(x), model(z), y, beta=1.0) - trades_loss(model(x), model(z), y, beta=0.0)
        for z in ((x + noise).clamp(0, 1), adversarial)
    ]
    assert divergence[1] > 100 * divergence[0]


def test_trades_ascent_gives_flags_back_and_leaves_gradients_alone():
    model, x = frozen_network(), torch.rand(4, 6, generator=stream(), dtype=torch.float64)
    before = [module.training for module in model.modules()]
    seen = []
    model[2].register_forward_pre_hook(lambda module, _: seen.append(module.training))
    with torch.no_grad():
        result = trades_ascent(model, x, epsilon=0.2, steps=2, step_size=0.1, noise=trades_noise(x))
    assert [module.training for module in model.modules()] == before
    assert seen == [False] * 3
    assert not result.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_trades_ascent_of_radius_zero_returns_the_images():
    x = torch.rand(4, 6, generator=stream(), dtype=torch.float64)
    assert torch.equal(
        trades_ascent(frozen_network(), x, epsilon=0.0, steps=2, step_size=0.1, noise=trades_noise(x)), x
    )


def test_trades_noise_has_standard_deviation_one_thousandth():
    noise = trades_noise(torch.zeros(100, 100), generator=stream())
    assert noise.std().item() == pytest.approx(0.001, rel=0.02)
    assert torch.equal(noise, trades_noise(torch.zeros(100, 100), generator=stream()))


@pytest.mark.parametrize("beta", [-1.0, math.nan, math.inf])
def test_beta_that_is_no_weight_is_refused(beta):
    with pytest.raises(ValueError, match="beta: must be finite and >= 0, got"):
        trades_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]), beta=beta)


@pytest.mark.parametrize(("epsilon", "expected"), [(0.05, 1.0), (0.15, 0.75), (0.25, 0.5), (0.45, 0.0)])
def test_pgd_accuracy_counts_the_images_further_from_the_boundary_than_epsilon(epsilon, expected):
    model = nn.Linear(1, 2)
    model.weight.data, model.bias.data = torch.tensor([[-1.0], [1.0]]), torch.tensor([0.5, -0.5])
    x, y = torch.tensor([[0.4], [0.3], [0.9], [0.8]]), torch.tensor([0, 0, 1, 1])
    found = pgd_accuracy(model, x, y, epsilon=epsilon, generator=stream())
    assert found.shape == ()
    assert found.item() == expected


def test_a_model_that_only_withstands_one_step_is_seen_by_pgd_accuracy():
    class Overfitted(nn.Module):
        """Its loss falls from x to x + epsilon and rises again beyond: one large step overshoots."""

        def forward(self, x):
            lead = 0.3 + torch.cos(40 * (x[:, :1] - 0.5))
            return torch.cat([lead, -lead], 1)

    x, y = torch.full((50, 1), 0.5), torch.zeros(50, dtype=torch.int64)
    assert pgd_accuracy(Overfitted(), x, y, epsilon=0.15, steps=20, generator=stream()) < 0.05


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_accuracy_depends_on_its_generator_alone(norm):
    model, x = frozen_network(), torch.rand(64, 6, generator=stream(), dtype=torch.float64)
    y = model.eval()(x).argmax(1)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(pgd_accuracy(model.train(), x, y, epsilon=0.3, norm=norm, generator=stream(7)))
    assert torch.equal(*found)
    assert model[2].training


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_training_calls_never_waits_for_the_device(norm):
    class Watch(TorchDispatchMode):
        """Sees every operation, also on the CPU, where waiting would go unnoticed."""

        def __torch_dispatch__(self, function, _types, arguments=(), keywords=None):
            seen.add(function.overloadpacket)
            return function(*arguments, **(keywords or {}))

    seen = set()
    model, x, y = frozen_network(), torch.rand(4, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    settings = {"epsilon": 0.2, "steps": 2, "step_size": 0.1, "norm": norm}
    with Watch():
        start = x + random_start_noise(x, epsilon=0.2, norm=norm)
        projected_ascent(model, x, y, **settings, start=start)
        trades_loss(model(x), model(trades_ascent(model, x, **settings, noise=trades_noise(x))), y, beta=6.0)
        pgd_accuracy(model, x, y, epsilon=0.2, norm=norm)
    aten = torch.ops.aten
    assert aten.addmm in seen
    assert not seen & {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.is_nonzero, aten.masked_select}


@pytest.mark.parametrize(
    ("before", "now", "drop", "expected"),
    [(0.45, 0.02, 0.2, True), (0.45, 0.3, 0.2, False), (0.75, 0.25, 0.5, False), (0.2, 0.6, 0.2, False)],
)
def test_overfitting_is_a_fall_by_more_than_the_drop(before, now, drop, expected):
    assert overfitted(before, now, drop=drop) == expected


def test_the_first_epoch_cannot_have_overfitted():
    assert not overfitted(None, 0.0)


@pytest.mark.parametrize(("name", "values"), [("before", (1.2, 0.5)), ("now", (0.5, math.nan))])
def test_an_accuracy_outside_the_unit_interval_is_refused(name, values):
    with pytest.raises(ValueError, match=rf"{name}: must be in \[0, 1\], got"):
        overfitted(*values)
