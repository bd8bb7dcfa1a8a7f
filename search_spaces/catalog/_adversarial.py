"""Adversarial training: FGSM with a random start (Wong et al. 2020) and PGD (Madry et al. 2018)."""

from __future__ import annotations

from search_spaces.conditions import When, not_equal
from search_spaces.domains import Choice, Fixed, Float, Int, ZeroOr
from search_spaces.space import SearchSpace


def adversarial() -> SearchSpace:
    """Return the parameters of the attack inside the training step; images are in [0, 1].

    - `adversarial.epsilon`, 0 (off) or [0.01, 0.3] in pixel units: spans the 8/255 = 0.031 usual on CIFAR-10
      and the 0.3 of MNIST (Madry et al., arXiv 1706.06083).
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
