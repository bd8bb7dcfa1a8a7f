"""MART (Wang et al., ICLR 2020): misclassification-aware adversarial training.

    loss = BCE(p(x'), y) + lambda KL(p(x) || p(x')) (1 - p_y(x))
    BCE(p, y) = -log p_y - log(1 - max_{k != y} p_k)

x' is the image after PGD up the cross-entropy. Both parts are means over the batch, and all of p carries gradient, the
weight 1 - p_y(x) too, as in the authors' code. Shapes: B images, K classes.
"""

import math

from torch import Tensor
from torch.nn import functional

__all__ = ["mart_terms"]


def mart_terms(clean_BK: Tensor, adversarial_BK: Tensor, y_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the boosted cross-entropy and the weighted divergence, from logits, at least in float32.

    They are exact where p_y rounds to 1, as sums over the other classes take the place of 1 - p.

    >>> import torch
    >>> even = torch.zeros(1, 2)
    >>> [f"{float(term):.4f}" for term in mart_terms(even, even, torch.tensor([0]))]  # 2 log 2, 0
    ['1.3863', '0.0000']
    >>> clean = torch.log(torch.tensor([[0.5, 0.5]]))
    >>> _, divergence = mart_terms(clean, torch.log(torch.tensor([[0.25, 0.75]])), torch.tensor([0]))
    >>> f"{float(divergence):.4f}"  # log(4 / 3) / 2 of TRADES, times 1/2
    '0.0719'
    """
    log_p_BK, log_q_BK = (_log_probabilities(logits_BK) for logits_BK in (clean_BK, adversarial_BK))
    rival_B1 = _without(log_q_BK, y_B[:, None]).argmax(1, keepdim=True)
    boosted_B = -log_q_BK.gather(1, y_B[:, None])[:, 0] - _without(log_q_BK, rival_B1).logsumexp(1)
    divergence_B = functional.kl_div(log_q_BK, log_p_BK, reduction="none", log_target=True).sum(1)
    wrong_B = _without(log_p_BK, y_B[:, None]).logsumexp(1).exp()
    return boosted_B.mean(), (divergence_B * wrong_B).mean()


def _log_probabilities(logits_BK: Tensor) -> Tensor:
    return functional.log_softmax(logits_BK if logits_BK.dtype.itemsize > 2 else logits_BK.float(), 1)


def _without(log_p_BK: Tensor, class_B1: Tensor) -> Tensor:
    return log_p_BK.scatter(1, class_B1, -math.inf)
