"""Published numbers of Verma et al., 2019, and what they are of."""

from collections.abc import Mapping, Sequence

from trainables.evaluation.deformations.families import PAPER

ERRORS: Mapping[str, Sequence[str]] = {
    "published, PreActResNet-18, 50,000 labels: none": ("0.9517", "0.190"),
    "published: input mixup, alpha 1": ("0.9618", "0.186"),
    "published: manifold mixup, alpha 2": ("0.9705", "0.137"),
}
"""Table 1 (a), test accuracy and NLL in nats: 1,200 epochs, the best of them on the test set, five seeds."""

DEFORMED: Mapping[str, Mapping[str, float]] = {
    f"published, CIFAR-100: {method}": {deformation: rates[method] for deformation, rates in PAPER.items()}
    for method in next(iter(PAPER.values()))
}
"""Tables 4 and 9: PreActResNet-34 on CIFAR-100."""

ATTACKED = (
    "Published (table 7, CIFAR-10, PreActResNet-18, no radius given): FGSM leaves 0.3632 without mixup, 0.7151 with "
    "input mixup, 0.7750 with manifold mixup, and 0.5610 after adversarial training. Under PGD in 200 steps of 0.01 "
    "without a bound (appendix D), 0.01 is left with mixup, and nothing with manifold mixup."
)
