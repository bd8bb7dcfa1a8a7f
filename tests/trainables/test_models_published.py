"""The networks are those of the papers: their sizes, their layers, their numbers of parameters."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.config.trial import ModelConfig, TrialConfig
from trainables.mixup import Mix
from trainables.models import build
from trainables.models.layers import resolve_taps
from trainables.models.residual import PreActivationBlock
from trainables.tasks.classifier.training import train


def on_meta(name, image_shape, **settings):
    return build(ModelConfig(name=name, **settings), image_shape=image_shape, num_classes=10, device="meta")


def pixels(image_shape):
    return torch.rand(4, *image_shape, generator=torch.Generator().manual_seed(0))


def tap_shapes(model, image_shape):
    taps = model.features(torch.empty(2, *image_shape, device="meta"), taps=model.taps).taps
    return {tap: tuple(values.shape[1:]) for tap, values in taps.items()}


def num_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def blocks_of(model):
    return [module for module in model.modules() if isinstance(module, PreActivationBlock)]


# The network of the code released with the paper of soft nearest neighbours, on MNIST: 12544, 3200 and 128 values.
@pytest.mark.parametrize(
    ("image_shape", "conv1", "conv2", "penultimate"),
    [
        ((1, 28, 28), (64, 14, 14), (128, 5, 5), (128,)),
        ((3, 32, 32), (64, 16, 16), (128, 6, 6), (512,)),
        ((1, 8, 8), (64, 8, 8), (128, 3, 3), (128,)),
    ],
)
def test_cnn_leaves_as_many_pixels_as_its_docstring_says(image_shape, conv1, conv2, penultimate):
    shapes = tap_shapes(on_meta("cnn", image_shape), image_shape)
    assert shapes == {"conv1": conv1, "conv2": conv2, "penultimate": penultimate, "logits": (10,)}


@pytest.mark.parametrize(("side", "kernels"), [(27, [3, 3, 3]), (28, [8, 6, 5]), (64, [8, 6, 5]), (8, [3, 3, 3])])
def test_cnn_has_the_published_kernels_from_28_pixels_on(side, kernels):
    layers = [m for m in on_meta("cnn", (1, side, side)).modules() if isinstance(m, nn.Conv2d)]
    assert [layer.kernel_size for layer in layers] == [(size, size) for size in kernels]


def test_cnn_is_as_large_as_the_published_network():
    convolutions = (8 * 8 * 1 + 1) * 64 + (6 * 6 * 64 + 1) * 128 + (5 * 5 * 128 + 1) * 128
    assert num_parameters(on_meta("cnn", (1, 28, 28))) == convolutions + 129 * 10


def test_cnn_reads_every_tap_after_its_relu():
    model = build(ModelConfig(name="cnn", width=0.25), image_shape=(1, 28, 28), num_classes=10)
    taps = model.features(pixels((1, 28, 28)), taps=model.taps[:-1]).taps
    assert all((tap >= 0).all() and (tap > 0).any() for tap in taps.values())


# Public model tables give 11,171,146 and 21,279,306 for the pre-activation networks without a final normalisation,
# which adds 2 * 512, and 36,479,194 for the wide one ("36.5M" in its paper).
@pytest.mark.parametrize(
    ("name", "final_norm", "expected"),
    [
        ("preact_resnet18", False, 11_171_146),
        ("preact_resnet18", None, 11_172_170),
        ("preact_resnet18", True, 11_172_170),
        ("preact_resnet34", False, 21_279_306),
        ("preact_resnet34", None, 21_280_330),
        ("wide_resnet28_10", None, 36_479_194),
    ],
)
def test_residual_networks_have_the_published_number_of_parameters_on_cifar10(name, final_norm, expected):
    assert num_parameters(on_meta(name, (3, 32, 32), final_norm=final_norm)) == expected


@pytest.mark.parametrize("name", ["preact_resnet18", "preact_resnet34"])
@pytest.mark.parametrize(("side", "sides"), [(32, (32, 16, 8)), (28, (28, 14, 7))])
def test_stages_of_a_preactivation_resnet_halve_the_image_and_double_the_channels(name, side, sides):
    shapes = tap_shapes(on_meta(name, (3, side, side)), (3, side, side))
    stages = {f"stage{i + 1}": (64 * 2**i, s, s) for i, s in enumerate(sides)}
    assert shapes == {**stages, "penultimate": (512,), "logits": (10,)}


def test_stages_of_the_wide_resnet_halve_the_image_and_double_the_channels():
    shapes = tap_shapes(on_meta("wide_resnet28_10", (3, 32, 32)), (3, 32, 32))
    expected = {"stage1": (160, 32, 32), "stage2": (320, 16, 16), "penultimate": (640,), "logits": (10,)}
    assert shapes == expected


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("preact_resnet18", [2, 2, 2, 2]), ("preact_resnet34", [3, 4, 6, 3]), ("wide_resnet28_10", [4, 4, 4])],
)
def test_every_stage_has_the_published_number_of_blocks_and_only_its_first_has_a_stride(name, blocks):
    stages = [blocks_of(stage) for stage in on_meta(name, (3, 32, 32)).stages.values()]
    assert [len(stage) for stage in stages] == blocks
    strides = [[block.conv1.stride[0] for block in stage] for stage in stages]
    assert strides == [[1 if i == 0 else 2] + [1] * (count - 1) for i, count in enumerate(blocks)]
    assert all(block.conv2.stride == (1, 1) for stage in stages for block in stage)


def small_resnet(**settings):
    config = ModelConfig(name="preact_resnet18", width=0.05, **settings)
    return build(config, image_shape=(3, 16, 16), num_classes=10).eval()


@pytest.mark.parametrize(("name", "count"), [("preact_resnet18", 8), ("preact_resnet34", 16), ("wide_resnet28_10", 12)])
def test_every_residual_block_can_be_read_and_belongs_to_no_group(name, count):
    model = on_meta(name, (3, 32, 32))
    blocks = [tap for tap in model.readable if tap.startswith("block")]
    assert blocks == [f"block{number}" for number in range(1, count + 1)]
    assert set(model.readable) - set(blocks) == set(model.taps)
    assert {model.part(block).kind for block in blocks} == {"PreActivationBlock"}
    assert not {*resolve_taps("all", model), *resolve_taps("hidden", model)} & set(blocks)


def test_the_last_block_of_a_stage_is_what_its_tap_reads():
    read = small_resnet().features(pixels((3, 16, 16)), taps=("block2", "stage1", "block3", "block4", "stage2")).taps
    assert torch.equal(read["block2"], read["stage1"])
    assert torch.equal(read["block4"], read["stage2"])
    assert read["block3"].shape == read["block4"].shape
    assert not torch.equal(read["block3"], read["block4"])


def test_the_last_block_is_what_the_penultimate_features_are_pooled_from():
    read = small_resnet(final_norm=False).features(pixels((3, 16, 16)), taps=("block8", "penultimate")).taps
    assert torch.allclose(read["block8"].mean((2, 3)), read["penultimate"], atol=1e-6)


def test_to_read_blocks_changes_no_bit_of_the_logits():
    model = small_resnet()
    assert torch.equal(model.features(pixels((3, 16, 16)), taps=model.readable).logits, model(pixels((3, 16, 16))))


def test_blocks_are_measured_in_training_where_they_are_named_even_without_a_weight():
    point = {"model.name": "preact_resnet18", "model.width": 0.05, "data.fraction": 0.05, "epochs": 2}
    point |= {"evaluation.robust_epsilon": 0.0, "evaluation.epochs": (1,), "snnl.layers": "block3+block8"}
    for report in train(TrialConfig.from_point(point)).reports:
        blocks = {name for name in report.metrics if name.startswith("entanglement/block")}
        assert blocks == {"entanglement/block3", "entanglement/block8"}


def test_a_block_follows_the_mixtures_of_the_stages_before_its_own():
    model = small_resnet()
    order = torch.arange(3, -1, -1)
    for boundary in model.boundaries:
        clean = model.features(pixels((3, 16, 16)), taps=model.readable).taps
        mixed = model.features(pixels((3, 16, 16)), taps=model.readable, mix=Mix(boundary, 0.3, order)).taps
        moved = {tap for tap in model.readable if not torch.equal(clean[tap], mixed[tap])}
        assert moved == {tap for tap in model.readable if boundary == "input" or model.follows(tap, boundary)}


@pytest.mark.parametrize("name", ["preact_resnet18", "preact_resnet34", "wide_resnet28_10"])
def test_no_convolution_of_a_residual_network_has_a_bias(name):
    layers = [module for module in on_meta(name, (3, 32, 32)).modules() if isinstance(module, nn.Conv2d)]
    assert all(layer.bias is None for layer in layers)


def filled_block(channels_in, channels_out, *, stride):
    stream = torch.Generator().manual_seed(0)
    block = PreActivationBlock(channels_in, channels_out, stride=stride).double()
    for value in (*block.parameters(), *(norm.running_mean for norm in (block.norm1, block.norm2))):
        value.data.normal_(generator=stream)
    x = torch.randn(3, channels_in, 6, 6, generator=stream, dtype=torch.float64)
    return block.eval(), x


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (6, 1), (4, 2)])
def test_a_block_is_the_formula_of_preactivation(channels, stride):
    block, x = filled_block(4, channels, stride=stride)

    def activated(h, norm):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        columns = [value.reshape(1, -1, 1, 1) for value in (norm.running_mean, scale, norm.bias)]
        return ((h - columns[0]) * columns[1] + columns[2]).clamp(min=0)

    a = activated(x, block.norm1)
    branch = functional.conv2d(a, block.conv1.weight, stride=stride, padding=1)
    branch = functional.conv2d(activated(branch, block.norm2), block.conv2.weight, padding=1)
    changes = channels != 4 or stride != 1
    shortcut = functional.conv2d(a, block.shortcut.weight, stride=stride) if changes else x
    torch.testing.assert_close(block(x), branch + shortcut)


def test_a_block_of_the_same_shape_passes_its_input_on_untouched():
    block, x = filled_block(4, 4, stride=1)
    block.conv2.weight.data.zero_()
    before = x.clone()
    assert torch.equal(block(x), before)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", ["preact_resnet18", "preact_resnet34"])
def test_without_its_final_norm_a_preactivation_resnet_pools_the_last_sum(name):
    x = pixels((3, 32, 32))
    for final_norm in (True, False):
        config = ModelConfig(name=name, width=1 / 8, final_norm=final_norm)
        model = build(config, image_shape=(3, 32, 32), num_classes=10)
        taps = model.features(x, taps=("stage3", "penultimate")).taps
        state = taps["stage3"]
        for block in blocks_of(model.stages["penultimate"]):
            state = block(state)
        if final_norm:
            state = functional.batch_norm(state, None, None, training=True).relu()
        torch.testing.assert_close(taps["penultimate"], state.mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["preact_resnet18", "preact_resnet34", "wide_resnet28_10"])
def test_a_stage_is_read_and_mixed_before_the_next_activation(name):
    model = build(ModelConfig(name=name, width=1 / 8), image_shape=(3, 32, 32), num_classes=10)
    taps = model.features(pixels((3, 32, 32)), taps=model.taps[:-2]).taps
    assert all((tap < 0).any() for tap in taps.values())
