"""Operations of a policy are torchvision's, on whole batches; what is sampled does not depend on the device."""

import math

import pytest
import torch

from trainables._torchvision import import_torchvision
from trainables.config.trial import DataConfig, TrialConfig
from trainables.data.augmentation.augmentation import Augmentation, augment
from trainables.data.augmentation.policies import BINS, NAMES, Policy, apply_policy, draw_policy, magnitudes
from trainables.tasks.classifier.training import train

# Blends are computed in float32 in another order; a level that is cut off at a whole number can then be the next one.
EXACT, ONE_LEVEL = 0, 1
TOLERANCE = dict.fromkeys(NAMES, EXACT) | dict.fromkeys(
    ("brightness", "color", "contrast", "sharpness", "autocontrast"), ONE_LEVEL
)
TORCHVISION = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "color": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def levels(batch=24, channels=3, height=32, width=28):
    """Smooth images with noise, some dark and some of few levels, as uint8."""
    coarse = torch.rand((batch, channels, 5, 4), generator=stream())
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    noise = torch.rand((batch, channels, height, width), generator=stream(1)) * 0.1
    darker = torch.linspace(0.2, 1.0, batch)[:, None, None, None]
    return ((smooth + noise).clamp(0, 1) * darker * 255).round().to(torch.uint8)


def space(kind, size):
    transforms = import_torchvision("torchvision.transforms")
    if kind == "trivial":
        return transforms.TrivialAugmentWide()._augmentation_space(BINS)
    return transforms.RandAugment()._augmentation_space(BINS, size)


@pytest.mark.parametrize("kind", ["trivial", "rand"])
@pytest.mark.parametrize("size", [(32, 32), (28, 40)])
def test_operations_and_their_magnitudes_are_those_of_torchvision(kind, size):
    theirs = space(kind, size)
    assert [TORCHVISION[name] for name in NAMES] == list(theirs)
    ours = magnitudes(kind, size=size)
    for index, (values, _) in enumerate(theirs.values()):
        torch.testing.assert_close(ours[index], values.float().expand(BINS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["trivial", "rand"])
def test_each_operation_equals_that_of_torchvision(kind, name, channels):
    apply_op = import_torchvision("torchvision.transforms.autoaugment")._apply_op
    nearest = import_torchvision("torchvision.transforms").InterpolationMode.NEAREST
    images = levels(channels=channels)
    size = images.shape[2:]
    values, signed = space(kind, tuple(size))[TORCHVISION[name]]
    bins = torch.linspace(0, BINS - 1, len(images)).round().long()
    chosen = values[bins].float() if values.ndim else torch.zeros(len(images))
    chosen = chosen * torch.where(torch.arange(len(images)) % 2 == 0, 1.0, -1.0) if signed else chosen
    expected = torch.stack(
        [apply_op(image, TORCHVISION[name], float(m), nearest, None) for image, m in zip(images, chosen, strict=True)]
    )
    sampled = draw_policy(images.shape, policy=Policy("trivial"), generator=stream())
    sampled = type(sampled)(
        operations_SB=torch.full((1, len(images)), NAMES.index(name)),
        magnitudes_SB=chosen[None],
        boxes_B4=sampled.boxes_B4,
        noise_ECHW=sampled.noise_ECHW,
    )
    ours = (apply_policy(images.float() / 255, sampled) * 255).round()
    difference = (ours - expected.float()).abs()
    assert difference.max() <= TOLERANCE[name]
    assert (difference > 0).float().mean() <= 0.001


def test_operations_of_a_policy_follow_each_other():
    images = levels().float() / 255
    both = draw_policy(images.shape, policy=Policy("rand", ops=2, magnitude=20), generator=stream())
    halves = [
        type(both)(both.operations_SB[i : i + 1], both.magnitudes_SB[i : i + 1], both.boxes_B4, both.noise_ECHW)
        for i in range(2)
    ]
    assert torch.equal(apply_policy(images, both), apply_policy(apply_policy(images, halves[0]), halves[1]))


def test_every_operation_is_sampled_equally_often_and_either_sign():
    sampled = draw_policy((14_000, 1, 8, 8), policy=Policy("trivial"), generator=stream())
    counts = sampled.operations_SB.flatten().bincount(minlength=len(NAMES))
    assert (counts - 1000).abs().max() < 5 * math.sqrt(1000)
    turns = sampled.magnitudes_SB[sampled.operations_SB == NAMES.index("rotate")]
    assert abs(float((turns < 0).float().mean()) - 0.5) < 0.1
    assert turns.abs().unique().numel() == BINS
    assert (sampled.magnitudes_SB[sampled.operations_SB == NAMES.index("solarize")] >= 0).all()


def test_rand_takes_one_magnitude_and_several_operations():
    sampled = draw_policy((500, 3, 32, 32), policy=Policy("rand", ops=3, magnitude=30), generator=stream())
    assert sampled.operations_SB.shape == (3, 500)
    assert sampled.magnitudes_SB[sampled.operations_SB == NAMES.index("rotate")].abs().unique().tolist() == [30.0]


def test_erasing_fills_boxes_of_the_published_areas_and_ratios():
    images = torch.full((4000, 1, 32, 32), 2.0)
    erased = augment(images, settings=Augmentation(policy=Policy(erasing=0.5)), generator=stream())
    changed = (erased != 2).squeeze(1)
    areas = changed.flatten(1).sum(1)
    assert abs(float((areas > 0).float().mean()) - 0.5) < 0.04
    boxes = changed[areas > 0]
    high, wide = boxes.any(2).sum(1), boxes.any(1).sum(1)
    assert torch.equal(high * wide, boxes.flatten(1).sum(1))  # rectangles
    share = high * wide / 32**2
    assert 0.015 < share.min() < 0.03
    assert 0.3 < share.max() < 0.345
    assert abs(float(share.mean()) - (0.02 + 1 / 3) / 2) < 0.02
    ratio = (high / wide).log()
    assert abs(float(ratio.mean())) < 0.05
    assert ratio.abs().max() < math.log(1 / 0.3) + 0.15
    noise = erased[changed[:, None]]
    assert abs(float(noise.mean()) - 0.5) < 0.01
    assert noise.min() >= 0
    assert noise.max() < 1


@pytest.mark.parametrize("policy", [Policy("trivial"), Policy("rand"), Policy(erasing=1.0)])
def test_equal_generators_vary_equally_and_each_image_by_itself(policy):
    settings, images = Augmentation(policy=policy), levels().float() / 255
    once, twice = (augment(images, settings=settings, generator=stream(7)) for _ in range(2))
    assert torch.equal(once, twice)
    assert not torch.equal(once, augment(images, settings=settings, generator=stream(8)))
    assert once.min() >= 0
    assert once.max() <= 1
    assert torch.equal(images, levels().float() / 255)  # the input is not written to


def test_a_policy_changes_no_number_of_the_other_variations():
    plain = Augmentation(crop_padding=2, flip=True)
    with_policy = Augmentation(crop_padding=2, flip=True, policy=Policy("trivial", erasing=0.3))
    one, other = stream(3), stream(3)
    for _ in range(3):
        augment(levels().float() / 255, settings=plain, generator=one)
        augment(levels().float() / 255, settings=with_policy, generator=other)
        assert torch.equal(one.get_state(), other.get_state())


def test_operations_survive_tiny_and_many_channelled_images():
    for shape in ((40, 2, 1, 1), (40, 4, 2, 5), (40, 1, 3, 3)):
        images = torch.rand(shape, generator=stream())
        varied = augment(images, settings=Augmentation(policy=Policy("trivial", erasing=1.0)), generator=stream())
        assert varied.shape == shape
        assert varied.isfinite().all()


@pytest.mark.parametrize("wrong", [{"ops": 0}, {"magnitude": 31}, {"magnitude": -1}, {"erasing": 1.5}])
def test_a_policy_cannot_be_wrong(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}: must be"):
        Policy("rand", **wrong)


def test_settings_come_from_the_configuration():
    config = DataConfig(policy="rand", policy_ops=3, policy_magnitude=12, erasing=0.25)
    assert Augmentation.from_config(config).policy == Policy("rand", ops=3, magnitude=12, erasing=0.25)
    assert Augmentation.from_config(DataConfig()).is_identity


def test_a_trial_trains_under_a_policy_and_repeats_bit_for_bit():
    point = {"data.fraction": 0.2, "model.name": "mlp", "epochs": 1, "data.policy": "trivial", "data.erasing": 0.5}
    off = {**point, "data.policy": "none", "data.erasing": 0.0}
    first, second, plain = (train(TrialConfig.from_point(p)).metrics["train/loss"] for p in (point, point, off))
    assert first == second != plain


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_applies_the_same_operations():
    settings, images = Augmentation(policy=Policy("trivial", erasing=0.5)), levels().float() / 255
    here, there = (augment(images.to(device), settings=settings, generator=stream()) for device in ("cpu", "cuda"))
    assert ((here - there.cpu()).abs() * 255).max() <= ONE_LEVEL + 1e-3
