"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and Manifold Mixup (Verma et al. 2019, arXiv 1806.05236)."""

from __future__ import annotations

from search_spaces.space import SearchSpace


def mixup() -> SearchSpace:
    """Return the parameters of mixing: lambda ~ Beta(alpha, alpha), at a boundary sampled from a set S.

    - `mixup.alpha`, 0 (off) or [0.1, 4]: the grid of Verma et al., {0.1, 0.2, 0.4, 0.8, 1, 2, 4} (appendix C.1).
    - `mixup.layers`, the set S: `input` is Mixup, `hidden` the boundaries inside the network, `input+hidden`
      Manifold Mixup as published; without the input it loses accuracy (table 5).
    - `mixup.per_sample`: one lambda and boundary per batch as published, or one lambda per example, which
      "in practice gives the same performance" (section 2).

    >>> sorted(mixup().active({"mixup.alpha": 2.0}))
    ['mixup.alpha', 'mixup.layers', 'mixup.per_sample']
    """
    return SearchSpace.from_dict({"use": ["mixup"]})


def input_mixup() -> SearchSpace:
    """Return the parameters of mixing images alone: Zhang et al., or CutMix (Yun et al. 2019, arXiv 1905.04899).

    - `mixup.alpha`, 0 (off) or [0.1, 4]: 1 on CIFAR and SVHN, 0.2 on Tiny ImageNet in Verma et al. (appendix C.1).
    - `mixup.layers`: the input.
    - `mixup.kind`: a blend of two images, or a box of one pasted into the other.
    - `mixup.per_sample`: one lambda per batch, or one per example.

    >>> input_mixup().parameters["mixup.kind"].options
    ('mixup', 'cutmix')
    """
    return SearchSpace.from_dict({"use": ["input_mixup"]})


def manifold_mixup() -> SearchSpace:
    """Return the parameters of mixing at a boundary sampled for each batch, the input included.

    - `mixup.alpha`, 0 (off) or [0.2, 8]: 2 on CIFAR and SVHN, twice what input mixup takes, and 0.2 on Tiny ImageNet
      (Verma et al., appendix C.1, whose grid ends at 4); 8 leaves room above it.
    - `mixup.layers`: the input and every boundary inside the network, as published, or the latter alone, which table 5
      finds less accurate.
    - `mixup.detached`: stops the gradient at the mixture, the ablation of section 5.1, which costs accuracy: False.
    - `mixup.per_sample`: one lambda and boundary per batch, or one per example.

    >>> manifold_mixup().parameters["mixup.layers"].options
    ('input+hidden', 'hidden')
    """
    return SearchSpace.from_dict({"use": ["manifold_mixup"]})
