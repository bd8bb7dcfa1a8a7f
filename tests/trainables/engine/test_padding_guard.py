"""Weights have no gradient where their kernel meets padding alone, whatever the library computes there."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainables.config.trial import TrialConfig
from trainables.engine.padding_guard import guarding, unmet_positions
from trainables.engine.placement import Placement
from trainables.tasks.classifier.training import train

KINDS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@st.composite
def convolutions(draw):
    axes = draw(st.sampled_from(sorted(KINDS)))

    def each(values):
        return tuple(draw(values) for _ in range(axes))

    kernel, size = each(st.integers(1, 4)), each(st.integers(1, 4))
    dilation = each(st.integers(1, 2))
    stride, padding = each(st.integers(1, 3)), each(st.integers(0, 3))
    if draw(st.booleans()):
        stride, padding = (1,) * axes, draw(st.sampled_from(["same", "valid"]))
    return KINDS[axes](2, 3, kernel, stride=stride, padding=padding, dilation=dilation).double(), size


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@given(convolutions())
def test_positions_that_meet_no_pixel_are_those_of_no_gradient(drawn):
    convolution, size = drawn
    try:
        output = convolution(torch.ones(1, 2, *size, dtype=torch.float64))
    except RuntimeError:  # the kernel is larger than the padded image
        return
    (gradient,) = torch.autograd.grad(output.sum(), convolution.weight)
    assert torch.equal(unmet_positions(convolution, size), gradient[0, 0] == 0)


def test_of_a_module_that_is_called_with_two_sizes_what_either_meets_keeps_its_gradient():
    convolution = nn.Conv2d(1, 1, kernel_size=3, padding=1)
    with guarding(convolution):
        convolution(torch.ones(1, 1, 1, 1))
        convolution(torch.ones(1, 1, 1, 2))
    (convolution.weight * torch.inf).sum().backward()
    assert torch.equal(convolution.weight.grad[0, 0].isinf().any(1), torch.tensor([False, True, False]))


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("stride", [2, 3])
def test_in_bfloat16_gradients_at_padding_are_zero_and_all_others_as_in_float64(size, stride):
    generator = torch.Generator().manual_seed(stride)
    convolution = nn.Conv2d(16, 32, kernel_size=3, stride=stride, padding=1)
    x = torch.randn(8, 16, size, size, generator=generator)
    with guarding(convolution):
        y = convolution(x)
    g = torch.randn(y.shape, generator=generator)
    expected = torch.nn.grad.conv2d_weight(x.double(), convolution.weight.shape, g.double(), stride=stride, padding=1)
    for _ in range(5):
        convolution.weight.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = convolution(x)
        # What the library does not write is what was freed last.
        freed = [torch.full((numbers,), torch.nan) for numbers in (1 << 16, 1 << 14, 32 * 16 * 9) for _ in range(4)]
        del freed
        y.backward(g.to(y.dtype))
        torch.testing.assert_close(convolution.weight.grad.double(), expected, rtol=0.05, atol=0.1)


def test_a_network_of_deep_features_of_one_pixel_trains_to_the_same_weights_in_bfloat16():
    point = {"model.name": "torchvision:resnet18", "epochs": 1, "batch_size": 1024, "evaluation.robust_epsilon": 0.0}
    config = TrialConfig.from_point(point)
    placement = Placement(torch.device("cpu"), torch.bfloat16)
    weights = [dict(train(config, placement=placement).model.named_parameters()) for _ in range(3)]
    for name, weight in weights[0].items():
        assert weight.isfinite().all(), name
        assert all(torch.equal(weight, other[name]) for other in weights[1:]), name
