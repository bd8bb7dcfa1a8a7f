"""Published numbers of the papers, for comparison with ours.

Few of them are of this network, or of MNIST at all; each row names its network and data. Read them for their order of
magnitude and for the comparison of methods, not for a match. Accuracies of the SNNL paper and the tables of the DkNN
paper are missing: no copy of either was available. Those of Szegedy et al. are quoted at second hand.
"""

from collections.abc import Mapping

from trainables.evaluation.deformations.families import PAPER

Row = Mapping[str, float]

ACCURACY: Mapping[str, Row] = {
    "published: Szegedy et al. 2014, FC100-100-10": {"test/accuracy": 0.9836},
    "published: Madry et al. 2018, PGD at 0.3": {"test/accuracy": 0.9853},
    "published: Wong et al. 2020, FGSM at 0.3": {"test/accuracy": 0.9850},
    "published: Zhang et al. 2019, TRADES at 0.3": {"test/accuracy": 0.9948},
}
"""The last three as AutoAttack's table quotes them; all 60,000 images, and networks of several times the size."""

UNDER_AUTOATTACK: Mapping[str, Row] = {
    "published, under AutoAttack: Madry et al. 2018": {"pgd-40@0.3": 0.8850},
    "published, under AutoAttack: Wong et al. 2020": {"pgd-40@0.3": 0.8293},
    "published, under AutoAttack: Zhang et al. 2019": {"pgd-40@0.3": 0.9281},
}
"""AutoAttack is a stronger attack than PGD-40 from one start."""

DEFORMED: Mapping[str, Row] = {
    f"published, CIFAR-100, PreActResNet-34: {method}": {
        f"deformation/{deformation}": rates[method] / 100 for deformation, rates in PAPER.items()
    }
    for method in ("none", "input mixup, alpha 2", "manifold mixup, alpha 2")
}
"""Verma et al. 2019, tables 4 and 9, after 1,200 epochs."""

RELEASED: Row = {
    "released/accuracy": 0.98724,
    "released/credibility": 0.763,
    "released/highest_bin": 5803 / 9250,
    "released/fgsm_accuracy": 0.32076,
    "released/fgsm_credibility": 0.143,
    "released/fgsm_lowest_bin": 6262 / 9250,
}
"""cleverhans, pull request 1073; means over credibility are those of the histograms."""

TRANSFERRED = """\
| made for | softmax, decay 1e-4 | FC100-100-10 | AE400-10 |
|---|---|---|---|
| softmax, decay 1e-4 | 100 | 2 | 2.7 |
| softmax, decay 1e-2 | 87.1 | 35.9 | 9.8 |
| softmax, decay 1 | 71.9 | 48.1 | 34.4 |
| FC100-100-10 | 28.9 | 100 | 2 |
| FC200-200-10 | 38.2 | 20.3 | 2.7 |
| Gaussian noise, standard deviation 0.1 | 5.0 | 0 | 0.8 |
| Gaussian noise, standard deviation 0.3 | 15.6 | 5 | 3.1 |"""
"""Szegedy et al. 2014, table 2, three of its columns and the rows that our source quotes: L-BFGS, each image fools the
network it was made for."""
