"""ResizeMix (Qin et al., 2020) and two further mixtures, as batch transforms of a user's own.

    trial:
      mixup.kind: "own_batch_transform:resize_mix"
      mixup.args.low: 0.1
    space:
      parameters:
        mixup.alpha: {zero_or: {fixed: 1.0}, probability: 0.5}

`resize_mix` pastes the whole partner, made smaller, where CutMix pastes a part of it, which may show nothing of its
class. `noisy_mixup` adds noise to a blend. `within_class` returns no images but partners, so it also works at hidden
layers (`mixup.layers: hidden`).
Shapes: B images, C channels, H by W pixels, K classes.
"""

import torch
from torch import Tensor
from torch.nn import functional

from trainables.mixup import MixedBatch


def resize_mix(images: Tensor, generator: torch.Generator, low: float = 0.1, high: float = 0.8) -> MixedBatch:
    """Paste each image's partner, at a scale from U(low, high) that the batch shares, at a uniform place.

    The weight of a label is its share of the pixels. `mixup.alpha` is 1 (on) or 0 (off), as no Beta is sampled.
    """
    if not 0 < low <= high <= 1:
        raise ValueError(f"low, high: must be 0 < low <= high <= 1, got {low} and {high}")
    count, _, height, width = images.shape
    scale_1, row_1, column_1 = torch.rand(3, generator=generator, device=generator.device).tolist()
    scale = low + (high - low) * scale_1
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = int(row_1 * (height - rows + 1)), int(column_1 * (width - columns + 1))
    permutation = torch.randperm(count, generator=generator, device=generator.device)
    smaller = functional.interpolate(images[permutation], (rows, columns), mode="bilinear", antialias=True)
    images[:, :, top : top + rows, left : left + columns] = smaller.clamp(0, 1)
    return MixedBatch(images, lam=1 - rows * columns / (height * width), permutation=permutation)


def noisy_mixup(
    images: Tensor, labels: Tensor, alpha: float, num_classes: int, generator: torch.Generator, *, noise: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Blend with a share of U(0, alpha / 2) of the partner, and add noise; return images and soft targets."""
    share_B = alpha / 2 * torch.rand(len(images), generator=generator, device=images.device)
    permutation = torch.randperm(len(images), generator=generator, device=images.device)
    blended = torch.lerp(images, images[permutation], share_B[:, None, None, None])
    added = noise * torch.randn(images.shape, generator=generator, device=images.device)
    one_hot_BK = functional.one_hot(labels, num_classes).to(images.dtype)
    return (blended + added).clamp(0, 1), torch.lerp(one_hot_BK, one_hot_BK[permutation], share_B[:, None])


def within_class(labels: Tensor, alpha: float, generator: torch.Generator) -> MixedBatch:
    """Blend each image, or its hidden state, with another one of its class, by a share from U(0, alpha / 2)."""
    order = torch.randperm(len(labels), generator=generator, device=labels.device)
    by_class = order[labels[order].argsort(stable=True)]
    following = by_class.roll(-1)
    partner = torch.empty_like(order)
    partner[by_class] = torch.where(labels[following] == labels[by_class], following, by_class)
    lam_B = 1 - alpha / 2 * torch.rand(len(labels), generator=generator, device=labels.device)
    return MixedBatch(lam=lam_B, permutation=partner)
