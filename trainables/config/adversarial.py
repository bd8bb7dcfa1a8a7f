"""The attack of a trial's training: its name, norm and radius, the steps that it takes, and what its loss weighs."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from trainables.config.values import Arguments, Frozen, Real, of_own_code
from trainables.errors import short_repr
from trainables.import_paths import name_in

__all__ = ["ATTACK_GROUP", "ATTACK_NAMES", "PAIRED_ATTACKS", "AdversarialConfig", "Epsilon", "Norm", "pgd_step_size"]

ATTACK_NAMES = ("fgsm", "fgsm_rs", "n_fgsm", "pgd", "trades", "mart")
ATTACK_GROUP = "ravel.attacks"
_RELATIVE_TRAVEL = 2.5
# FGSM has no random start, so its one step reaches the edge of the ball. From a random start,
# Wong et al. (2020) train with 1.25. N-FGSM does not project, and trains with 1.
RELATIVE_STEPS = {"fgsm": 1.0, "fgsm_rs": 1.25, "n_fgsm": 1.0}
# Attacks whose loss compares the prediction of the attacked image with that of the image itself.
PAIRED_ATTACKS = frozenset({"trades", "mart"})


def pgd_step_size(epsilon: float, *, steps: int) -> float:
    """Return the step size of PGD: its steps together are 2.5 radii long (Madry et al., 2018).

    >>> pgd_step_size(0.2, steps=5)
    0.1
    """
    return _RELATIVE_TRAVEL * epsilon / steps


def _within_the_box(epsilon: float, info: ValidationInfo) -> float:
    if epsilon > 1 and info.data.get("norm", info.data.get("robust_norm")) == "linf":
        raise ValueError(f"must be <= 1 under linf, as pixels are in [0, 1], got {short_repr(epsilon)}")
    return epsilon


Norm = Literal["linf", "l2"]
# Declare after the norm, which its check reads.
Epsilon = Annotated[Real, Field(ge=0), AfterValidator(_within_the_box)]


class AdversarialConfig(Frozen):
    """Adversarial training: off at epsilon 0 (pixels in [0, 1]; for l2 the norm of the whole image).

    `attack`: 'fgsm' is one step from the image, 'fgsm_rs' one from a random start (Wong et al., 2020), 'n_fgsm' one
    from noise of `noise_k` epsilon, 2 where absent, without a projection to the ball (de Jorge et al., 2022),
    'pgd' several, 'trades' several up the divergence from the clean prediction (Zhang et al., 2019), 'mart' those of
    'pgd' with a loss that weighs misclassified images more (Wang et al., 2020). It may be the import path of a
    function of `steps` passes, whose own arguments are `args` (see `regularizers.training_attacks`).
    `relative_step` is the step in units of epsilon; None means 1, 1.25, 1 and, for several, 2.5 / steps.
    `clean_fraction` is the weight of the clean cross-entropy; trades weighs its divergence by `trades_beta` instead,
    mart by `mart_lambda`, 5 where absent. With `awp_gamma` above 0, the gradient is that at weights perturbed against
    it, layer by layer by this share of their length (Wu et al., 2020). A trial whose PGD accuracy on training images
    (one batch of them, 256 at most) falls by more than `max_robust_drop` from one epoch to the next has overfitted to
    its attack, and fails. With None it continues.
    """

    norm: Norm = "linf"
    """Norm of the ball."""
    epsilon: Epsilon = 0.0
    """Strength: the radius of the ball, of pixels in [0, 1]; for l2 of the whole image; 0 is off."""
    attack: Annotated[str, name_in(ATTACK_NAMES, group=ATTACK_GROUP)] = "fgsm_rs"
    """'fgsm', 'fgsm_rs', 'pgd', 'trades', or the import path of a user's own."""
    args: Arguments = Arguments()
    """Arguments of a user's own attack, by name."""
    steps: Annotated[int, Field(ge=1)] = 7
    """Steps of 'pgd', 'trades' and a user's own attack."""
    relative_step: Annotated[Real, Field(gt=0)] | None = None
    """Step in units of epsilon; None: 1 for fgsm, 1.25 for fgsm_rs, 2.5 / steps for others."""
    clean_fraction: Annotated[Real, Field(ge=0, le=1)] = 0.5
    """Weight of the cross-entropy of clean images; the rest is that of attacked ones."""
    trades_beta: Annotated[Real, Field(gt=0)] = 6.0
    """Weight of the divergence of 'trades'."""
    max_robust_drop: Annotated[Real, Field(gt=0, le=1)] | None = None
    """Fall of PGD accuracy in an epoch that ends a trial as overfitted to its attack; None: none does."""
    # Absent where they are not set, so that configurations are what they were before them.
    noise_k: Annotated[Real | None, Field(ge=0, exclude_if=lambda value: value is None)] = None
    """Radius of the noise of n_fgsm, in epsilons (its k); None: 2."""
    mart_lambda: Annotated[Real | None, Field(gt=0, exclude_if=lambda value: value is None)] = None
    """Weight of the term of mart that compares clean with attacked predictions (its lambda); None: 5."""
    awp_gamma: Annotated[Real | None, Field(ge=0, lt=1, exclude_if=lambda value: value is None)] = None
    """Size of the adversarial perturbation of the weights, relative to each layer's (AWP's gamma); 0 and None: none."""

    @field_validator("args")
    @classmethod
    def _takes_arguments(cls, args: Arguments, info: ValidationInfo) -> Arguments:
        return of_own_code(args, info.data.get("attack"), ATTACK_NAMES)

    @property
    def num_steps(self) -> int:
        """Number of gradient steps of one attack: always 1 for fgsm, fgsm_rs and n_fgsm."""
        return 1 if self.attack in RELATIVE_STEPS else self.steps

    @property
    def step_size(self) -> float:
        """Size of one step, in pixel units.

        >>> AdversarialConfig(epsilon=0.2, attack="pgd", steps=5).step_size
        0.1
        """
        if self.relative_step is not None:
            return self.epsilon * self.relative_step
        if self.attack in RELATIVE_STEPS:
            return self.epsilon * RELATIVE_STEPS[self.attack]
        return pgd_step_size(self.epsilon, steps=self.steps)

    @property
    def noise_radius(self) -> float:
        """Radius of the uniform noise of n_fgsm, in pixel units: k epsilon, with the published k = 2 by default."""
        return self.epsilon * (2.0 if self.noise_k is None else self.noise_k)

    @property
    def divergence_weight(self) -> float:
        """Weight of the divergence in a loss of pairs: beta of trades, lambda of mart (5 as published)."""
        if self.attack == "trades":
            return self.trades_beta
        return 5.0 if self.mart_lambda is None else self.mart_lambda

    @property
    def perturbs_weights(self) -> bool:
        """True if adversarial weight perturbation is on; like all of this group, only where epsilon is not 0."""
        return self.epsilon > 0 and bool(self.awp_gamma)
