"""Parts and fractions of the training split: stratified, disjoint, and the same images for every trial."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from trainables.config.trial import DataConfig, TrialConfig
from trainables.data import digest_of, load_splits, load_test
from trainables.data.splits import Split
from trainables.data.subsets import subset
from trainables.errors import ConfigError
from trainables.tasks.classifier.training import train


def images_of(split):
    return {image.numpy().tobytes() for image in split.images_NCHW}


def noise(num_images, *, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images_NCHW = torch.randint(256, (num_images, 1, 3, 3), generator=generator, dtype=torch.uint8)
    return Split(images_NCHW, torch.arange(num_images) % classes)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_are_disjoint_stratified_and_together_the_whole(parts):
    whole = load_splits(DataConfig()).train
    pieces = [load_splits(DataConfig(part=f"{i + 1}/{parts}")).train for i in range(parts)]
    assert sum(map(len, pieces)) == len(whole)
    assert set.union(*map(images_of, pieces)) == images_of(whole)
    assert sum(len(images_of(piece)) for piece in pieces) == len(images_of(whole))
    counts = torch.stack([piece.labels_N.bincount(minlength=10) for piece in pieces])
    expected = whole.labels_N.bincount() / parts
    assert (counts - expected).abs().max() <= 1.5


@given(fraction=st.floats(0.1, 1), size=st.integers(60, 90))
def test_a_fraction_has_its_size_and_its_share_of_every_class(fraction, size):
    whole = noise(size)
    piece = subset(whole, fraction=fraction)
    assert abs(len(piece) - fraction * size) <= 1
    shares = piece.labels_N.bincount(minlength=3) / whole.labels_N.bincount()
    assert (shares - fraction).abs().max() <= 1 / (size // 3) + 1e-6
    assert images_of(piece) <= images_of(whole)


def test_a_subset_does_not_depend_on_the_order_of_the_images():
    whole = noise(60)
    shuffled = whole.take(torch.randperm(60, generator=torch.Generator().manual_seed(1)))
    for chosen in ({"fraction": 0.3}, {"part": "2/3"}, {"fraction": 0.5, "part": "1/2"}):
        one, other = subset(whole, **chosen), subset(shuffled, **chosen)
        assert torch.equal(one.images_NCHW, other.images_NCHW)
        assert torch.equal(one.labels_N, other.labels_N)


def test_copies_of_an_image_share_a_part():
    whole = noise(40)
    twice = Split(whole.images_NCHW.repeat(2, 1, 1, 1), whole.labels_N.repeat(2))
    assert not images_of(subset(twice, part="1/2")) & images_of(subset(twice, part="2/2"))


def test_a_fraction_is_taken_of_the_part():
    part, both = (load_splits(DataConfig(part="1/2", fraction=f)).train for f in (1.0, 0.5))
    assert images_of(both) < images_of(part)
    assert len(both) == round(len(part) / 2)


def test_validation_and_test_stay_whole():
    whole, small = DataConfig(), DataConfig(fraction=0.1, part="2/2")
    assert torch.equal(load_splits(small).val.images_NCHW, load_splits(whole).val.images_NCHW)
    assert torch.equal(load_test(small).images_NCHW, load_test(whole).images_NCHW)


def test_the_whole_is_not_copied():
    assert load_splits(DataConfig()).train is load_splits(DataConfig(fraction=1.0)).train


def test_the_digest_tells_subsets_apart():
    configs = [{}, {"fraction": 0.4}, {"part": "1/2"}, {"part": "2/2"}, {"part": "1/2", "fraction": 0.5}]
    assert len({digest_of(DataConfig(**config)) for config in configs}) == len(configs)
    assert digest_of(DataConfig(part="1/1")) == digest_of(DataConfig())


def test_a_subset_does_not_depend_on_the_seed_of_the_trial():
    common = {"data.fraction": 0.2, "model.name": "mlp", "epochs": 1}
    runs = [train(TrialConfig.from_point({**common, "seed": seed})) for seed in (1, 2)]
    assert len(runs) == 2
    assert len({digest_of(TrialConfig.from_point({**common, "seed": seed}).data) for seed in (1, 2)}) == 1


def test_a_subset_without_images_of_a_class_is_refused():
    with pytest.raises(ConfigError) as caught:
        load_splits(DataConfig(fraction=0.004))
    assert str(caught.value) == (
        "data.fraction: must leave an image of every class, got 0.004 of 1078 images, 104 of the rarest class, "
        "which leaves none of class 0; choose a larger share"
    )
    with pytest.raises(ConfigError, match=r"data\.part: must leave an image of every class, got 1/99 of 60 images"):
        subset(noise(60), part="1/99")


@pytest.mark.parametrize("part", ["0/2", "3/2", "1/0", "1", "1/100", "a/b", " 1/2", "01/2"])
def test_a_part_must_be_one_of_so_many(part):
    with pytest.raises(ConfigError) as caught:
        TrialConfig.from_point({"data.part": part})
    requirement = "must be I/N with 1 <= I <= N <= 99, such as 1/2"
    assert str(caught.value) == f"data.part: {requirement}, got {part!r}"


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_a_fraction_must_be_a_share(fraction):
    with pytest.raises(ConfigError, match=r"data\.fraction: must be (> 0|<= 1)"):
        TrialConfig.from_point({"data.fraction": fraction})
