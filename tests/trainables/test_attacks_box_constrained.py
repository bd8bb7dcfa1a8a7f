"""Box-constrained L-BFGS against exact minimum distortions, and amplification."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from trainables.attacks import amplify, lbfgs
from trainables.attacks.box_constrained import box_minimum, objective


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def case(mixup_vectors):
    vector = mixup_vectors["lbfgs"]
    values = vector["in"]
    model = nn.Linear(4, 3).double()
    model.weight.data, model.bias.data = tensor(values["W"]), tensor(values["b"])
    return model, tensor([values["x"]]), values, vector["expected"]


def test_objective_and_its_gradient_equal_vector(case):
    model, x, values, expected = case
    r, c = tensor([values["r"]]).requires_grad_(), values["c"]  # the vectors weigh the norm, this package the loss
    value = c * objective(model, x, torch.tensor([values["target"]]), adversarial=x + r, constant=1 / c)
    assert value.item() == pytest.approx(expected["objective c*||r||_2^2 + CE(x+r,target)"], rel=1e-12)
    (gradient,) = torch.autograd.grad(value, r)
    torch.testing.assert_close(gradient[0], tensor(expected["grad_wrt_r"]), rtol=1e-9, atol=1e-12)


def test_minimisers_over_the_constant_equal_vectors(case):
    model, x, values, expected = case
    target = torch.tensor([values["target"]])
    sweep = expected["lbfgsb_solutions_vs_c(1e-6 accuracy)"]
    assert len(sweep) == 5
    for row in sweep:

        def value_and_gradient(pixels, constant=1 / row["c"]):
            leaf = torch.from_numpy(pixels)[None].requires_grad_()
            value = objective(model, x, target, adversarial=leaf, constant=constant)
            return value.item(), torch.autograd.grad(value, leaf)[0][0].numpy()

        pixels, evaluations = box_minimum(value_and_gradient, x[0].numpy(), max_iterations=200)
        assert pixels == pytest.approx(row["x_adv"], abs=1e-5)
        assert np.sqrt(((pixels - x[0].numpy()) ** 2).mean()) == pytest.approx(row["rms"], abs=1e-5)
        assert model(torch.from_numpy(pixels)).argmax() == row["pred"]
        assert evaluations > 0


@pytest.mark.parametrize(("target", "excess"), [("0", 0.04), ("2", 0.13)])
def test_smallest_distortion_is_near_the_exact_one_and_never_below(case, target, excess):
    # Above it because the cross-entropy also pushes the third class down, which the exact problem need not do.
    model, x, _, expected = case
    exact = expected["min_distortion_per_target(box-constrained, exact QP)"][target]["rms_distortion"]
    found = lbfgs(model, x, torch.tensor([int(target)]))
    assert found.succeeded_B.all()
    assert exact - 1e-9 <= found.distortion_B.item() <= exact * (1 + excess)


def test_smallest_distortion_is_the_exact_one_where_there_are_two_classes():
    model = nn.Linear(4, 2).double()
    model.weight.data, model.bias.data = tensor([[3.0, -4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), tensor([-2.0, 0.0])
    x = tensor([[0.5, 0.5, 0.5, 0.5]])  # 2.5 from the boundary in logits, and 5 a unit step
    found = lbfgs(model, x, torch.tensor([0]), bisections=25)
    torch.testing.assert_close(found.x_adv, tensor([[0.8, 0.1, 0.5, 0.5]]), rtol=0, atol=1e-6)
    assert found.distortion_B.item() == pytest.approx(0.5 / 2, rel=1e-6)


def test_smallest_distortion_is_the_exact_one_along_the_wall_of_the_box():
    model = nn.Linear(2, 2).double()
    model.weight.data, model.bias.data = tensor([[3.0, -4.0], [0.0, 0.0]]), tensor([-1.5, 0.0])
    found = lbfgs(model, tensor([[0.1, 0.2]]), torch.tensor([0]), bisections=25)  # y = 0 first, then x = 0.5
    torch.testing.assert_close(found.x_adv, tensor([[0.5, 0.0]]), rtol=0, atol=1e-6)


def test_more_bisections_come_closer_from_above(case):
    model, x, _, expected = case
    exact = expected["min_distortion_per_target(box-constrained, exact QP)"]["2"]["rms_distortion"]
    excess = [lbfgs(model, x, torch.tensor([2]), bisections=number).distortion_B.item() - exact for number in (1, 4, 8)]
    assert excess[0] > excess[1] > excess[2] > -1e-9


def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 4)
    )
    model[1].weight.data.mul_(4)
    model[1].bias.data = -model[1].weight.data.sum(1) / 2
    model[5].weight.data.mul_(6)
    model[2].eval()
    return model


def images(size=4):
    return torch.rand(size, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_success_is_that_of_the_float32_model_on_the_returned_images():
    model, x = network(), images()
    targets = (model.eval()(x).argmax(1) + 1) % 4
    found = lbfgs(model.train(), x, targets, bisections=3)
    assert found.succeeded_B.any()
    assert found.x_adv.dtype == torch.float32
    assert torch.equal(model.eval()(found.x_adv).argmax(1) == targets, found.succeeded_B)
    rms = (found.x_adv.double() - x.double()).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(found.distortion_B[found.succeeded_B], rms[found.succeeded_B])
    assert found.x_adv.min() >= 0
    assert found.x_adv.max() <= 1


def test_an_image_of_the_target_class_needs_no_perturbation():
    model, x = network().eval(), images()
    found = lbfgs(model, x, model(x).argmax(1))
    assert found.succeeded_B.all()
    assert torch.equal(found.x_adv, x)
    assert (found.distortion_B == 0).all()
    assert (found.constant_B == 0).all()


def test_a_failure_has_no_distortion_and_leaves_its_image():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.cat([0 * x.flatten(1)[:, :1] + 1, 0 * x.flatten(1)[:, :1]], 1)

    x = images(size=2)
    found = lbfgs(Constant(), x, torch.tensor([1, 0]), decades=2)
    assert found.succeeded_B.tolist() == [False, True]
    assert math.isnan(found.distortion_B[0])
    assert math.isnan(found.constant_B[0])
    assert torch.equal(found.x_adv, x)
    assert found.evaluations_B[0] >= 3


def test_success_in_float64_alone_is_a_failure():
    class Wary(nn.Module):
        """In float32, the dtype of its images, it never says 1."""

        def forward(self, x):
            lead = x.flatten(1).sum(1) - 8
            return torch.stack([torch.zeros_like(lead), lead if x.dtype == torch.float64 else -1 - lead.abs()], 1)

    x = torch.full((1, 1, 4, 4), 0.4)
    found = lbfgs(Wary(), x, torch.tensor([1]), bisections=2, decades=6)
    assert not found.succeeded_B.any()
    assert torch.equal(found.x_adv, x)
    assert lbfgs(Wary(), x.double(), torch.tensor([1]), bisections=2, decades=6).succeeded_B.all()


def test_bisection_halves_the_logarithm_of_the_constant(case):
    model, x, _, _ = case
    target = torch.tensor([0])
    smallest = lbfgs(model, x, target, bisections=20).constant_B.item()
    # Just above a power of ten of the first constant, where halving the constant itself would be far off.
    found = lbfgs(model, x, target, initial_constant=smallest / 1.05 / 100, bisections=3).constant_B.item()
    assert smallest * 0.999 <= found <= smallest * 10 ** (1 / 8)


def test_a_first_constant_that_succeeds_is_lowered(case):
    model, x, _, _ = case
    low, high = (lbfgs(model, x, torch.tensor([0]), initial_constant=c, bisections=12) for c in (1e-2, 1e3))
    assert high.distortion_B.item() == pytest.approx(low.distortion_B.item(), rel=1e-3)
    assert high.constant_B.item() == pytest.approx(low.constant_B.item(), rel=1e-2)


def test_lbfgs_gives_flags_back_and_leaves_parameters_and_gradients_alone():
    model = network()
    model[5].weight.grad = torch.full_like(model[5].weight, 7.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        lbfgs(model, images(size=1), torch.tensor([1]), decades=2, bisections=2)
    assert [module.training for module in model] == [True, True, False, True, True, True]
    assert (model[5].weight.grad == 7).all()
    assert model[1].weight.grad is None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(value.dtype != torch.float64 for value in model.state_dict().values())


def test_lbfgs_gives_flags_back_when_the_model_raises():
    model = network()
    model[5] = nn.Linear(9, 4)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        lbfgs(model, images(size=1), torch.tensor([1]))
    assert model.training
    assert not model[2].training


def test_lbfgs_of_no_images_finds_nothing():
    found = lbfgs(network(), images(size=1)[:0], torch.zeros(0, dtype=torch.int64))
    assert found.x_adv.shape == (0, 1, 4, 4)
    assert found.distortion_B.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial_constant": 0.0}, "initial_constant: must be finite and > 0, got 0.0"),
        ({"decades": 0}, "decades: must be >= 1, got 0"),
        ({"bisections": 0}, "bisections: must be >= 1, got 0"),
        ({"max_iterations": 0}, "max_iterations: must be >= 1, got 0"),
    ],
)
def test_wrong_arguments_of_lbfgs_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        lbfgs(network(), images(), torch.zeros(4, dtype=torch.int64), **arguments)


def test_amplification_equals_vector(mixup_vectors):
    vector = mixup_vectors["amplify_to_rms_0.1"]
    x, r = tensor(vector["in"]["x"]), tensor(vector["in"]["r"])
    torch.testing.assert_close(amplify(x, x + r), tensor(vector["expected"]["x_amp_clipped"]), rtol=1e-9, atol=1e-11)


def test_amplification_has_the_asked_root_mean_square_off_the_box():
    x = torch.full((3, 1, 5, 5), 0.5, dtype=torch.float64)
    amplified = amplify(x, x + 1e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), rms=0.03)
    rms = (amplified - x).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(rms, torch.full((3,), 0.03, dtype=torch.float64))


@pytest.mark.parametrize(
    ("x_adv", "rms", "message"),
    [
        (torch.zeros(2, 3), 0.1, "x_adv: must differ from x in every image"),
        (torch.ones(3, 2), 0.1, r"x_adv: must have the shape of x, \(2, 3\), got \(3, 2\)"),
        (torch.ones(2, 3), 0.0, "rms: must be finite and > 0, got 0.0"),
    ],
)
def test_amplification_without_a_direction_or_a_size_is_refused(x_adv, rms, message):
    with pytest.raises(ValueError, match=message):
        amplify(torch.zeros(2, 3), x_adv, rms=rms)
