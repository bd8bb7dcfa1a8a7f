"""Dropout (Srivastava et al., JMLR 2014) in the networks of the project."""

from __future__ import annotations

from search_spaces.space import SearchSpace


def dropout() -> SearchSpace:
    """Return the rate of dropout.

    - `model.dropout`, 0 (off) or [0.05, 0.7]: 0.5 on hidden layers in Srivastava et al., 0.3 on CIFAR and 0.4 on SVHN
      in the blocks of a Wide-ResNet (Zagoruyko and Komodakis, arXiv 1605.07146).

    >>> dropout().contains({"model.dropout": 0.5}), dropout().contains({"model.dropout": 0.9})
    (True, False)
    """
    return SearchSpace.from_dict({"use": ["dropout"]})
