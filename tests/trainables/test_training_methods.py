"""N-FGSM, MART, and steps at perturbed weights, each against an independent form of its paper's formula."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.attacks import n_fgsm
from trainables.config.trial import TrialConfig
from trainables.engine.optimization.weight_perturbation import WeightPerturbation
from trainables.engine.share import WHOLE
from trainables.errors import ConfigError
from trainables.regularizers.resolved_methods import Draws, Methods, draw
from trainables.seeding import Streams
from trainables.tasks.classifier import run
from trainables.tasks.classifier.mart_loss import mart_terms
from trainables.tasks.classifier.objective import step_loss
from trainables.tasks.registry import CLASSIFIER

TRIAL = {"model.name": "mlp", "model.width": 0.25, "epochs": 1, "precision": "float32", "device": "cpu"}
PGD = {"adversarial.epsilon": 0.1, "adversarial.attack": "pgd", "adversarial.steps": 2}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)).double()


def batch(count=32):
    return torch.rand(count, 6, generator=stream(), dtype=torch.float64), torch.arange(count) % 4


def begun(**point):
    return run.start(TrialConfig.from_point({**TRIAL, **point})).run


# N-FGSM


def test_n_fgsm_is_noise_and_one_step_clipped_to_the_box_alone():
    model, (x, y) = smooth_network(), batch()
    noise = (torch.rand(x.shape, generator=stream(1), dtype=torch.float64) * 2 - 1) * 0.2
    found = n_fgsm(model, x, y, step_size=0.1, noise=noise)
    eta = torch.maximum(torch.minimum(noise, 1 - x), -x)  # as the authors clip it
    start = (x + eta).requires_grad_()
    functional.cross_entropy(model(start), y).backward()
    delta = torch.maximum(torch.minimum(eta + 0.1 * start.grad.sign(), 1 - x), -x)
    torch.testing.assert_close(found, x + delta)
    assert (found - x).abs().max() > 0.25  # beyond any ball of radius 0.1


@pytest.mark.parametrize(("k", "radius"), [(None, 0.2), (0.5, 0.05), (3.0, 0.3)])
def test_the_noise_of_n_fgsm_spans_k_epsilon(k, radius):
    config = TrialConfig.from_point(
        {**TRIAL, "adversarial.epsilon": 0.1, "adversarial.attack": "n_fgsm", "adversarial.noise_k": k}
    )
    methods = Methods.resolve(config, begun().model)
    noise = draw(torch.zeros(64, 1, 8, 8), methods=methods, streams=Streams.from_seed(0)).noise_BCHW
    assert noise.abs().max() == pytest.approx(radius, rel=0.01)
    assert config.adversarial.step_size == pytest.approx(0.1)
    assert CLASSIFIER.passes_per_epoch(config.to_point()) == CLASSIFIER.passes_per_epoch(
        {**PGD, "adversarial.steps": 1}
    )


# MART


def published(clean, adversarial, y):
    """Both parts as the authors compute them, without their small constants."""
    p, q = clean.softmax(1), adversarial.softmax(1)
    first, second = q.argsort(1, descending=True)[:, :2].T
    rival = torch.where(first == y, second, first)
    true_p, true_q, rival_q = (
        probability.gather(1, label[:, None])[:, 0] for probability, label in ((p, y), (q, y), (q, rival))
    )
    boosted = -true_q.log() - (1 - rival_q).log()
    divergence = (p * (p.log() - q.log())).sum(1)
    return boosted.mean(), (divergence * (1 - true_p)).mean()


def test_mart_equals_its_published_form_with_its_gradients():
    logits = torch.randn(2, 24, 5, generator=stream(), dtype=torch.float64) * 2
    y = torch.arange(24) % 5
    results = []
    for form in (mart_terms, published):
        clean, adversarial = (part.clone().requires_grad_() for part in logits)
        boosted, divergence = form(clean, adversarial, y)
        total = boosted + 5 * divergence
        results.append((boosted, divergence, *torch.autograd.grad(total, (clean, adversarial))))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
    assert results[0][2].abs().max() > 0.01  # the clean prediction carries gradient


def test_mart_is_finite_where_a_probability_rounds_to_one():
    clean, adversarial = torch.tensor([[300.0, 0.0, 0.0]]), torch.tensor([[0.0, 300.0, 0.0]]).requires_grad_()
    boosted, divergence = mart_terms(clean, adversarial, torch.tensor([0]))
    assert boosted.item() == pytest.approx(600 - 0.0, abs=1)  # -log p_y and -log(1 - p_rival), 300 each
    (slope,) = torch.autograd.grad(boosted + divergence, adversarial)
    assert slope.isfinite().all()
    assert slope.abs().max() > 0.5


@pytest.mark.parametrize(("point", "weight"), [({}, 5.0), ({"adversarial.mart_lambda": 2.0}, 2.0)])
def test_a_step_of_mart_weighs_its_divergence_by_lambda(point, weight):
    trial = begun(**{**PGD, "adversarial.attack": "mart"}, **point)
    x, y = trial._images(torch.arange(16))
    draws = draw(x, methods=trial.methods, streams=trial.streams)
    loss = step_loss(trial.model, x, y, num_classes=10, methods=trial.methods, draws=draws)
    clean, attacked = (trial.model(images) for images in (x, loss.x_adversarial))
    boosted, divergence = mart_terms(clean, attacked, y)
    torch.testing.assert_close(loss.total, boosted + weight * divergence)
    assert (loss.x_adversarial - x).abs().max() == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"adversarial.attack": "mart", "mixup.alpha": 1.0}, "mixup.alpha: must be 0 for mart, .* got 1"),
        (
            {"adversarial.attack": "mart", "loss.label_smoothing": 0.1},
            "label_smoothing: must be 0 for mart, .* got 0.1",
        ),
        (
            {"adversarial.attack": "mart", "loss.name": "binary_cross_entropy"},
            "loss.name: must be 'cross_entropy' for mart, .* got 'binary_cross_entropy'",
        ),
        ({"adversarial.attack": "n_fgsm", "adversarial.norm": "l2"}, "norm: must be 'linf' for n_fgsm, .* got 'l2'"),
        (
            {"adversarial.awp_gamma": 0.01, "optimizer.sam_rho": 0.05},
            "sam_rho: must be 0 with .* got 0.05",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_where_the_attack_is_on(point, message):
    with pytest.raises(ConfigError, match=message):
        TrialConfig.from_point({"adversarial.epsilon": 0.1, **point})
    assert TrialConfig.from_point(point).adversarial.epsilon == 0  # off: valid, and without effect


def test_a_noise_that_is_absent_is_refused():
    trial = begun(**{"adversarial.epsilon": 0.1, "adversarial.attack": "n_fgsm"})
    x, y = trial._images(torch.arange(4))
    with pytest.raises(ValueError, match="noise_BCHW: must be present for n_fgsm"):
        step_loss(trial.model, x, y, num_classes=10, methods=trial.methods, draws=Draws())


# Perturbed weights


def by_proxy(model, loss_of, gamma):
    """Weights of AWP as the authors' code finds them: a copy takes one step of SGD uphill, rescaled by layer."""
    proxy = copy.deepcopy(model)
    optimizer = torch.optim.SGD(proxy.parameters(), lr=0.01)
    (-loss_of(proxy).total).backward()
    optimizer.step()
    moved = copy.deepcopy(model)
    for weight, new, old in zip(moved.parameters(), proxy.parameters(), model.parameters(), strict=True):
        difference = (new - old).detach()
        if weight.dim() > 1:
            weight.data += gamma * old.detach().norm() / difference.norm() * difference
    return moved


def by_flat_vector(model, loss_of, rho):
    """Weights of SAM: one vector of all weights, moved by rho up its gradient."""
    moved = copy.deepcopy(model)
    loss_of(moved).total.backward()
    flat = torch.cat([weight.grad.flatten() for weight in moved.parameters()])
    for weight in moved.parameters():
        weight.data += rho * weight.grad / flat.norm()
        weight.grad = None
    return moved


@pytest.mark.parametrize(
    ("point", "reference", "size"),
    [
        ({**PGD, "adversarial.awp_gamma": 0.05}, by_proxy, 0.05),
        ({**PGD, "adversarial.attack": "trades", "adversarial.awp_gamma": 0.05}, by_proxy, 0.05),
        ({"optimizer.sam_rho": 0.3}, by_flat_vector, 0.3),
        ({**PGD, "optimizer.sam_rho": 0.3}, by_flat_vector, 0.3),
    ],
)
def test_a_step_takes_the_gradient_at_the_perturbed_weights_on_the_same_images(point, reference, size):
    indices = torch.arange(64)
    trial, other = begun(**point), begun(**point)
    trial._step(indices, step=0)

    x, y = other._images(indices)
    draws = draw(x, methods=other.methods, streams=other.streams)
    loss_of = partial(step_loss, x_BCHW=x, y_B=y, num_classes=10, methods=other.methods, draws=draws)
    attacked = loss_of(other.model).x_adversarial
    moved = reference(other.model, loss_of, size)
    loss_of(moved, x_adversarial=attacked).total.backward()
    plain = torch.autograd.grad(loss_of(other.model, x_adversarial=attacked).total, [*other.model.parameters()])
    for weight, at_moved in zip(other.model.parameters(), moved.parameters(), strict=True):
        weight.grad = at_moved.grad.clone()
    assert not torch.allclose(plain[0], next(other.model.parameters()).grad)
    other._descend(step=0)
    for found, expected in zip(trial.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("perturbation", [WeightPerturbation(gamma=0.1), WeightPerturbation(rho=0.1)])
def test_weights_come_back_bit_for_bit_also_after_an_error(perturbation):
    model, (x, y) = smooth_network(), batch()
    before = copy.deepcopy(model.state_dict())
    loss = functional.cross_entropy(model(x), y)
    wrong = torch.zeros(1, 7, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="cannot be multiplied"), perturbation.applied(model, loss, share=WHOLE):
        model(wrong)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_awp_moves_each_weight_by_its_share_and_no_bias():
    model, (x, y) = smooth_network(), batch()
    before = copy.deepcopy(model.state_dict())
    loss = functional.cross_entropy(model(x), y)
    with WeightPerturbation(gamma=0.1).applied(model, loss, share=WHOLE):
        for name, weight in model.named_parameters():
            moved = float((weight.detach() - before[name]).norm() / before[name].norm())
            assert moved == pytest.approx(0.1 if name.endswith("weight") else 0)
        raised = functional.cross_entropy(model(x), y)
    assert raised > functional.cross_entropy(model(x), y)


def test_a_gradient_of_zero_moves_nothing():
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    for perturbation in (WeightPerturbation(gamma=0.1), WeightPerturbation(rho=0.1)):
        with perturbation.applied(model, 0 * model(torch.ones(1, 3)).sum(), share=WHOLE):
            assert torch.equal(model.weight, before)


@pytest.mark.parametrize("sizes", [{}, {"gamma": 0.1, "rho": 0.1}])
def test_a_perturbation_has_one_size(sizes):
    with pytest.raises(ValueError, match="gamma, rho: exactly one must be above 0"):
        WeightPerturbation(**sizes)


def test_batch_normalisation_sees_each_batch_once():
    plain, perturbed = (
        begun(**{"model.name": "cnn_bn", "model.width": 0.25, "optimizer.sam_rho": rho}) for rho in (None, 0.05)
    )
    counts = []
    for trial in (plain, perturbed):
        trial._step(torch.arange(64), step=0)
        counts.append([int(value) for name, value in trial.model.state_dict().items() if name.endswith("tracked")])
    assert counts[0] == counts[1] == [1] * len(counts[0])
    assert counts[0]


@pytest.mark.parametrize(
    "point",
    [
        {"adversarial.epsilon": 0.1, "adversarial.attack": "n_fgsm", "optimizer.sam_rho": 0.05},
        {**PGD, "adversarial.attack": "mart", "adversarial.awp_gamma": 0.01},
    ],
)
def test_an_interrupted_trial_ends_with_the_bits_of_one_that_was_not(point, tmp_path):
    config = TrialConfig.from_point(
        {**TRIAL, "epochs": 2, "data.fraction": 0.2, "evaluation.robust_images": 20, **point}
    )
    whole, first = run.start(config), run.start(config)
    whole.run_all()
    first.run_epoch()
    first.save(tmp_path)
    resumed = run.restore(tmp_path, config=config)
    resumed.run_all()
    for name, value in whole.run.model.state_dict().items():
        assert torch.equal(resumed.run.model.state_dict()[name], value), name


def test_a_step_at_perturbed_weights_costs_one_more_pass():
    passes = CLASSIFIER.passes_per_epoch
    assert passes({**TRIAL, "optimizer.sam_rho": 0.05}) == 2 * passes(TRIAL)
    assert passes({**PGD, "adversarial.awp_gamma": 0.01}) == passes({**PGD, "adversarial.steps": 3})
    assert passes({**PGD, "adversarial.epsilon": 0.0, "adversarial.awp_gamma": 0.01}) == passes(TRIAL)


def test_perturbed_weights_are_off_in_a_baseline_that_knows_them_and_nowhere_else():
    off = ("snnl.weight", "mixup.alpha", "adversarial.epsilon")
    assert CLASSIFIER.strengths_of(["optimizer.lr"]) == off
    names = ["optimizer.sam_rho", "adversarial.awp_gamma"]
    assert CLASSIFIER.strengths_of(iter(names)) == (*off, "adversarial.awp_gamma", "optimizer.sam_rho")


def test_configurations_without_these_methods_are_what_they_were():
    names = ("adversarial.noise_k", "adversarial.mart_lambda", "adversarial.awp_gamma", "optimizer.sam_rho")
    assert not set(names) & set(TrialConfig().to_point())
    assert not any(name.partition(".")[2] in TrialConfig().model_dump_json() for name in names)
