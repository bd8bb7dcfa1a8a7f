"""The optimiser and its learning-rate schedule."""

from __future__ import annotations

from search_spaces.conditions import When
from search_spaces.domains import Choice, Float
from search_spaces.space import SearchSpace


def optimizer() -> SearchSpace:
    """Return the optimiser's parameters.

    - `optimizer.lr` [1e-4, 1]: from Adam on the small networks of the SNNL paper (1e-4; Frosst et al.,
      arXiv 1902.01889) to beyond SGD's 0.1 on residual networks (Verma et al., arXiv 1806.05236).
    - `optimizer.momentum` [0.5, 0.99], of SGD only: 0.9 in every recipe of the three methods.
    - `optimizer.weight_decay` [1e-5, 1e-2]: 1e-4 in Verma et al., 2e-4 in Madry et al. (arXiv 1706.06083),
      5e-4 in Rice et al. (arXiv 2002.11569), and the 1e-2 that is AdamW's default.
    - `optimizer.schedule`: cosine annealing to 0, or a constant rate.

    >>> optimizer().parameters["optimizer.lr"].contains(1e-3)
    True
    """
    return SearchSpace(
        {
            "optimizer.name": Choice(["sgd", "adamw"]),
            "optimizer.lr": Float(1e-4, 1.0, log=True),
            "optimizer.momentum": Float(0.5, 0.99),
            "optimizer.weight_decay": Float(1e-5, 1e-2, log=True),
            "optimizer.schedule": Choice(["cosine", "constant"]),
        },
        when={"optimizer.momentum": When("optimizer.name", "sgd")},
    )
