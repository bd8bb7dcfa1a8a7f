"""RandAugment (Cubuk et al. 2020, arXiv 1909.13719): random operations on training images."""

from __future__ import annotations

from search_spaces.space import SearchSpace


def rand_augment() -> SearchSpace:
    """Return the parameters of RandAugment, or no policy (Cubuk et al., arXiv 1909.13719).

    - `data.policy`: none, or rand.
    - `data.policy_ops` [1, 3]: operations on each image, the paper's N; 3 on CIFAR-10 and SVHN, 2 on ImageNet.
    - `data.policy_magnitude` [1, 30]: strength of all operations, the paper's M; 4 to 5 on CIFAR-10 with a Wide-ResNet,
      9 on ImageNet with a ResNet-50, 28 with EfficientNet-B7.

    >>> sorted(rand_augment().active({"data.policy": "none"}))
    ['data.policy']
    """
    return SearchSpace.from_dict({"use": ["rand_augment"]})
