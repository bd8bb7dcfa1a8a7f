"""Expected cost of decisions (Elkan, IJCAI 2001), as a metric of a user's own.

    decide j* = argmin_j sum_i p(i | x) c(i, j)        equation 1: the least expected cost, not the likeliest class
    report     mean over images of c(y, j*)

c(i, j) is the cost of deciding j where the class is i: 0 if they are equal, `missed` if i is the class not to be
missed and 1 otherwise. A network that is uncertain decides for that class, so what counts is its calibration too.

    trial:
      metrics.cost.use: "expected_cost:expected_cost"
      metrics.cost.args.missed: 20.0
    objective: {metric: val/cost, mode: min}

Shapes: N images, K classes.
"""

import torch
from torch import Tensor


def expected_cost(logits: Tensor, labels: Tensor, missed: float = 10.0, critical: int = 0) -> float:
    """Return the mean cost of the decisions of least expected cost.

    >>> logits = torch.log(torch.tensor([[0.2, 0.8], [0.05, 0.95]]))
    >>> expected_cost(logits, torch.tensor([1, 1])), expected_cost(logits, torch.tensor([0, 0]))
    (0.5, 5.0)
    """
    cost_KK = 1 - torch.eye(logits.shape[1], dtype=torch.float64)
    cost_KK[critical] *= missed
    decided_N = (logits.double().softmax(1) @ cost_KK).argmin(1)
    return float(cost_KK[labels, decided_N].mean())


expected_cost.unit, expected_cost.direction = "errors", "min"
