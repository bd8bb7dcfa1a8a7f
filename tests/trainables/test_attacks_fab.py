"""FAB: its projections, its distances, and what only a minimal attack promises; the registry's battery has the rest."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import nn

from trainables.attacks import fab, fab_nearest
from trainables.attacks.hyperplanes import step_onto_plane

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "fab_torchattacks.json").read_text())
every_norm = pytest.mark.parametrize("norm", ["linf", "l2"])
ORDERS = {"linf": math.inf, "l2": 2}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def planes(count=40, pixels=7, seed=0):
    """Points, normals with some zeros, and values that are near, far and out of reach."""
    noise = stream(seed)
    x = torch.rand(count, pixels, generator=noise, dtype=torch.float64)
    normal = torch.randn(count, pixels, generator=noise, dtype=torch.float64)
    normal[::5, 2] = 0
    reach = torch.tensor([0.05, 0.5, 1.0, 6.0], dtype=torch.float64).repeat(count // 4)
    return x, normal, torch.randn(count, generator=noise, dtype=torch.float64) * reach


def smallest_length(x, normal, value, *, norm):
    """The length of the shortest step by a solver that knows nothing of the problem; None if there is none."""
    bounds = [(-pixel, 1 - pixel) for pixel in x]
    if norm == "linf":
        size = len(x)
        sides = np.vstack([np.hstack([sign * np.eye(size), -np.ones((size, 1))]) for sign in (1, -1)])
        plane = np.append(normal, 0)[None]
        cost = np.append(np.zeros(size), 1)
        solution = linprog(cost, sides, np.zeros(2 * size), plane, [-value], bounds=[*bounds, (0, None)])
        return solution.fun if solution.success else None
    plane = {"type": "eq", "fun": lambda step: normal @ step + value, "jac": lambda _: normal}
    solution = minimize(
        lambda step: step @ step, np.zeros_like(x), jac=lambda step: 2 * step, bounds=bounds, constraints=[plane],
        method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    return math.sqrt(solution.fun) if solution.success and abs(normal @ solution.x + value) < 1e-8 else None


@every_norm
def test_no_shorter_step_reaches_the_plane_inside_the_box(norm):
    x, normal, value = planes()
    step = step_onto_plane(x, normal, value, norm=norm)
    reached = ((normal * step).sum(1) + value).abs() < 1e-9
    lengths = torch.linalg.vector_norm(step, ORDERS[norm], dim=1)
    expected = [smallest_length(*case, norm=norm) for case in zip(*(t.numpy() for t in planes()), strict=True)]
    assert reached.tolist() == [length is not None for length in expected]
    assert 10 < reached.sum() < 40  # some planes are out of reach
    for length, best in zip(lengths[reached].tolist(), filter(None, expected), strict=True):
        assert length == pytest.approx(best, abs=1e-5)
    assert ((x + step >= -1e-12) & (x + step <= 1 + 1e-12)).all()


@every_norm
def test_a_step_towards_a_plane_out_of_reach_ends_in_the_nearest_corner(norm):
    x, normal, value = planes()
    far = value.sign() * 100
    corner = torch.where(-normal * far[:, None] > 0, 1.0, 0.0).double()
    moved = normal != 0
    found = x + step_onto_plane(x, normal, far, norm=norm)
    torch.testing.assert_close(found[moved], corner[moved])
    assert torch.equal(found[~moved], x[~moved])


@every_norm
@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e20, 1e36])
def test_a_step_does_not_depend_on_the_scale_of_the_function(norm, scale):
    x, normal, value = (tensor.float() for tensor in planes())
    expected = step_onto_plane(x, normal, value, norm=norm)
    torch.testing.assert_close(step_onto_plane(x, normal * scale, value * scale, norm=norm), expected)


@every_norm
def test_no_step_where_the_function_is_flat_or_the_point_is_on_the_plane(norm):
    x, normal, value = planes()
    assert (step_onto_plane(x, normal * 0, value, norm=norm) == 0).all()
    assert (step_onto_plane(x, normal, value * 0, norm=norm) == 0).all()


@every_norm
def test_steps_equal_those_of_an_independent_implementation(norm):
    case = {key: torch.tensor(values, dtype=torch.float64) for key, values in VECTORS["projections"][norm].items()}
    value = (case["normals"] * case["points"]).sum(1) - case["offsets"]
    found = step_onto_plane(case["points"], case["normals"], value, norm=norm)
    torch.testing.assert_close(found, case["steps"], rtol=0, atol=1e-5)


def published_case():
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 14), nn.Tanh(), nn.Linear(14, 5))
    for layer, name in ((model[1], "1"), (model[3], "2")):
        layer.weight.data = torch.tensor(VECTORS["network"][f"W{name}"])
        layer.bias.data = torch.tensor(VECTORS["network"][f"b{name}"])
    return model, torch.tensor(VECTORS["x"]).reshape(-1, 1, 5, 5), torch.tensor(VECTORS["y"])


@every_norm
@pytest.mark.parametrize("targeted", [False, True])
def test_distances_equal_those_of_an_independent_implementation(norm, targeted, monkeypatch):
    monkeypatch.setattr("trainables.attacks.boundary.FINAL_STEPS", 0)  # it has no final search
    model, x, y = published_case()
    expected = VECTORS["distances"][norm]["targeted" if targeted else "untargeted"]
    found = fab_nearest(model, x, y, start_radius=0.3, norm=norm, targeted=targeted, steps=VECTORS["steps"])
    assert found.succeeded_B.tolist() == [distance is not None for distance in expected]
    assert found.distance_B.tolist() == pytest.approx([distance or 0.0 for distance in expected], abs=2e-4)


@every_norm
def test_the_final_search_brings_images_nearer(norm, monkeypatch):
    attack = partial(fab_nearest, *published_case(), start_radius=0.3, norm=norm, steps=5)
    with_search = attack()
    monkeypatch.setattr("trainables.attacks.boundary.FINAL_STEPS", 0)
    without = attack()
    assert torch.equal(with_search.succeeded_B, without.succeeded_B)
    assert (with_search.distance_B <= without.distance_B + 1e-7).all()
    assert (with_search.distance_B < without.distance_B).double().mean() > 0.5


def linear_network():
    """Images around mid-grey, so that the box stays out of it, and their exact distances to the nearest class."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).double()
    model[1].weight.data.mul_(30)
    model[1].bias.data = -model[1].weight.data.sum(1) / 2
    x = 0.4 + 0.2 * torch.rand(100, 1, 4, 4, generator=stream(), dtype=torch.float64)
    return model, x, model(x).argmax(1)


def exact_distances(model, x, y, *, norm):
    weight, logits = model[1].weight.detach(), model(x).detach()
    slope = weight[None] - weight[y][:, None]
    distance = (logits.gather(1, y[:, None]) - logits) / torch.linalg.vector_norm(
        slope, {"linf": 1, "l2": 2}[norm], dim=2
    )
    return distance.scatter(1, y[:, None], math.inf).amin(1)


@every_norm
@pytest.mark.parametrize("targeted", [False, True])
def test_distances_of_a_linear_model_are_exact(norm, targeted):
    model, x, y = linear_network()
    expected = exact_distances(model, x, y, norm=norm)
    found = fab_nearest(model, x, y, start_radius=0.1, norm=norm, targeted=targeted, steps=10)
    assert found.succeeded_B.all()
    ratio = found.distance_B / expected
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() <= 1.01
    assert (model(found.x_adv).argmax(1) != y).all()


@every_norm
def test_the_attack_fools_the_images_within_reach_and_no_other(norm):
    model, x, y = linear_network()
    expected = exact_distances(model, x, y, norm=norm)
    epsilon = float(expected.median())
    attacked = fab(model, x, y, epsilon=epsilon, norm=norm, steps=10)
    fooled = model(attacked).argmax(1) != y
    assert not fooled[expected > epsilon].any()
    assert fooled[expected < epsilon / 1.01].all()
    length = torch.linalg.vector_norm((attacked - x).flatten(1), ORDERS[norm], dim=1)
    torch.testing.assert_close(length[~fooled], torch.full_like(length[~fooled], epsilon))


@every_norm
@pytest.mark.parametrize("scale", [2.0**-90, 2.0**90])
def test_the_scale_of_the_logits_changes_nothing(norm, scale):
    model, x, y = published_case()
    expected = fab_nearest(model, x, y, start_radius=0.3, norm=norm, steps=8)
    model[3].weight.data *= scale
    model[3].bias.data *= scale
    found = fab_nearest(model, x, y, start_radius=0.3, norm=norm, steps=8)
    torch.testing.assert_close(found.x_adv, expected.x_adv)


@every_norm
def test_restarts_find_nothing_that_is_farther(norm):
    attack = partial(fab_nearest, *published_case(), start_radius=0.3, norm=norm, steps=5)
    once, often = attack(), attack(restarts=3, generator=stream())
    assert (often.distance_B <= once.distance_B).all()
    assert (often.distance_B < once.distance_B).any()


@every_norm
def test_restarts_draw_from_their_generator_alone(norm):
    attack = partial(fab_nearest, *published_case(), start_radius=0.3, norm=norm, steps=3, restarts=2)
    noise = stream()
    first = attack(generator=noise)
    torch.manual_seed(9)
    assert torch.equal(attack(generator=stream()).x_adv, first.x_adv)
    assert not torch.equal(noise.get_state(), stream().get_state())


def test_a_misclassified_image_is_its_own_nearest():
    model, x, y = published_case()
    found = fab_nearest(model, x, y, start_radius=0.3, steps=2)
    assert bool(found.succeeded_B[0])
    assert found.distance_B[0] == 0
    assert torch.equal(found.x_adv[0], x[0])


def test_where_no_image_is_misclassified_there_is_no_distance():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    model[1].weight.data.mul_(0.01)
    model[1].bias.data = torch.tensor([9.0, 0.0, 0.0])
    x, y = torch.rand(4, 1, 4, 4, generator=stream()), torch.zeros(4, dtype=torch.int64)
    found = fab_nearest(model, x, y, start_radius=0.3, steps=3, restarts=2, generator=stream())
    assert not found.succeeded_B.any()
    assert found.distance_B.isinf().all()
    assert torch.equal(found.x_adv, x)
    assert torch.equal(fab(model, x, y, epsilon=0.3, steps=3), x)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"norm": "l1"}, "norm: must be one of 'linf', 'l2', got 'l1'"),
        ({"steps": 0}, "steps: must be >= 1, got 0"),
        ({"restarts": 0}, "restarts: must be >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    model, x, y = published_case()
    for attack in (partial(fab, epsilon=0.1), partial(fab_nearest, start_radius=0.1)):
        with pytest.raises(ValueError, match=message):
            attack(model, x, y, **wrong)
