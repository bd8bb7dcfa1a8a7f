"""Adversarial training by several attacks and losses, and perturbed weights."""

from __future__ import annotations

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
    return SearchSpace.from_dict({"use": ["adversarial"]})


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
    return SearchSpace.from_dict({"use": ["fgsm_rs"]})


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
    return SearchSpace.from_dict({"use": ["pgd"]})


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
    return SearchSpace.from_dict({"use": ["trades"]})


def n_fgsm() -> SearchSpace:
    """Return the parameters of training against one step from noise, unprojected (de Jorge et al., arXiv 2202.01181).

    - `adversarial.epsilon`, 0 (off) or [0.01, 0.3]; `adversarial.norm`, Linf; `adversarial.attack`, n_fgsm.
    - `adversarial.noise_k` [0.5, 4]: the noise in units of epsilon; 2 as published, and a larger one keeps larger
      epsilons from overfitting to the attack.
    - `adversarial.relative_step` [0.5, 1.5]: 1 as published.
    - `adversarial.clean_fraction` [0, 0.5]: 0 as published. `adversarial.max_robust_drop`: 0.2, as in `fgsm_rs`.

    >>> n_fgsm().parameters["adversarial.noise_k"].contains(2.0)
    True
    """
    return SearchSpace.from_dict({"use": ["n_fgsm"]})


def mart() -> SearchSpace:
    """Return the parameters of MART (Wang et al. 2020, ICLR).

    - `adversarial.epsilon`, 0 (off) or [0.01, 0.3]; `adversarial.norm`, Linf; `adversarial.attack`, mart.
    - `adversarial.mart_lambda` [0.5, 12], lambda of their equation 11: 5 and 6 in the authors' code.
    - `adversarial.steps` [2, 40]: 10 as published.
    - `adversarial.relative_step` [0.03, 1]: 0.25 as published.

    Its loss takes hard labels, so it is for spaces without mixup and label smoothing. A constraint asks that the steps
    reach the edge of the ball from its centre.

    >>> mart().parameters["adversarial.mart_lambda"].contains(5.0)
    True
    """
    return SearchSpace.from_dict({"use": ["mart"]})


def awp() -> SearchSpace:
    """Return the strength of adversarial weight perturbation (Wu et al., arXiv 2004.05884); merge it with an attack.

    - `adversarial.awp_gamma`, 0 (off) or [0.001, 0.03]: 0.01 with PGD and 0.005 with TRADES as published. It has no
      effect where `adversarial.epsilon` is 0.

    >>> sorted((trades() | awp()).names)[:2]
    ['adversarial.attack', 'adversarial.awp_gamma']
    """
    return SearchSpace.from_dict({"use": ["awp"]})
