"""The optimiser and its learning-rate schedule: either of two, or one of them alone."""

from __future__ import annotations

from search_spaces.space import SearchSpace


def optimizer() -> SearchSpace:
    """Return the optimiser's parameters.

    - `optimizer.name`: sgd or adamw.
    - `optimizer.lr` [1e-4, 1]: from Adam on the small networks of the SNNL paper (1e-4; Frosst et al.,
      arXiv 1902.01889) to beyond SGD's 0.1 on residual networks (Verma et al., arXiv 1806.05236).
    - `optimizer.momentum` [0.5, 0.99], of SGD only: 0.9 in every recipe of the three methods.
    - `optimizer.weight_decay` [1e-5, 1e-2]: 1e-4 in Verma et al., 2e-4 in Madry et al. (arXiv 1706.06083),
      5e-4 in Rice et al. (arXiv 2002.11569), and the 1e-2 that is AdamW's default.
    - `optimizer.schedule`: cosine annealing to 0, or a constant rate.

    >>> optimizer().parameters["optimizer.lr"].contains(1e-3)
    True
    """
    return SearchSpace.from_dict({"use": ["optimizer"]})


def sgd() -> SearchSpace:
    """Return the parameters of stochastic gradient descent with momentum.

    - `optimizer.name`: sgd.
    - `optimizer.lr` [1e-3, 1]: 0.1 on residual networks in Verma et al. (arXiv 1806.05236) and Rice et al. (arXiv
      2002.11569), up to 0.2 at the peak of a cycle in Wong et al. (arXiv 2001.03994), 0.05 on the small networks of
      this project's own measurements; a decade more on both sides.
    - `optimizer.momentum` [0.8, 0.99]: 0.9 in every recipe of the three methods.
    - `optimizer.nesterov`: on in the code of Verma et al., off in their paper.
    - `optimizer.weight_decay` [1e-5, 5e-3]: 1e-4 in Verma et al., 2e-4 in TRADES (arXiv 1901.08573), 5e-4 in Rice et
      al. and "critical" in Pang et al. (arXiv 2010.00467).
    - `optimizer.schedule`: cosine, steps as in Verma et al. and Rice et al., one cycle as in Wong et al.

    >>> sgd().parameters["optimizer.lr"].contains(0.1)
    True
    """
    return SearchSpace.from_dict({"use": ["sgd"]})


def adamw() -> SearchSpace:
    """Return the parameters of Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101).

    - `optimizer.name`: adamw.
    - `optimizer.lr` [1e-5, 1e-2]: 1e-4 in Frosst et al. (arXiv 1902.01889), 5e-3 at the peak of a cycle in the MNIST
      recipe of Wong et al. (arXiv 2001.03994), 3e-3 in this project's own (docs/results.md).
    - `optimizer.weight_decay` [1e-4, 0.3]: multiplied by the rate in every step, so that it is larger than SGD's: 1e-2
      is PyTorch's default.
    - `optimizer.schedule`: cosine, one cycle, or constant as in Frosst et al.

    >>> adamw().parameters["optimizer.name"].value
    'adamw'
    """
    return SearchSpace.from_dict({"use": ["adamw"]})


def sam() -> SearchSpace:
    """Return the strength of sharpness-aware minimisation (Foret et al., arXiv 2010.01412); merge it with an optimizer.

    - `optimizer.sam_rho`, 0 (off) or [0.01, 0.5]: the paper's grid; 0.05 is its default.

    >>> sam().parameters["optimizer.sam_rho"].contains(0.05)
    True
    """
    return SearchSpace.from_dict({"use": ["sam"]})
