"""Adversarial training: FGSM with a random start (Wong et al. 2020) and PGD (Madry et al. 2018)."""

from __future__ import annotations

from search_spaces.conditions.condition import When, not_equal
from search_spaces.domains.types import Choice, Domain, Fixed, Float, Int, ZeroOr
from search_spaces.space import SearchSpace


def adversarial() -> SearchSpace:
    """Return the parameters of the attack inside the training step; images are in [0, 1].

    - `adversarial.epsilon`, 0 (off) or [0.01, 0.3] in pixel units: spans the 8/255 = 0.031 usual on CIFAR-10
      and the 0.3 of MNIST (Madry et al., arXiv 1706.06083).
    - `adversarial.norm`: Linf, in which all of these sources measure.
    - `adversarial.attack`: one step from a random start (FGSM-RS) or several (PGD).
    - `adversarial.steps` [2, 10], of PGD only: 7 or 10 in training by Madry et al. and Rice et al.
      (arXiv 2002.11569).
    - `adversarial.relative_step` [0.1, 1.5], in units of epsilon: FGSM-RS works at 0.75 to 1.25 (Rice et al.;
      Wong et al., arXiv 2001.03994), PGD-10 at 0.25; a larger FGSM-RS step invites catastrophic overfitting.
    - `adversarial.clean_fraction` [0, 1], the weight of the clean cross-entropy: 0 is Madry et al., 1/2 is
      Goodfellow et al. (2015, arXiv 1412.6572).

    >>> point = {"adversarial.epsilon": 0.1, "adversarial.attack": "fgsm_rs"}
    >>> "adversarial.steps" in adversarial().active(point)
    False
    """
    on = When("adversarial.epsilon", not_equal(0))
    return SearchSpace(
        {
            "adversarial.epsilon": ZeroOr(Float(0.01, 0.3, log=True)),
            "adversarial.norm": Fixed("linf"),
            "adversarial.attack": Choice(["fgsm_rs", "pgd"]),
            "adversarial.steps": Int(2, 10),
            "adversarial.relative_step": Float(0.1, 1.5, log=True),
            "adversarial.clean_fraction": Float(0.0, 1.0),
        },
        when={
            "adversarial.norm": on,
            "adversarial.attack": on,
            "adversarial.steps": [on, When("adversarial.attack", "pgd")],
            "adversarial.relative_step": on,
            "adversarial.clean_fraction": on,
        },
    )


def fgsm_rs() -> SearchSpace:
    """Return the parameters of training against one step from a random start (Wong et al., arXiv 2001.03994).

    - `adversarial.epsilon`, 0 (off) or [0.01, 0.3]; `adversarial.norm`, Linf; `adversarial.attack`, fgsm_rs.
    - `adversarial.relative_step` [0.5, 1.25]: 0.75 to 0.875 held for 200 epochs in Rice et al. (arXiv 2002.11569), 1.25
      is Wong et al.'s; a larger one overfits to the attack.
    - `adversarial.clean_fraction` [0, 0.5]: 0 as published; a share of clean images lets small networks leave chance at
      a large epsilon (docs/results.md).
    - `adversarial.max_robust_drop`: 0.2 ends a trial that overfits to its attack, as in Wong et al.'s code.

    >>> fgsm_rs().parameters["adversarial.attack"].value
    'fgsm_rs'
    """
    return _against(
        {
            "adversarial.attack": Fixed("fgsm_rs"),
            "adversarial.relative_step": Float(0.5, 1.25),
            "adversarial.clean_fraction": Float(0.0, 0.5),
            "adversarial.max_robust_drop": Fixed(0.2),
        }
    )


def pgd() -> SearchSpace:
    """Return the parameters of training against projected gradient descent (Madry et al., arXiv 1706.06083).

    - `adversarial.epsilon`, 0 (off) or [0.01, 0.3]; `adversarial.norm`, Linf; `adversarial.attack`, pgd.
    - `adversarial.steps` [2, 40]: 7 on CIFAR-10 and 40 on MNIST in Madry et al., 10 in Rice et al.; log, as each step
      costs a pass.
    - `adversarial.relative_step` [0.03, 1]: 0.033 (0.01 of 0.3, with 40 steps) to 0.25 (2/255 of 8/255) as published.
    - `adversarial.clean_fraction` [0, 0.5]: 0 as published.

    A constraint asks that the steps reach the edge of the ball from its centre, steps times step of epsilon at least.

    >>> [law.text for law in pgd().constraints]
    ['adversarial.relative_step * adversarial.steps >= 1']
    """
    return _against(
        {
            "adversarial.attack": Fixed("pgd"),
            "adversarial.steps": Int(2, 40, log=True),
            "adversarial.relative_step": Float(0.03, 1.0, log=True),
            "adversarial.clean_fraction": Float(0.0, 0.5),
        },
        _REACHES,
    )


def trades() -> SearchSpace:
    """Return the parameters of TRADES (Zhang et al. 2019, arXiv 1901.08573).

    - `adversarial.epsilon`, 0 (off) or [0.01, 0.3]; `adversarial.norm`, Linf; `adversarial.attack`, trades.
    - `adversarial.trades_beta` [0.5, 12], 1 / lambda of their equation 3: 1 on MNIST and 6 on CIFAR-10 as published.
    - `adversarial.steps` [2, 40]: 10 on CIFAR-10 and 40 on MNIST.
    - `adversarial.relative_step` [0.03, 1]: 0.23 (0.007 of 0.031) and 0.033 as published.

    A constraint asks that the steps reach the edge of the ball from its centre.

    >>> trades().parameters["adversarial.trades_beta"].contains(6.0)
    True
    """
    return _against(
        {
            "adversarial.attack": Fixed("trades"),
            "adversarial.trades_beta": Float(0.5, 12.0, log=True),
            "adversarial.steps": Int(2, 40, log=True),
            "adversarial.relative_step": Float(0.03, 1.0, log=True),
        },
        _REACHES,
    )


# An attack that cannot come from the centre to the edge of its ball is a smaller epsilon under another name.
_REACHES = "adversarial.relative_step * adversarial.steps >= 1"


def _against(parameters: dict[str, Domain], *constraints: str) -> SearchSpace:
    """Return one kind of adversarial training, all of which exists where epsilon is not 0."""
    on = When("adversarial.epsilon", not_equal(0))
    ball = {"adversarial.epsilon": ZeroOr(Float(0.01, 0.3, log=True)), "adversarial.norm": Fixed("linf")}
    return SearchSpace({**ball, **parameters}, dict.fromkeys(["adversarial.norm", *parameters], on), constraints)
