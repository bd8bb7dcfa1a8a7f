"""Synchronised batch normalisation in one process: torch's own results, for every kind of layer and dtype."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.engine import sync_batch_norm
from trainables.engine.share import WHOLE, Share
from trainables.engine.sync_batch_norm import synchronised

LAYERS = {
    "1d": (nn.BatchNorm1d, (6, 3)),
    "1d, with a length": (nn.BatchNorm1d, (4, 3, 5)),
    "2d": (nn.BatchNorm2d, (4, 3, 5, 2)),
    "3d": (nn.BatchNorm3d, (2, 3, 4, 2, 2)),
}
KINDS = {
    "usual": {},
    "cumulative": {"momentum": None},
    "not affine": {"affine": False},
    "without running statistics": {"track_running_stats": False},
}


def after_two_steps(layer, shape, dtype, *, ours):
    """Return outputs, gradients of the inputs and the state of a layer after two passes."""
    stream, seen = torch.Generator().manual_seed(1), []
    for _ in range(2):
        x = (3 * torch.randn(shape, generator=stream) + 1).to(dtype).requires_grad_()
        with sync_batch_norm._Synchronised(WHOLE) if ours else synchronised(WHOLE, is_on=True):
            y = layer(x)
        y.float().square().mul(torch.arange(y.numel()).view(shape)).sum().backward()
        seen += [y.detach(), x.grad]
    return [*seen, *layer.state_dict().values()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_one_share_is_normalised_as_torch_does(name, kind, dtype, rtol):
    cls, shape = LAYERS[name]
    of_weights = torch.float32 if dtype == torch.bfloat16 else dtype  # as under autocast
    layers = [cls(3, dtype=of_weights, **KINDS[kind]) for _ in range(2)]
    ours, theirs = (
        after_two_steps(layer, shape, dtype, ours=is_ours) for layer, is_ours in zip(layers, (True, False), strict=True)
    )
    for own, expected in zip(ours, theirs, strict=True):
        assert own.dtype == expected.dtype
        torch.testing.assert_close(own, expected, rtol=rtol, atol=rtol * float(expected.abs().max()))


def test_a_layer_in_eval_mode_takes_its_running_statistics():
    layer, x = nn.BatchNorm2d(3).eval(), torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    expected = layer(x)
    with synchronised(Share(1, 2), is_on=True):
        assert torch.equal(layer(x), expected)


def test_nothing_is_changed_where_it_is_off_or_the_process_alone():
    for share, is_on in ((Share(1, 2), False), (WHOLE, True)):
        with synchronised(share, is_on=is_on):
            assert functional.batch_norm(torch.eye(2), None, None, training=True).shape == (2, 2)
            assert torch.overrides._get_current_function_mode() is None
