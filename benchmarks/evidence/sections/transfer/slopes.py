"""Norms of the stages of a network, and the slopes that adversarial images meet."""

from collections.abc import Mapping, Sequence

import torch
from section import JSON
from torch import Tensor, nn

from trainables.attacks import lbfgs
from trainables.data import Split
from trainables.evaluation.core.prediction import as_pixels, logits
from trainables.evaluation.robustness.transfer import resized
from trainables.evaluation.stability.lipschitz import constants
from trainables.evaluation.stability.operator_norms import unrolled_norm
from trainables.models import TappedClassifier
from trainables.models.tapped import INPUT
from trainables.seeding import generator


def stability(model: TappedClassifier, images: Split, *, seed: int) -> dict[str, JSON]:
    """Return norms of the stages, and slopes between images and what L-BFGS, or noise of its size, makes of them.

    A slope is |f(x') - f(x)| / |x' - x|, in float64. The slopes of a stage are those of its own input and output.

    Raises:
        ValueError: a slope above its bound, which would be a fault of the bound, or no perturbation of any image.
    """
    x = as_pixels(images.images_NCHW)
    classes = logits(model, images.take(torch.arange(1))).shape[1]
    shift_N = torch.randint(1, classes, images.labels_N.shape, generator=generator(0, "transfer targets"))
    target_N = (images.labels_N + shift_N) % classes
    found = lbfgs(model, x, target_N, initial_constant=1.0, bisections=6, max_iterations=100)
    used_N = found.succeeded_B & (found.distortion_B > 0)
    if not bool(used_N.any()):
        raise ValueError(f"images: must have a perturbation that changes the answer, got none of {len(x)}")
    noise = torch.empty_like(x).normal_(generator=generator(seed, "stability noise"))
    rms_N = (found.x_adv - x).flatten(1).square().mean(1).sqrt()
    noisy = resized(x, noise, rms_N.clamp_min(1e-6))
    wide = model.double()
    stages = constants(wide, images.images_NCHW.shape[1:])
    names = [stage.name for stage in stages]
    before, after, control = (_outputs(wide, pixels[used_N].double(), names) for pixels in (x, found.x_adv, noisy))
    rows: dict[str, JSON] = {}
    for stage, previous in zip(stages, [None, *names], strict=False):
        slopes_N = _length(after[stage.name] - before[stage.name]) / _length(after[previous] - before[previous])
        largest = float(slopes_N[slopes_N.isfinite()].max())
        _require(largest, stage.bound, stage.name)
        rows[stage.name] = {"bound": stage.bound, "exact": _exact(wide, stage.name, before), "slope": largest}
    bound = float(torch.tensor([stage.bound for stage in stages], dtype=torch.float64).prod())
    moved = {kind: _length(own[None] - before[None]) for kind, own in (("lbfgs", after), ("noise", control))}
    slope = {
        kind: float((_length(own[names[-1]] - before[names[-1]]) / moved[kind]).max())
        for kind, own in (("lbfgs", after), ("noise", control))
    }
    _require(slope["lbfgs"], bound, "all stages")
    return {
        "rms": [float(value) for value in found.distortion_B],
        "found": int(found.succeeded_B.sum()),
        "bound": bound,
        "slope": slope,
        "stages": rows,
    }


def _outputs(model: TappedClassifier, x: Tensor, names: Sequence[str]) -> dict[str | None, Tensor]:
    """Return the images under None, and the output of each stage."""
    with torch.no_grad():
        read = model.features(x, taps=[name for name in names if name != INPUT])
        return {None: x, INPUT: (x - model.mean) / model.std, **read.taps}


def _length(values: Tensor) -> Tensor:
    return values.flatten(1).norm(dim=1)


def _require(slope: float, bound: float, name: str) -> None:
    if not slope <= bound * (1 + 1e-6):
        raise ValueError(f"{name}: a slope must be at most the bound {bound:.6g}, got {slope:.6g}")


def _exact(model: TappedClassifier, name: str, outputs: Mapping[str | None, Tensor]) -> float | None:
    """Return the exact norm of the linear layer of a stage; None of a stage without one."""
    if name == INPUT:
        return None
    order = list(outputs)
    layers = [layer for layer in model.chain()[name].modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if not layers:
        return None
    (layer,) = layers
    if isinstance(layer, nn.Linear):
        return float(torch.linalg.matrix_norm(layer.weight.detach(), 2))
    height, width = outputs[order[order.index(name) - 1]].shape[2:]
    padding = layer.padding if isinstance(layer.padding, str) else (layer.padding[0], layer.padding[1])
    stride = (layer.stride[0], layer.stride[1])
    return unrolled_norm(layer.weight.detach(), (height, width), stride=stride, padding=padding)
