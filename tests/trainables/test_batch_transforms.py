"""Batch transforms of a user's own: bit for bit ours where they are the same, and beside the other methods."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from trainables import mixup
from trainables.config.sections import MixupConfig
from trainables.config.trial import TrialConfig
from trainables.config.values import Arguments
from trainables.errors import ConfigError
from trainables.import_paths import registered
from trainables.mixup import Mix, MixedBatch, interpolate
from trainables.models import build
from trainables.regularizers.batch_transforms import TransformedBatch, user_transform
from trainables.regularizers.resolved_methods import Draws, Methods, draw
from trainables.seeding import Streams
from trainables.tasks.classifier.objective import step_loss
from trainables.tasks.classifier.run import restore, start
from trainables.tasks.registry import CLASSIFIER

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {"epochs": 2, "device": "cpu", "precision": "float32", "evaluation.robust_epsilon": 0.0, "model.name": "mlp"}
OURS = """
import torch
from trainables.mixup import Boxes, MixedBatch, interpolate, paste

seen = []
PERMUTATION = torch.arange(8).roll(3)

def one_hot(labels):
    return torch.nn.functional.one_hot(labels, 10).float()

def partners(labels):
    return MixedBatch(lam=0.3, permutation=PERMUTATION)

def images_and_partners(images):
    return MixedBatch(interpolate(images, lam=0.3, permutation=PERMUTATION), lam=0.3, permutation=PERMUTATION)

def images_and_targets(images, labels):
    targets = interpolate(one_hot(labels), lam=0.3, permutation=PERMUTATION)
    return interpolate(images, lam=0.3, permutation=PERMUTATION), targets

def in_place(images, labels):
    mixed = interpolate(images, lam=0.3, permutation=PERMUTATION)
    images.copy_(mixed)
    targets = interpolate(one_hot(labels), lam=0.3, permutation=PERMUTATION)
    labels.zero_()
    return images, targets

def box(images):
    one, four = torch.tensor([1]), torch.tensor([4])
    return MixedBatch(paste(images, Boxes(one, four, one, four), permutation=PERMUTATION), lam=1 - 9 / 64,
                      permutation=PERMUTATION)

def recorded(images, labels, alpha, generator):
    seen.append((images.clone(), torch.rand(1, generator=generator).item(), alpha, torch.is_grad_enabled()))
    return MixedBatch(images, lam=1.0, permutation=torch.arange(len(images)))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a user's module."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"own_transforms_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OURS)
    return name


@pytest.fixture
def batch():
    stream = torch.Generator().manual_seed(0)
    return torch.rand(8, 1, 8, 8, generator=stream), torch.randint(10, (8,), generator=stream)


def config(**point):
    return TrialConfig.from_point({**SMALL, **point})


def loss_and_gradient(batch, clean_mix=None, **point):
    settings = config(**point)
    model = build(settings.model, image_shape=(1, 8, 8), num_classes=10).train()
    methods = Methods.resolve(settings, model, num_classes=10)
    loss = step_loss(model, *batch, num_classes=10, methods=methods, draws=Draws(clean_mix=clean_mix))
    loss.total.backward()
    return loss.total, torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


MIX = Mix("input", 0.3, torch.arange(8).roll(3))
METHODS = {
    "alone": {},
    "snnl on unmixed images": {"snnl.weight": 0.1},
    "snnl on the mixture": {"snnl.weight": 0.1, "snnl.on_mixed": True, "snnl.layers": "all"},
    "smoothed": {"loss.label_smoothing": 0.1},
}


@pytest.mark.parametrize("form", ["partners", "images_and_partners", "images_and_targets", "in_place"])
@pytest.mark.parametrize("further", METHODS.values(), ids=METHODS)
def test_each_form_of_a_blend_is_bit_for_bit_our_mixup(module, batch, form, further):
    ours = loss_and_gradient(batch, MIX, **{"mixup.alpha": 1.0}, **further)
    own = loss_and_gradient(batch, **{"mixup.kind": f"{module}:{form}", "mixup.alpha": 1.0}, **further)
    assert all(map(torch.equal, ours, own))


@pytest.mark.parametrize("further", METHODS.values(), ids=METHODS)
def test_a_pasted_box_is_bit_for_bit_our_cutmix(module, batch, further):
    one, four = torch.tensor([1]), torch.tensor([4])
    cut = Mix("input", 1 - 9 / 64, torch.arange(8).roll(3), mixup.Boxes(one, four, one, four))
    ours = loss_and_gradient(batch, cut, **{"mixup.kind": "cutmix", "mixup.alpha": 1.0}, **further)
    own = loss_and_gradient(batch, **{"mixup.kind": f"{module}:box", "mixup.alpha": 1.0}, **further)
    assert all(map(torch.equal, ours, own))


@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_partners_alone_are_bit_for_bit_manifold_mixup(module, batch, layer):
    ours = loss_and_gradient(batch, Mix(layer, 0.3, MIX.permutation), **{"mixup.alpha": 1.0, "mixup.layers": layer})
    own = {"mixup.kind": f"{module}:partners", "mixup.alpha": 1.0, "mixup.layers": layer}
    assert all(map(torch.equal, ours, loss_and_gradient(batch, **own)))


def test_partners_are_mixed_at_each_of_the_named_layers(module, batch):
    transform = user_transform(MixupConfig(kind=f"{module}:partners", alpha=1.0))
    at = [
        transform(*batch, num_classes=10, boundaries=("input", "fc1", "fc2"), seed=seed).boundary for seed in range(60)
    ]
    assert {name: at.count(name) > 10 for name in ("input", "fc1", "fc2")} == dict.fromkeys(
        ("input", "fc1", "fc2"), True
    )


def test_a_transform_that_is_off_is_not_called_and_changes_no_bit(module, batch):
    plain = loss_and_gradient(batch)
    off = loss_and_gradient(batch, **{"mixup.kind": f"{module}:recorded", "mixup.alpha": 0.0})
    assert all(map(torch.equal, plain, off))
    import importlib

    assert importlib.import_module(module).seen == []


def test_the_adversarial_batch_is_mixed_by_a_call_of_its_own(module, batch):
    import importlib

    own = {
        "mixup.kind": f"{module}:recorded",
        "mixup.alpha": 0.4,
        "adversarial.epsilon": 0.1,
        "adversarial.attack": "fgsm",
    }
    loss_and_gradient(batch, **own)
    (clean, one, alpha, grad), (attacked, other, *_) = importlib.import_module(module).seen
    assert torch.equal(clean, batch[0])
    assert 0 < float((attacked - clean).abs().max()) <= 0.1 + 1e-6
    assert one != other
    assert (alpha, grad) == (0.4, False)


def test_trades_mixes_the_clean_batch_alone(module, batch):
    import importlib

    own = {"mixup.kind": f"{module}:recorded", "mixup.alpha": 0.4}
    settings = config(**own, **{"adversarial.epsilon": 0.1, "adversarial.attack": "trades", "adversarial.steps": 1})
    model = build(settings.model, image_shape=(1, 8, 8), num_classes=10).train()
    methods = Methods.resolve(settings, model, num_classes=10)
    draws = draw(batch[0], methods=methods, streams=Streams.from_seed(0))
    assert draws.clean_mix is None
    step_loss(model, *batch, num_classes=10, methods=methods, draws=draws)
    assert len(importlib.import_module(module).seen) == 1


@pytest.mark.parametrize(
    "point",
    [
        {"mixup.kind": "own_batch_transform:resize_mix", "mixup.args.low": 0.3, "mixup.alpha": 1.0},
        {
            "mixup.kind": "own_batch_transform:noisy_mixup",
            "mixup.alpha": 0.6,
            "snnl.weight": 0.1,
            "snnl.on_mixed": True,
        },
        {"mixup.kind": "own_batch_transform:within_class", "mixup.alpha": 1.0, "mixup.layers": "input+hidden"},
        {"mixup.kind": "own_batch_transform:resize_mix", "mixup.alpha": 1.0, "adversarial.epsilon": 0.1},
    ],
)
@pytest.mark.usefixtures("module")
def test_a_resumed_trial_ends_in_the_same_bits(point, tmp_path):
    whole, first = start(config(**point)), start(config(**point))
    whole.run_all()
    first.run_epoch()
    first.save(tmp_path)
    resumed = restore(tmp_path, config=config(**point))
    resumed.run_all()
    assert all(map(torch.equal, whole.run.model.state_dict().values(), resumed.run.model.state_dict().values()))
    other = start(config(**point, seed=1))
    other.run_all()
    assert not torch.equal(other.run.model.head.weight, whole.run.model.head.weight)


def test_a_wrong_result_in_a_later_step_fails_the_trial(module, tmp_path):
    late = "\ndef late(images, labels):\n    seen.append(1)\n"
    late += "    return (images, one_hot(labels)) if len(seen) < 5 else 3\n"
    (tmp_path / f"{module}.py").write_text(OURS + late)
    loop = start(config(**{"mixup.kind": f"{module}:late", "mixup.alpha": 1.0}))
    with pytest.raises(
        ConfigError, match=r"mixup.kind: late must return a MixedBatch or \(images, targets\), got int 3"
    ):
        loop.run_epoch()


def test_an_installed_package_registers_a_transform(tmp_path, monkeypatch, module):
    folder = tmp_path / "mixing-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mixing\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[ravel.batch_transforms]\nhalves = {module}:partners\n")
    monkeypatch.syspath_prepend(tmp_path)
    registered.cache_clear()
    try:
        assert user_transform(MixupConfig(kind="halves", alpha=1.0)).name == "partners"
        assert CLASSIFIER.accepts("mixup.args.low")
    finally:
        registered.cache_clear()


# The examples against their definitions


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import own_batch_transform

    return own_batch_transform


@pytest.mark.parametrize("seed", range(10))
def test_resize_mix_pastes_the_whole_partner_and_weighs_it_by_its_share_of_pixels(example, seed):
    stream = partial(torch.Generator().manual_seed, seed)
    levels = torch.linspace(0.1, 0.8, 8)[:, None, None, None].expand(8, 3, 20, 20)
    mixed = example.resize_mix(levels.clone(), stream())
    changed = (mixed.images - levels).abs() > 1e-4
    partner = levels[mixed.permutation]
    torch.testing.assert_close(mixed.images[changed], partner[changed])
    moved = mixed.permutation != torch.arange(8)
    torch.testing.assert_close(changed[moved].float().mean((1, 2, 3)), torch.full((int(moved.sum()),), 1 - mixed.lam))


def test_noisy_mixup_without_noise_is_a_blend_of_images_and_targets(example):
    x, y = torch.rand(16, 1, 4, 4), torch.arange(16) % 5
    mixed = MixedBatch(*example.noisy_mixup(x, y, 1.0, 5, torch.Generator().manual_seed(0), noise=0.0))
    own = functional.one_hot(y, 5)
    lam = (mixed.targets * own).sum(1)
    partner = functional.one_hot(mixed.targets.sub(lam[:, None] * own).argmax(1), 5).float()
    pure = lam > 1 - 1e-6
    partner[pure] = own[pure].float()
    torch.testing.assert_close(mixed.targets, lam[:, None] * own + (1 - lam)[:, None] * partner)
    assert float(lam.min()) >= 0.5


def test_partners_within_a_class_are_of_one_class(example):
    y = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    for seed in range(20):
        mixed = example.within_class(y, 1.0, torch.Generator().manual_seed(seed))
        assert torch.equal(y[mixed.permutation], y)


def test_the_transform_of_the_page_is_right(tmp_path, monkeypatch, batch):
    page = (EXAMPLES.parent / "docs" / "training.md").read_text()
    [block] = re.findall(r"^```python\n(# my_mixing.py\n.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "my_mixing.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    transform = user_transform(MixupConfig(kind="my_mixing:halves", args=Arguments(rows=2), alpha=1.0))
    mixed = transform(*batch, num_classes=10, boundaries=("input",), seed=0)
    assert torch.equal(mixed.images[:, :, 2:], batch[0][:, :, 2:])
    assert not torch.equal(mixed.images[:, :, :2], batch[0][:, :, :2])


def test_a_transformed_batch_has_the_targets_of_its_partners(module, batch):
    transform = user_transform(MixupConfig(kind=f"{module}:images_and_partners", alpha=1.0))
    mixed = transform(*batch, num_classes=10, boundaries=("input",), seed=0)
    assert isinstance(mixed, TransformedBatch)
    one_hot = functional.one_hot(batch[1], 10).float()
    assert torch.equal(mixed.targets, interpolate(one_hot, lam=0.3, permutation=MIX.permutation))
