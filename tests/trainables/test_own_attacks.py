"""Attacks of a user's own in training, by import path, and what is refused of them."""

import pytest
import torch

from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError
from trainables.regularizers.preflight_checks import check_arguments, check_regularizers
from trainables.tasks.classifier.run import start
from trainables.tasks.registry import CLASSIFIER

SMALL = {"epochs": 1, "device": "cpu", "precision": "float32", "evaluation.robust_epsilon": 0.0, "model.name": "mlp"}
SIGNED = """
import torch

def sign(model, x, y, epsilon, steps, *, momentum: float = 0.0):
    x_adv = x
    for _ in range(steps):
        leaf = x_adv.detach().requires_grad_()
        (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(leaf), y, reduction="sum"), leaf)
        x_adv = (x_adv + epsilon * slope.sign()).clamp(x - epsilon, x + epsilon).clamp(0, 1)
    return x_adv

def noise(model, x, y, epsilon, generator):
    assert not model.training
    return (x + epsilon * (2 * torch.rand(x.shape, generator=generator) - 1)).clamp(0, 1)

def far(model, x, y):
    return 1 - x

def outside(x, epsilon):
    return x - epsilon

def flat(x):
    return x.flatten(1)

def nothing(x): ...

def late(model, x, y):
    return model(x)[:, 99]

missing = 3
"""


@pytest.fixture
def attack(tmp_path, monkeypatch):
    """Return a function that gives the point of an attack in a module of the user."""
    name = f"own_attacks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(SIGNED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def point(function, **arguments):
        size = {"adversarial.epsilon": 0.1, "adversarial.steps": 1}
        return {"adversarial.attack": f"{name}:{function}", **size, **arguments}

    return point


def weights(point):
    loop = start(TrialConfig.from_point({**SMALL, **point}))
    loop.run_epoch()
    return torch.cat([value.flatten().double() for value in loop.run.model.state_dict().values()])


def test_one_signed_step_is_fgsm(attack):
    assert torch.equal(weights(attack("sign")), weights({"adversarial.attack": "fgsm", "adversarial.epsilon": 0.1}))


def test_the_noise_of_an_attack_depends_on_the_seed_alone(attack):
    assert torch.equal(weights(attack("noise")), weights(attack("noise")))
    assert not torch.equal(weights(attack("noise")), weights(attack("noise", seed=1)))


def test_an_attack_costs_its_steps():
    point = {"adversarial.attack": "mine:attack", "adversarial.epsilon": 0.1, "adversarial.steps": 5}
    assert CLASSIFIER.passes_per_epoch(point) == 6
    assert TrialConfig.from_point({**point, "adversarial.args.momentum": 0.9}).adversarial.args.momentum == 0.9


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("sgn", {}, "has no 'sgn'; did you mean 'sign'?"),
        ("missing", {}, r"adversarial.attack: must name a function \(model, x, y, ...\), got 3"),
        ("sign", {"adversarial.args.momentm": 0.9}, "adversarial.args.momentm: .*did you mean 'momentum'"),
        ("sign", {"adversarial.args.momentum": "high"}, "adversarial.args.momentum: must be a float, got 'high'"),
        ("sign", {"adversarial.args.epsilon": 0.1}, "adversarial.args.epsilon: Ravel passes this argument itself"),
        (
            "far",
            {},
            r"far must stay within epsilon \(0.1, linf\) of the images, moved one by 0.9.*; project its result",
        ),
        ("far", {"adversarial.norm": "l2"}, r"far must stay within epsilon \(0.1, l2\) of the images"),
        ("outside", {}, r"outside must keep pixels in \[0, 1\], got -0.0.* to 0.*; clamp its result"),
        ("flat", {}, r"must return images of \(32, 1, 8, 8\) torch.float32, got \(32, 64\) torch.float32"),
        ("nothing", {}, "nothing must return images, got None"),
        ("late", {}, r"late raises 'IndexError: .*own_attacks.*, line 28"),
    ],
)
def test_a_wrong_attack_is_refused_before_training(attack, function, arguments, expected):
    settings = TrialConfig.from_point({**SMALL, **attack(function, **arguments)})
    with pytest.raises(ConfigError, match=expected):
        _check(settings)


def _check(settings):
    check_arguments(settings)
    check_regularizers(settings)


def test_a_step_that_leaves_the_ball_fails_the_trial(attack):
    with pytest.raises(ConfigError, match=r"adversarial.attack: far must stay within epsilon"):
        weights(attack("far"))


def test_a_name_that_is_no_attack_is_met_with_ours():
    with pytest.raises(ConfigError, match=r"adversarial.attack: must be one of 'fgsm', .* or 'mart'"):
        TrialConfig.from_point({"adversarial.attack": "pdg"})
