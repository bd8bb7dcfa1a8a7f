"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and Manifold Mixup (Verma et al. 2019, arXiv 1806.05236)."""

from __future__ import annotations

from search_spaces.conditions import When, not_equal
from search_spaces.domains import Choice, Float, ZeroOr
from search_spaces.space import SearchSpace


def mixup() -> SearchSpace:
    """Return the parameters of mixing: lambda ~ Beta(alpha, alpha), at a boundary drawn from a set S.

    - `mixup.alpha`, 0 (off) or [0.1, 4]: the paper's own grid, {0.1, 0.2, 0.4, 0.8, 1, 2, 4} (appendix C.1).
    - `mixup.layers`, the set S: `input` is Mixup, `hidden` the boundaries inside the network, `input+hidden`
      Manifold Mixup as published; without the input it loses accuracy (table 5).
    - `mixup.per_sample`: one lambda and boundary per batch as published, or one lambda per example, which
      "in practice gives the same performance" (section 2).

    >>> sorted(mixup().active({"mixup.alpha": 2.0}))
    ['mixup.alpha', 'mixup.layers', 'mixup.per_sample']
    """
    on = When("mixup.alpha", not_equal(0))
    return SearchSpace(
        {
            "mixup.alpha": ZeroOr(Float(0.1, 4.0, log=True)),
            "mixup.layers": Choice(["input", "hidden", "input+hidden"]),
            "mixup.per_sample": Choice([False, True]),
        },
        when={"mixup.layers": on, "mixup.per_sample": on},
    )
