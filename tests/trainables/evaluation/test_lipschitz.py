"""Operator norms against brute force and published vectors, and the constants of every kind of layer and model."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.config.trial import ModelConfig
from trainables.evaluation.stability import operator_norms
from trainables.evaluation.stability.lipschitz import constants, module_constant
from trainables.models import MODELS, build
from trainables.models.residual import PreActivationBlock
from trainables.models.staged import StagedClassifier


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def kernel_of(out=4, into=3, size=3, *, seed=0):
    return torch.randn(out, into, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute_force(linear, shape):
    """The norm of a linear map by its whole matrix."""
    units = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    return float(torch.linalg.matrix_norm(linear(units).flatten(1), 2))


def circular(kernel, *, stride=1):
    """Wraps around, with the kernel's first pixel on the output's own pixel."""
    ahead = kernel.shape[-1] - 1
    return lambda x: functional.conv2d(functional.pad(x, (0, ahead, 0, ahead), mode="circular"), kernel, stride=stride)


@pytest.fixture
def published(mixup_vectors):
    vector = mixup_vectors["operator_norms"]
    return tensor(vector["in"]["kernel[D,C,k,k]"]), vector["in"]["n"], vector["expected"]


def test_published_circular_norms(published):
    kernel, n, expected = published
    assert operator_norms.circular_norm(kernel, (n, n)) == pytest.approx(expected["circular_stride1_opnorm"], rel=1e-9)
    assert operator_norms.circular_norm(kernel, (n, n), stride=(2, 2)) == pytest.approx(
        expected["circular_stride2_opnorm(factor 1/stride, NOT 1/stride^2)"], rel=1e-9
    )


def test_published_singular_values_of_the_circular_convolution(published):
    kernel, n, expected = published
    values = operator_norms.circular_singular_values(kernel, (n, n))
    assert values[:5].tolist() == pytest.approx(expected["circular_stride1_top5_singular_values"], rel=1e-9)
    total = expected["circular_stride1_sum_sv_sq(=n^2*||K||_F^2)"]
    assert float(values.square().sum()) == pytest.approx(total, rel=1e-9)


def test_the_published_norm_of_a_zero_padded_convolution_is_that_of_its_matrix(published):
    kernel, n, expected = published
    for stride in (1, 2):
        exact = operator_norms.unrolled_norm(kernel, (n, n), stride=(stride, stride), padding=(1, 1))
        assert exact == pytest.approx(expected[f"zeropad1_stride{stride}_opnorm_bruteforce"], rel=1e-9)


@pytest.mark.parametrize(("out", "into", "stride", "padding"), [(4, 3, 1, 1), (2, 3, 2, 0), (9, 1, 2, 2), (1, 5, 3, 1)])
def test_the_unrolled_norm_is_between_the_estimate_and_the_bound(out, into, stride, padding):
    kernel, side, stride, padding = kernel_of(out, into), (8, 6), (stride, stride), (padding, padding)
    exact = operator_norms.unrolled_norm(kernel, side, stride=stride, padding=padding, chunk=7)
    whole = brute_force(lambda x: functional.conv2d(x, kernel, stride=stride, padding=padding), (into, *side))
    assert exact == pytest.approx(whole, rel=1e-10)
    estimate = operator_norms.convolution_estimate(kernel, side, stride=stride, padding=padding)
    assert estimate.value <= exact * (1 + 1e-12)
    assert exact <= operator_norms.zero_padded_bound(kernel, side, stride=stride) * (1 + 1e-12)


def test_published_safe_bound_and_reshaped_norm(published):
    kernel, n, expected = published
    safe = expected["safe_upper_bound_for_zeropad: circular on n+k-1=8"]
    assert operator_norms.zero_padded_bound(kernel, (n, n)) == pytest.approx(safe, rel=1e-9)
    reshaped = expected["reshape_(D,Ckk)_spectral_norm(miyato, not the operator norm)"]
    assert operator_norms.reshaped_norm(kernel) == pytest.approx(reshaped, rel=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_published_norm_of_the_zero_padded_convolution_by_power_iteration(published, stride):
    kernel, n, expected = published
    result = operator_norms.convolution_estimate(kernel, (n, n), stride=(stride, stride), padding=(1, 1), steps=3000)
    assert result.value == pytest.approx(expected[f"zeropad1_stride{stride}_opnorm_bruteforce"], rel=1e-9)
    assert result.residual < 1e-6


def test_published_norm_of_a_matrix(mixup_vectors):
    vector = mixup_vectors["operator_norms"]
    result = operator_norms.matrix_norm(tensor(vector["in"]["fc_W"]))
    assert result == pytest.approx(vector["expected"]["fc_opnorm"], rel=1e-9)


def test_published_zero_padded_norm_exceeds_the_circular_one_of_its_size(mixup_vectors):
    vector = mixup_vectors["operator_norm_counterexample"]
    kernel, side = tensor(vector["in"]["kernel"]), (vector["in"]["n"],) * 2
    wrapped, padded = vector["expected"]["circular"], vector["expected"]["zeropad1"]
    assert operator_norms.circular_norm(kernel, side) == pytest.approx(wrapped, rel=1e-9)
    estimate = operator_norms.convolution_estimate(kernel, side, padding=(1, 1))
    assert estimate.value == pytest.approx(padded, rel=1e-9)
    assert operator_norms.zero_padded_bound(kernel, side) >= padded > wrapped


def test_published_max_pool_constants_are_reached(mixup_vectors):
    expected = mixup_vectors["maxpool_lipschitz"]["expected"]
    impulse = torch.zeros(1, 1, 5, 5)
    impulse[0, 0, 2, 2] = 1
    for size, stride, key in ((3, 2, "||pool3x3s2(x+r)-pool(x)||/||r||"), (2, 2, "||pool2x2s2||")):
        result = module_constant(nn.MaxPool2d(size, stride), impulse, name="pool").bound
        assert result == expected[key]
        assert float(functional.max_pool2d(impulse, size, stride).norm()) == result


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_circular_norm_is_that_of_the_whole_matrix(stride):
    kernel = kernel_of()
    expected = brute_force(circular(kernel, stride=stride), (3, 8, 8))
    assert operator_norms.circular_norm(kernel, (8, 8), stride=(stride, stride)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kernel", [kernel_of(2, 3, 5), kernel_of(3, 2, 5)], ids=["wide", "tall"])
def test_circular_norm_where_the_kernel_is_larger_than_the_image(kernel):
    def wrapped_twice(x):
        return functional.conv2d(x.repeat(1, 1, 3, 3), kernel)[:, :, :3, :3]

    expected = brute_force(wrapped_twice, (kernel.shape[1], 3, 3))
    assert operator_norms.circular_norm(kernel, (3, 3)) == pytest.approx(expected, rel=1e-9)


def test_circular_norm_of_images_that_are_not_square():
    kernel = kernel_of()
    expected = brute_force(circular(kernel), (3, 5, 6))
    assert operator_norms.circular_norm(kernel, (5, 6)) == pytest.approx(expected, rel=1e-9)


def test_circular_singular_values_are_those_of_the_fft():
    kernel = kernel_of()
    blocks = torch.fft.fft2(kernel, s=(6, 6)).permute(2, 3, 0, 1)
    expected = torch.linalg.svdvals(blocks).flatten().sort(descending=True).values
    torch.testing.assert_close(operator_norms.circular_singular_values(kernel, (6, 6)), expected, rtol=1e-9, atol=1e-7)


def test_circular_norm_refuses_a_stride_that_does_not_divide_the_side():
    with pytest.raises(ValueError, match=r"stride: must divide the side \(5, 5\), got \(2, 2\); use zero_padded_bound"):
        operator_norms.circular_norm(kernel_of(), (5, 5), stride=(2, 2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (3, 2, 0), (5, 1, 0), (4, 2, 1), (2, 3, 4), (1, 2, 0)]
)
@pytest.mark.parametrize("side", [(5, 5), (6, 7)])
def test_the_safe_bound_holds_for_every_padding_and_stride(side, size, stride, padding, seed):
    kernel = kernel_of(2, 3, size, seed=seed)
    real = brute_force(lambda x: functional.conv2d(x, kernel, stride=stride, padding=padding), (3, *side))
    bound = operator_norms.zero_padded_bound(kernel, side, stride=(stride, stride))
    estimate = operator_norms.convolution_estimate(
        kernel, side, stride=(stride, stride), padding=(padding, padding), seed=seed
    )
    assert estimate.value <= real * (1 + 1e-12) <= bound * (1 + 1e-11)
    assert estimate.value == pytest.approx(real, rel=0.01)
    if size == 1:
        assert bound == pytest.approx(real, rel=1e-9)
    if size <= min(side) - padding:
        patches_each_way = -(-size // stride)
        assert operator_norms.reshaped_norm(kernel) <= real * (1 + 1e-12)
        assert real <= patches_each_way * operator_norms.reshaped_norm(kernel) * (1 + 1e-12)


def test_power_iteration_on_a_map_that_is_zero():
    assert operator_norms.power_iteration(lambda v: 0 * v, torch.ones(3)) == operator_norms.PowerEstimate(0.0, 0.0)


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (2, 1), (2, 3)])
def test_average_pool_bound(size, stride):
    real = brute_force(lambda x: functional.avg_pool2d(x, size, stride), (1, 6, 6))
    result = module_constant(nn.AvgPool2d(size, stride), torch.zeros(1, 1, 6, 6), name="pool")
    assert result.bound >= real * (1 - 1e-12)
    if result.exact:
        assert result.bound == pytest.approx(real, rel=1e-12)


def test_adaptive_average_pool_is_exact():
    real = brute_force(lambda x: functional.adaptive_avg_pool2d(x, (2, 1)), (1, 6, 5))
    result = module_constant(nn.AdaptiveAvgPool2d((2, 1)), torch.zeros(1, 1, 6, 5), name="pool")
    assert result.bound == pytest.approx(real, rel=1e-12)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.ReLU(), 1.0),
        (nn.LeakyReLU(0.1), 1.0),
        (nn.LeakyReLU(-3.0), 3.0),
        (nn.Sigmoid(), 0.25),
        (nn.Tanh(), 1.0),
        (nn.Flatten(), 1.0),
        (nn.Identity(), 1.0),
        (nn.Dropout(0.5), 1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_constants_of_layers_without_weights(module, expected):
    assert module_constant(module, torch.zeros(1, 2, 4, 4), name="layer").bound == expected


def normalised(norm):
    """Statistics and weights as training leaves them."""
    stream = torch.Generator().manual_seed(0)
    norm.running_var.copy_(0.1 + torch.rand(norm.num_features, generator=stream))
    norm.weight.data.copy_(torch.randn(norm.num_features, generator=stream))
    return norm


def test_batch_norm_is_its_largest_scale():
    norm = normalised(nn.BatchNorm2d(3)).double().eval()
    real = brute_force(lambda x: (norm(x) - norm(0 * x)).detach(), (3, 1, 1))
    assert abs(real - 1) > 0.05
    assert module_constant(norm, torch.zeros(1, 3, 2, 2), name="norm").bound == pytest.approx(real, rel=1e-9)


def test_a_folded_batch_norm_gives_the_norm_of_both_together():
    layers = nn.Sequential(nn.Linear(4, 3), normalised(nn.BatchNorm1d(3))).eval()
    zero = layers(torch.zeros(1, 4)).detach()
    matrix = (layers(torch.eye(4)) - zero).detach().T
    result = module_constant(layers, torch.zeros(1, 4), name="fc")
    assert [part.kind for part in result.parts] == ["linear + batch norm"]
    assert result.bound == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-5)
    apart = math.prod(
        module_constant(layer, torch.zeros(1, n), name="x").bound for layer, n in zip(layers, (4, 3), strict=True)
    )
    assert result.bound < apart


@pytest.mark.parametrize(("out", "stride"), [(3, 1), (5, 2)], ids=["identity", "projection"])
def test_a_residual_block_adds_both_ways(out, stride):
    block = PreActivationBlock(3, out, stride=stride).eval()
    normalised(block.norm1)
    normalised(block.norm2)
    result = module_constant(block, torch.zeros(1, 3, 6, 6), name="block")
    opening, first, second, *shortcut = [part.bound for part in result.parts]
    expected = opening * (first * second + shortcut[0]) if shortcut else 1 + opening * (first * second)
    assert result.bound == expected
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    y = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    assert ((block(x) - block(y)).flatten(1).norm(dim=1) <= result.bound * (x - y).flatten(1).norm(dim=1)).all()


class Doubling(nn.ReLU):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "module", [nn.GELU(), nn.LocalResponseNorm(2), Doubling(), nn.ModuleList()], ids=lambda m: type(m).__name__
)
def test_an_unknown_module_is_refused_by_name(module):
    model = StagedClassifier(
        {"fc1": nn.Sequential(nn.ReLU(), module), "penultimate": nn.Flatten()}, nn.Linear(4, 2), channels=1
    )
    with pytest.raises(TypeError, match=rf"fc1\.1: no Lipschitz constant is known for {type(module).__name__}"):
        constants(model, (1, 2, 2))


@pytest.mark.parametrize(
    ("module", "requirement"),
    [
        (nn.Conv2d(2, 2, 3, groups=2), "groups must be 1"),
        (nn.Conv2d(2, 2, 3, dilation=2), "dilation must be"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "padding_mode must be 'zeros'"),
        (nn.MaxPool2d(2, dilation=2), "dilation must be"),
        (nn.AvgPool2d(2, ceil_mode=True), "ceil_mode must be False"),
        (nn.AdaptiveAvgPool2d(3), "output_size must divide the side"),
        (nn.BatchNorm2d(2, track_running_stats=False), "needs running statistics"),
    ],
    ids=["groups", "dilation", "padding", "pool-dilation", "ceil", "adaptive", "statistics"],
)
def test_a_setting_that_is_not_handled_is_refused_by_name(module, requirement):
    with pytest.raises(ValueError, match=rf"^stage\.2: .*{requirement}"):
        module_constant(module, torch.zeros(1, 2, 8, 8), name="stage.2")


def test_weights_that_are_not_finite_are_refused():
    layer = nn.Linear(2, 2)
    layer.weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match="fc: weights must be finite, got 1 that are not"):
        module_constant(layer, torch.zeros(1, 2), name="fc")


def test_training_mode_is_left_as_it_was():
    model = build(ModelConfig(name="cnn_bn", width=0.25), image_shape=(1, 8, 8), num_classes=3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    constants(model, (1, 8, 8))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_constants(name):
    width = 0.02 if name in {"preact_resnet18", "preact_resnet34", "wide_resnet28_10"} else 0.25
    model = build(ModelConfig(name=name, width=width), image_shape=(1, 8, 8), num_classes=3, std=(0.4,))
    result = constants(model, (1, 8, 8))
    assert [stage.name for stage in result] == ["input", *model.taps]
    assert result[0].bound == pytest.approx(2.5)
    leaves = [leaf for stage in result for leaf in stage]
    weights = sum(isinstance(module, nn.Linear | nn.Conv2d) for module in model.modules())
    assert sum(leaf.kind.startswith(("linear", "convolution")) for leaf in leaves) == weights
    assert all(leaf.lower <= leaf.bound * (1 + 1e-12) for leaf in leaves if leaf.lower is not None)
    assert all(stage.log10_bound == pytest.approx(math.log10(stage.bound)) for stage in result)
