"""Attacks on any `nn.Module` that maps images in [0, 1] to logits.

    gradient         fgsm, fgsm_rs, n_fgsm, pgd: one step, one from a random start, one from noise, many steps
    trades           the ascent and the loss of TRADES
    overfitting      detection of a model that overfitted its training attack
    auto_pgd         apgd: steps that halve themselves
    margins          dlr, dlr_targeted: losses of logit differences
    boundary         fab, fab_nearest: the nearest misclassified image, by linearised boundaries
    hyperplanes      step_onto_plane: the shortest step onto a hyperplane inside the box
    random_search    square: no gradient at all
    ensemble         autoattack: the standard ensemble; aa_lite: without FAB
    box_constrained  lbfgs, amplify: an upper bound of the smallest perturbation, by SciPy
    registry         ATTACKS: the attacks of a fixed radius, with one signature

Distances are in pixel units; a model must normalise inside.

Every attack runs the model in eval mode and restores the flag of each submodule, also when the model
raises. It computes the gradient of the input alone, so no parameter's `.grad` changes. It works in the
input's dtype, at least float32, outside autocast, and returns detached images inside the box and the
ball. Losses are summed over images, so an image's attack does not depend on its batch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainables.attacks.auto_pgd import apgd
from trainables.attacks.balls import Norm, random_start_noise, uniform_noise
from trainables.attacks.boundary import NearestAdversarial, fab, fab_nearest
from trainables.attacks.ensemble import EnsembleResult, aa_lite, autoattack
from trainables.attacks.gradient import fgsm, fgsm_rs, n_fgsm, pgd, projected_ascent
from trainables.attacks.margins import dlr, dlr_targeted
from trainables.attacks.modes import evaluating
from trainables.attacks.overfitting import overfitted, pgd_accuracy
from trainables.attacks.random_search import square
from trainables.attacks.registry import ATTACKS, Attack
from trainables.attacks.trades import kl_divergence, trades_ascent, trades_loss, trades_noise

if TYPE_CHECKING:
    from trainables.attacks.box_constrained import MinimumDistortion, amplify, lbfgs

__all__ = [
    "ATTACKS",
    "Attack",
    "EnsembleResult",
    "MinimumDistortion",
    "NearestAdversarial",
    "Norm",
    "aa_lite",
    "amplify",
    "apgd",
    "autoattack",
    "dlr",
    "dlr_targeted",
    "evaluating",
    "fab",
    "fab_nearest",
    "fgsm",
    "fgsm_rs",
    "kl_divergence",
    "lbfgs",
    "n_fgsm",
    "overfitted",
    "pgd",
    "pgd_accuracy",
    "projected_ascent",
    "random_start_noise",
    "square",
    "trades_ascent",
    "trades_loss",
    "trades_noise",
    "uniform_noise",
]

# SciPy takes a while to import, and nothing that trains needs it (PEP 562).
_BOX_CONSTRAINED = frozenset({"MinimumDistortion", "amplify", "lbfgs"})


def __getattr__(name: str) -> Any:
    if name not in _BOX_CONSTRAINED:
        raise AttributeError(f"module 'trainables.attacks' has no attribute {name!r}; it exports {', '.join(__all__)}")
    return getattr(import_module("trainables.attacks.box_constrained"), name)
