"""Checks that authors call in their own tests: each passes what is right, and names the rule that is broken."""

from pathlib import Path

import pytest

from trainables.errors import ConfigError
from trainables.testing import check_batch_transform, check_optimizer, check_regularizer

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIMIZERS = """
import torch

class Base(torch.optim.Optimizer):
    def __init__(self, params, lr: float, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.move(p, group["lr"], self.state[p])

class Noisy(Base):
    def move(self, p, lr, state):
        p.sub_(p.grad + 0.1 * torch.randn_like(p), alpha=lr)

class OwnStream(Base):
    stream = torch.Generator()

    def move(self, p, lr, state):
        p.sub_(p.grad + torch.randn(p.shape, generator=self.stream), alpha=lr)

class Late(Base):
    count = 0

    def move(self, p, lr, state):
        self.count += 1
        p.sub_(p.grad, alpha=lr * (2 if self.count > 36 else 1))

class Decoupled(Base):
    def move(self, p, lr, state):
        p.mul_(1 - 0.001).sub_(p.grad, alpha=lr)

class Still(Base):
    def move(self, p, lr, state): ...
"""
TRANSFORMS = """
import torch
from trainables.mixup import MixedBatch

def global_stream(images):
    return MixedBatch(lam=0.5, permutation=torch.randperm(len(images)))

def constant(images):
    return MixedBatch(lam=0.5, permutation=torch.arange(len(images)).roll(1))

def of_one_size(images, generator):
    return MixedBatch(lam=0.5, permutation=torch.randperm(32, generator=generator))
"""
TERMS = """
import torch
from trainables.regularizers.protocol import Needs, Term

class Penalty:
    needs = Needs(layers=None, soft_labels=True)

    def term(self, batch, memory):
        n = memory.get("n", torch.zeros(()))
        return Term(batch.logits.square().mean(), metrics={"n": n}, memory={"n": n + 1})

class Infinite:
    def term(self, batch, memory):
        return batch.logits.mean() / 0

class Hidden:
    needs = Needs(layers=None)

    def __init__(self):
        self.steps = 0

    def term(self, batch, memory):
        self.steps += 1
        return batch.logits.square().mean() * self.steps

class HardOnly:
    needs = Needs(layers=None, soft_labels=True)

    def term(self, batch, memory):
        assert not batch.mixed, "takes hard labels"
        return batch.logits.square().mean()

class Detached:
    def term(self, batch, memory):
        return batch.logits.detach().mean()

class Lost:
    needs = Needs(layers=None)
    kept = []

    def term(self, batch, memory):
        n = torch.tensor(float(len(self.kept)))
        self.kept.append(1)
        return Term(batch.logits.square().mean(), memory={"n": n})
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module with all of them."""
    name = f"author_checks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OPTIMIZERS + TRANSFORMS + TERMS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    return name


@pytest.mark.parametrize("name", ["own_optimizer:Lion", "own_optimizer:lion_without_decay_of_biases", "noisy"])
def test_a_right_optimizer_passes(module, name):
    path = name if ":" in name else f"{module}:Noisy"
    metrics = check_optimizer(path, lr=1e-3 if ":" in name else 0.05, steps=4)
    assert metrics[-1]["val/accuracy"] > 0.2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OwnStream", "makes other steps once it is restored|two runs of one seed differ"),
        ("Late", "restored from its state after step 1, step [0-9]+ is another; keep what it remembers"),
        ("Decoupled", r"a rate of 0 must leave the weights unchanged; .* or pass moves_at_rate_0=True"),
        ("Still", "changes no weight in 6 steps"),
    ],
)
def test_a_wrong_optimizer_is_named_with_its_rule(module, name, expected):
    with pytest.raises((AssertionError, ConfigError), match=expected):
        check_optimizer(f"{module}:{name}", trial={"optimizer.schedule": "constant", "optimizer.warmup_epochs": 0.0})


def test_an_optimizer_may_document_that_a_rate_of_0_moves_weights(module):
    check_optimizer(f"{module}:Decoupled", steps=3, moves_at_rate_0=True)


@pytest.mark.parametrize(
    ("name", "arguments", "trial"),
    [
        ("resize_mix", {"low": 0.3}, {}),
        ("noisy_mixup", {"noise": 0.05}, {}),
        ("within_class", {}, {"mixup.layers": "input+hidden"}),
    ],
)
@pytest.mark.usefixtures("module")
def test_a_right_transform_passes(name, arguments, trial):
    path = f"own_batch_transform:{name}"
    metrics = check_batch_transform(path, arguments, image_shape=(3, 12, 9), num_classes=4, trial=trial)
    assert metrics[-1]["val/accuracy"] > 0.5


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("global_stream", "two results of one seed differ; draw from the generator that it gets"),
        ("constant", "8 seeds give one result for 2 images; draw from the generator"),
        ("of_one_size", r"must return a permutation \(2,\) of int64, got \(32,\) of int64"),
    ],
)
def test_a_wrong_transform_is_named_with_its_rule(module, name, expected):
    with pytest.raises((AssertionError, ConfigError), match=expected):
        check_batch_transform(f"{module}:{name}", image_shape=(1, 8, 8), num_classes=10)


def test_a_transform_of_ours_is_none_of_a_user():
    with pytest.raises(AssertionError, match="cutmix: is one of Ravel's own"):
        check_batch_transform("cutmix", image_shape=(1, 8, 8), num_classes=10)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("center_loss:CenterLoss", {"rate": 0.4}), ("supervised_contrastive:SupervisedContrastive", {}), ("penalty", {})],
)
def test_a_right_regularizer_passes(module, name, arguments):
    metrics = check_regularizer(name if ":" in name else f"{module}:Penalty", arguments)
    assert {"train/checked"} < {key for key in metrics[-1] if key.startswith("train/checked")}


@pytest.mark.parametrize(
    ("name", "weight", "expected"),
    [
        ("Infinite", 0.01, "a short trial on digits must stay finite, got: .*checked is not finite"),
        ("Hidden", 0.01, "a trial that is resumed after its first epoch ends with other weights and metrics"),
        ("Lost", 0.01, "a trial that is resumed after its first epoch ends with other memory"),
        ("HardOnly", 0.01, "HardOnly.term raises 'AssertionError: takes hard labels'"),
        ("Detached", 0.01, "Detached.term returns a value without a gradient"),
        ("Penalty", 1e-30, "at weight 1e-30 a trial ends in the same bits as without it; raise the weight, or"),
    ],
)
def test_a_wrong_regularizer_is_named_with_its_rule(module, name, weight, expected):
    with pytest.raises((AssertionError, ConfigError), match=expected):
        check_regularizer(f"{module}:{name}", weight=weight)


def test_a_regularizer_without_effect_may_have_it_from_its_arguments(module):
    expected = r"raise the weight, or change its arguments \(rate=0.4\), as its gradient may be 0 with these"
    with pytest.raises(AssertionError, match=expected):
        check_regularizer("center_loss:CenterLoss", {"rate": 0.4}, weight=1e-30)
    assert module
